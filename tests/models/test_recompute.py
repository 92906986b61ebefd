"""Gradient checkpointing: BatchNorms count a batch once, whatever runs beside."""

import threading

import pytest
import torch
from models.grid_pyramid import GridPyramid, GridPyramidConfig
from torch import Tensor, nn

import mlpzoo
from mlpzoo.models._recompute import recomputed

CONVMIXER = {"embed_dim": 12, "depth": 3, "kernel_size": 5, "num_classes": 5}


class NormPyramid(GridPyramid):
    """A pyramid of convolutions and BatchNorms, its maps NCHW inside and its weights bound to no grid."""

    map_layout = "NCHW"

    def build_stem(self, **dd):
        return strided(self.config.in_chans, self.config.embed_dims[0], 4)

    def build_downsample(self, stage, **dd):
        return strided(*self.config.embed_dims[stage - 1 : stage + 1], 2)

    def build_block(self, stage, number, *, drop_path, **dd):
        dim = self.config.embed_dims[stage]
        return nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.GELU())

    def build_norm(self, dim, **dd):
        return nn.BatchNorm2d(dim)


def strided(dim, out_dim, stride):
    conv = nn.Conv2d(dim, out_dim, stride, stride)
    module = nn.Sequential(conv, nn.BatchNorm2d(out_dim))
    module.stride = stride
    return module


def convmixer():
    return mlpzoo.create_model("convmixer_d768_32", **CONVMIXER)


def pyramid():
    return NormPyramid(GridPyramidConfig(img_size=(32, 48)))


@pytest.fixture(params=[convmixer, pyramid])
def pair(request):
    torch.manual_seed(0)
    plain, checkpointed = request.param().train(), request.param().train()
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.set_grad_checkpointing()
    return plain, checkpointed


def image(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


def assert_equal_models(found, expected):
    for (name, value), wanted in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(value, wanted, msg=name)
    for value, wanted in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(value.grad, wanted.grad)


def test_two_forwards_before_the_first_backward(pair):
    for model in pair:
        losses = [model(image(seed)).square().mean() for seed in (0, 1)]
        losses[1].backward()
        losses[0].backward()
    assert_equal_models(pair[1], pair[0])


def test_a_backward_twice(pair):
    for model in pair:
        loss = model(image()).square().mean()
        loss.backward(retain_graph=True)
        loss.backward()
    assert_equal_models(pair[1], pair[0])


def test_a_backward_that_never_comes_or_fails(pair):
    for model in pair:
        model(image())
        handle = model.parts[1].register_full_backward_pre_hook(fail)
        loss = model(image()).square().mean()
        with pytest.raises(RuntimeError, match="on purpose"):
            loss.backward()
        handle.remove()
        model.zero_grad()
        model(image(1)).square().mean().backward()
    assert_equal_models(pair[1], pair[0])


def fail(*_):
    raise RuntimeError("on purpose")


class Paused(nn.Module):
    """A BatchNorm that, when it runs the second time, waits until the test has run it from elsewhere."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=0.5)
        self.entered, self.leave = threading.Event(), threading.Event()
        self.calls = 0

    def forward(self, x):
        y = self.norm(x)
        self.calls += 1
        if self.calls == 2:
            self.entered.set()
            assert self.leave.wait(30)
        return y.square()


def test_a_forward_while_another_thread_recomputes():
    part = Paused().train()
    loss = recomputed(part, image().requires_grad_()).mean()
    backward = threading.Thread(target=loss.backward)
    backward.start()
    assert part.entered.wait(30)
    assert int(part.norm.num_batches_tracked) == 1
    before = part.norm.running_mean.clone()
    part.norm(image(1) + 1)
    assert int(part.norm.num_batches_tracked) == 2
    assert not torch.equal(part.norm.running_mean, before)
    part.leave.set()
    backward.join()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.SyncBatchNorm, nn.BatchNorm2d])
def test_every_kind_of_batch_norm(kind, momentum):
    """A cumulative average, of momentum None, counts batches too."""
    x = torch.randn(6, 3, 4) if kind is not nn.BatchNorm2d else torch.randn(6, 3, 4, 2)
    norms = [kind(3, momentum=momentum).train() for _ in range(2)]
    norms[0](x.clone().requires_grad_()).square().sum().backward()
    recomputed(norms[1], x.clone().requires_grad_()).square().sum().backward()
    assert_equal_models(norms[1], norms[0])


def test_norms_in_evaluation_use_what_they_learned(pair):
    for model in pair:
        model(image())
        model.eval()
        model(image(1)).square().mean().backward()
    assert_equal_models(pair[1], pair[0])
