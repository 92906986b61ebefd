import pytest
import torch
from error_budget import assert_within_budget
from torch import nn

from mlpzoo.layers import Attention, EncoderBlock
from mlpzoo.ops import attention
from mlpzoo.ops.attention import attention_reference

SHAPES = [
    pytest.param(b, a, t, d, id=f"B{b}-A{a}-T{t}-D{d}")
    for b, a, t, d in [(2, 3, 197, 64), (1, 1, 221, 63), (3, 5, 1, 7), (2, 2, 50, 33)]
]


def inputs(b, a, t, d):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(b, a, t, d, dtype=torch.float64, generator=generator) for _ in range(3)]


@pytest.mark.parametrize(("b", "a", "t", "d"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(b, a, t, d, dtype, poisoned_empty):
    q, k, v = inputs(b, a, t, d)
    if t == 1:
        # One token attends to itself whatever it asks: no gradient reaches its query and key.
        assert_within_budget(lambda v: attention(q.to(v), k.to(v), v), lambda v: v.clone(), [v], dtype)
        return
    assert_within_budget(attention, attention_reference, [q, k, v], dtype)


def test_inputs_that_are_not_contiguous():
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(2, 3, 5, 8))
    assert not q.is_contiguous()
    torch.testing.assert_close(attention(q, k, v), attention_reference(q, k, v))


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'flash'.*'auto'"):
        attention(*inputs(1, 1, 2, 2), impl="flash")


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_layer_is_pytorchs_multihead_attention(impl):
    layer = Attention(24, 3, impl=impl, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    peer = nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    theirs = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    ours = ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")
    peer.load_state_dict({a: layer.state_dict()[b] for a, b in zip(theirs, ours, strict=True)})
    x = torch.randn(2, 11, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(x), peer(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_dropout_only_in_training(impl):
    layer = Attention(24, 3, impl=impl, attn_drop=0.5)
    x = torch.randn(2, 11, 24)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_queries_keys_and_values_are_drawn_apart():
    layer = Attention(96, 3)
    for weight in (*layer.qkv.weight.chunk(3), layer.proj.weight):
        assert float(weight.detach().abs().max()) == pytest.approx((6 / (96 + 96)) ** 0.5, rel=0.01)
    assert torch.all(layer.qkv.bias == 0)
    assert Attention(8, 2, qkv_bias=False).qkv.bias is None


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_must_divide_the_channels(heads):
    with pytest.raises(ValueError, match=f"24 channels do not divide into {heads} heads"):
        Attention(24, heads)


def test_block_is_the_papers_two_equations():
    block = EncoderBlock(24, 3, 40, dtype=torch.float64)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 11, 24, dtype=torch.float64)

    def norm(x, layer):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias

    x1 = x + block.attn(norm(x, block.norm1))
    h = norm(x1, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    h = 0.5 * h * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
    torch.testing.assert_close(block(x), x1 + h @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
