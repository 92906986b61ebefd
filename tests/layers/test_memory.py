"""What blocks keep for the backward pass, in maps as large as their input."""

import pytest
import torch
from torch import nn

from mlpzoo.layers import CycleMLP, MixerBlock, MlpBlock, ResidualBlock, WeightedPermuteMLP

BATCH, SIDE, DIM = 2, 8, 16


def kept(module, x):
    """How many maps of the input's size, parameters and the input apart."""
    storages = {}

    def remember(value):
        storages[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda value: value):
        module(x)
    own = {value.untyped_storage().data_ptr() for value in (x, *module.parameters())}
    sizes = [value.untyped_storage().nbytes() / x.nbytes for address, value in storages.items() if address not in own]
    return sum(int(size + 0.5) for size in sizes)


def map_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_cycle_mlp_block():
    def block(**options):
        return ResidualBlock(DIM, CycleMLP(DIM, **options), 4 * DIM, recompute=True, **options)

    x = map_of(BATCH, SIDE, SIDE, DIM)
    # The output of either norm, three branches, and what the second norm is given.
    assert kept(block(), x) == 6
    assert kept(block(impl="reference"), x) >= 6 + 8 + 1, "both hidden maps, and the sum of the branches"


def test_permute_mlp_block():
    x = map_of(BATCH, SIDE, SIDE, DIM)
    # The same, and the hidden map before the activation.
    assert kept(ResidualBlock(DIM, WeightedPermuteMLP(DIM, SIDE), 3 * DIM), x) == 6 + 3


def test_mixer_block():
    x = map_of(BATCH, SIDE**2, DIM)
    block = MixerBlock(DIM, SIDE**2, 2 * SIDE**2, 4 * DIM)
    # Two norms, what the second is given, both hidden maps of the token mixing, one of the channel mixing.
    assert kept(block, x) == 2 + 1 + 2 * 2 + 4


@pytest.mark.parametrize(("recompute", "maps"), [(True, 0), (False, 4)])
def test_mlp_block(recompute, maps):
    x = map_of(BATCH, SIDE, SIDE, DIM)
    assert kept(MlpBlock(DIM, recompute=recompute), x) == maps
    assert kept(MlpBlock(DIM, act_layer="silu", recompute=recompute), x) == 8
    dropping = MlpBlock(DIM, drop=0.5, recompute=recompute)
    assert kept(dropping, x) > 8
    assert kept(dropping.eval(), x) == maps


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("act_layer", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("out_dim", [None, 3])
def test_the_same_by_steps(recompute, act_layer, out_dim):
    block = MlpBlock(DIM, 3 * DIM, out_dim, act_layer=act_layer, recompute=recompute)
    x = map_of(BATCH, SIDE, SIDE, DIM)
    stepwise = nn.Sequential(*block.children())
    found, expected = (
        [y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])] for y in (block(x), stepwise(x))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("name", ["fc1", "act", "drop1", "fc2"])
def test_a_layer_somebody_waits_for_is_called(recompute, name):
    x = map_of(1, 4, DIM)

    def expects(watch):
        block = MlpBlock(DIM, recompute=recompute)
        seen = []
        watch(block.get_submodule(name), seen)
        block(x).sum().backward()
        assert len(seen) == 1

    expects(lambda layer, seen: layer.register_forward_hook(lambda *_: seen.append(1)))
    expects(lambda layer, seen: layer.register_forward_pre_hook(lambda *_: seen.append(1)))
    expects(lambda layer, seen: layer.register_full_backward_hook(lambda *_: seen.append(1)))
    expects(lambda layer, seen: layer.register_full_backward_pre_hook(lambda *_: seen.append(1)))

    def replace_forward(layer, seen):
        own = layer.forward
        layer.forward = lambda *given: seen.append(1) or own(*given)

    expects(replace_forward)


@pytest.mark.parametrize("mixing", [CycleMLP(DIM), WeightedPermuteMLP(DIM, SIDE)], ids=lambda m: type(m).__name__)
def test_a_gate_somebody_waits_for_is_called(mixing):
    seen = []
    x = map_of(BATCH, SIDE, SIDE, DIM)
    expected = mixing(x)
    handles = [layer.register_forward_hook(lambda *_: seen.append(1)) for layer in (mixing.reweight, mixing.proj)]
    torch.testing.assert_close(mixing(x), expected)
    assert len(seen) == 2
    for handle in handles:
        handle.remove()
