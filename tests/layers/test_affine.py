import pytest
import torch
from torch import nn

from mlpzoo.layers import Affine, ResMLPBlock


def drawn(module: nn.Module) -> nn.Module:
    """Random parameters: the ones modules start with hide mistakes."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_affine_starts_as_the_identity():
    x = torch.randn(3, 5, 7)
    assert torch.equal(Affine(7)(x), x)
    assert {name: tuple(p.shape) for name, p in Affine(7).named_parameters()} == {"alpha": (7,), "beta": (7,)}


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 13, 7), (1, 3, 4, 7)], ids=str)
def test_affine_is_scale_and_shift(shape):
    affine = drawn(Affine(7, dtype=torch.float64))
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(affine(x), affine.alpha * x + affine.beta)


def test_affine_gradients():
    affine = drawn(Affine(5, dtype=torch.float64))
    leaves = [torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True), affine.alpha, affine.beta]
    assert torch.autograd.gradcheck(lambda x, alpha, beta: affine(x), leaves)


def test_affine_takes_strided_input():
    affine = drawn(Affine(5))
    x = torch.randn(2, 5, 3).transpose(1, 2)
    assert not x.is_contiguous()
    torch.testing.assert_close(affine(x), affine(x.contiguous()))


def test_block_is_the_papers_two_equations():
    block = drawn(ResMLPBlock(6, 10, mlp_ratio=2.5, dtype=torch.float64))
    x = torch.randn(3, 10, 6, dtype=torch.float64)
    z = block.norm1.alpha * x + block.norm1.beta
    mixed = torch.einsum("st,btc->bsc", block.linear_tokens.weight, z) + block.linear_tokens.bias[:, None]
    x1 = x + block.ls1 * mixed
    z = block.norm2.alpha * x1 + block.norm2.beta
    mlp = block.mlp_channels
    hidden = z @ mlp.fc1.weight.T + mlp.fc1.bias
    assert hidden.shape[-1] == 15
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(block(x), x1 + block.ls2 * (hidden @ mlp.fc2.weight.T + mlp.fc2.bias))


def test_block_starts_as_the_authors_do():
    block = ResMLPBlock(64, 100, layer_scale_init=0.3)
    assert torch.all(block.ls1 == 0.3)
    assert torch.all(block.ls2 == 0.3)
    for linear in (block.linear_tokens, block.mlp_channels.fc1, block.mlp_channels.fc2):
        assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert torch.all(linear.bias == 0)


def test_block_drops_whole_samples():
    block = drawn(ResMLPBlock(6, 10, drop_path=0.5)).train()
    x = torch.randn(64, 10, 6)
    untouched = (block(x) == x).flatten(1).all(1)
    assert 0 < int(untouched.sum()) < 64


def test_block_on_another_grid_keeps_its_answer_to_a_constant_image():
    block = ResMLPBlock(6, (3, 4), layer_scale_init=1.0).double()
    nn.init.normal_(block.linear_tokens.weight)
    with torch.no_grad():
        # Every token reads alike, so every token of a constant image is answered alike on any grid.
        block.linear_tokens.weight.copy_(block.linear_tokens.weight[:1].expand(12, -1))
    x = torch.randn(1, 1, 6, dtype=torch.float64)
    expected = block(x.expand(1, 12, 6))[:, 0]
    block.resize_grid((5, 7))
    assert block.linear_tokens.weight.shape == (35, 35)
    assert block.linear_tokens.bias.shape == (35,)
    torch.testing.assert_close(block(x.expand(1, 35, 6)), expected[:, None].expand(1, 35, 6))
