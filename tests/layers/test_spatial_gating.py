import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlpzoo.layers import GMLPBlock, SpatialGatingMlp, SpatialGatingUnit, TinyAttention

GRIDS = st.tuples(st.integers(2, 7), st.integers(2, 7))


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def drawn(layer):
    """A layer as if trained: a fresh gate hardly mixes tokens."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.eval()


def gated(gate, x, shift=0):
    u, v = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    v = nn.functional.layer_norm(v, v.shape[-1:], gate.norm.weight, gate.norm.bias, 1e-5)
    return u * (torch.einsum("st,btg->bsg", gate.proj.weight, v) + gate.proj.bias[:, None] + shift)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_gate_is_the_papers_equation(impl):
    gate = drawn(SpatialGatingUnit(14, 5, impl=impl))
    x = tokens(2, 5, 14)
    torch.testing.assert_close(gate(x), gated(gate, x))
    assert gate(x).is_contiguous()


def test_gate_starts_as_the_first_half():
    gate, x = SpatialGatingUnit(64, 49), tokens(2, 49, 64)
    torch.testing.assert_close(gate(x), x[..., :32], rtol=1e-4, atol=1e-4)
    assert not torch.equal(gate(x), x[..., :32])
    assert float(gate.proj.weight.detach().std()) == pytest.approx(1e-6, rel=0.1)
    assert torch.all(gate.proj.bias == 1)


def test_gate_halves_an_even_number():
    with pytest.raises(ValueError, match="7 is odd, choose an even number"):
        SpatialGatingUnit(7, 4)


@settings(max_examples=25, deadline=None)
@given(old=GRIDS, new=GRIDS)
def test_an_image_of_equal_patches_is_gated_alike_on_every_grid(old, new):
    gate = drawn(SpatialGatingUnit(6, old))
    with torch.no_grad():
        # Every output token reads the same weights: then the grid alone can tell them apart.
        gate.proj.weight.copy_(gate.proj.weight[:1].expand_as(gate.proj.weight).clone())
        gate.proj.bias.fill_(0.7)
    x = tokens(1, 1, 6)
    expected = gate(x.expand(-1, old[0] * old[1], -1))[:, :1]
    gate.resize_grid(new)
    found = gate(x.expand(-1, new[0] * new[1], -1))
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-4, atol=1e-4)


def test_gate_that_never_saw_training_stays_open_on_another_grid():
    gate = SpatialGatingUnit(6, (3, 4))
    gate.resize_grid((5, 2))
    assert gate.proj.weight.shape == (10, 10)
    torch.testing.assert_close(gate.proj.bias, torch.ones(10))


@pytest.mark.parametrize("act_layer", ["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("attn_dim", [0, 3])
def test_halves_of_the_gate_are_computed_apart_where_nobody_watches(act_layer, attn_dim):
    mlp, x = drawn(SpatialGatingMlp(6, 20, 5, act_layer=act_layer, attn_dim=attn_dim)), tokens(2, 5, 6)
    expected = mlp(x)
    watched = []
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected)
        torch.testing.assert_close(mlp.train()(x), expected)
        for layer in (mlp.fc1, mlp.act, mlp.drop1, mlp.gate):
            handle = layer.register_forward_hook(lambda *_: watched.append(1))
            torch.testing.assert_close(mlp(x), expected)
            handle.remove()
        assert len(watched) == 4
        traced = torch.fx.symbolic_trace(mlp)
        torch.testing.assert_close(traced(x), expected)
        mlp.fc1.weight.mul_(2)
        torch.testing.assert_close(traced(x), mlp(x))


def attended(attn, x):
    q, k, v = (x @ attn.qkv.weight.T + attn.qkv.bias).split(attn.proj.in_features, dim=-1)
    weight = torch.softmax(torch.einsum("bna,bma->bnm", q, k) / attn.proj.in_features**0.5, dim=-1)
    return torch.einsum("bnm,bma->bna", weight, v) @ attn.proj.weight.T + attn.proj.bias


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_tiny_attention_is_one_scaled_head(impl):
    attn, x = drawn(TinyAttention(6, 10, 3, impl=impl)), tokens(2, 7, 6)
    assert attn(x).shape == (2, 7, 10)
    torch.testing.assert_close(attn(x), attended(attn, x))


def test_tiny_attention_of_the_paper_has_64_channels():
    assert TinyAttention(6, 10).qkv.out_features == 3 * 64


def test_attention_is_added_to_the_gate_before_it_multiplies():
    mlp, x = drawn(SpatialGatingMlp(6, 8, 5, attn_dim=3)), tokens(2, 5, 6)
    hidden = nn.functional.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    expected = gated(mlp.gate, hidden, attended(mlp.attn, x)) @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(mlp(x), expected)


def test_no_attention_by_default():
    mlp, x = drawn(SpatialGatingMlp(6, 8, 5)), tokens(2, 5, 6)
    assert mlp.attn is None
    hidden = nn.functional.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    torch.testing.assert_close(mlp(x), gated(mlp.gate, hidden) @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_block_is_the_papers_figure():
    block, x = drawn(GMLPBlock(6, 8, 5, attn_dim=2)), tokens(2, 5, 6)
    normed = nn.functional.layer_norm(x, (6,), block.norm.weight, block.norm.bias, 1e-6)
    torch.testing.assert_close(block(x), x + block.mlp_channels(normed))


def test_fresh_block_draws_every_linear_anew():
    block = drawn(GMLPBlock(40, 80, 9, attn_dim=8))
    block.reset_parameters()
    for linear in (module for module in block.modules() if isinstance(module, nn.Linear)):
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert 0.9 * bound < float(linear.weight.detach().abs().max()) <= bound
        assert 0 < float(linear.bias.detach().abs().max()) < 1e-5
    assert torch.all(block.mlp_channels.gate.proj.bias == 1)
    assert torch.all(block.norm.weight == 1)
    assert torch.all(block.mlp_channels.gate.norm.bias == 0)


def test_device_and_dtype_reach_every_parameter():
    block = GMLPBlock(4, 8, 4, attn_dim=2, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in block.parameters()} == {("meta", torch.bfloat16)}
