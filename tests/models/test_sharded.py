"""`dynamic_img_size` of networks whose parameters FSDP2 keeps in shards, whole while a layer runs alone."""

import socket

import pytest
import torch
import torch.distributed as dist
from models import grid_pyramid, tiny

fsdp = pytest.importorskip("torch.distributed.fsdp", reason="needs a PyTorch built with distributed")


@pytest.fixture(scope="module")
def mesh():
    """One process: shards are wrapped and gathered as with many."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"tcp://localhost:{free.getsockname()[1]}"
    dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["mixer", "vit", "grid_pyramid"])
def test_views_take_sharded_weights_when_they_are_whole(mesh, family, checkpointing):
    create = grid_pyramid.create if family == "grid_pyramid" else lambda **options: tiny.create(family, **options)
    plain, sharded = create(dynamic_img_size=True), create(dynamic_img_size=True)
    for i, parameter in enumerate(plain.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(i))
    sharded.load_state_dict(plain.state_dict())
    for part in sharded.parts:
        fsdp.fully_shard(part, mesh=mesh)
    fsdp.fully_shard(sharded, mesh=mesh)
    for model in (plain, sharded):
        model.set_grad_checkpointing(checkpointing)
    for size in ((64, 80), (48, 64)):
        x = grid_pyramid.image(*size)
        expected, found = plain(x), sharded(x)
        torch.testing.assert_close(found, expected)
        for y in (expected, found):
            y.square().mean().backward()
        for (name, wanted), parameter in zip(plain.named_parameters(), sharded.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad.full_tensor(), wanted.grad, msg=name)
            wanted.grad = parameter.grad = None
