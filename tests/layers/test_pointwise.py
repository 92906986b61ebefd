"""Layers that take the place of the authors' 1×1 convolutions."""

import pytest
import torch
from torch import nn

from mlpzoo.layers import ConvEmbed, GroupNorm1, MlpBlock, PointwiseConv, ResidualBlock, pointwise


def drawn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_or_the_authors_convolution(bias):
    layer = pointwise("auto")(6, 4, bias, dtype=torch.float64)
    reference = pointwise("reference")(6, 4, bias, dtype=torch.float64)
    assert isinstance(reference, PointwiseConv)
    assert type(layer) is nn.Linear
    reference.load_state_dict(layer.state_dict())
    x = drawn(2, 3, 5, 6)
    torch.testing.assert_close(reference(x), layer(x))


def test_the_authors_way_keeps_channels_first_throughout():
    """From the stem on, so that what it is compared with is what they run."""
    dd = {"dtype": torch.float64}
    stem = ConvEmbed(3, 6, 4, 4, norm=GroupNorm1(6, impl="reference", **dd), impl="reference", **dd)
    block = ResidualBlock(
        6,
        nn.Identity(),
        12,
        norm_layer=lambda dim, **options: GroupNorm1(dim, impl="reference", **options),
        linear_layer=PointwiseConv,
        impl="reference",
        **dd,
    )
    y = block(stem(drawn(2, 3, 12, 16)))
    assert y.shape == (2, 3, 4, 6)
    assert y.permute(0, 3, 1, 2).is_contiguous()
    assert isinstance(block.mlp.fc1, PointwiseConv)


def test_mlp_of_convolutions():
    mlp = MlpBlock(6, 12, dtype=torch.float64)
    reference = MlpBlock(6, 12, linear_layer=PointwiseConv, impl="reference", dtype=torch.float64)
    reference.load_state_dict(mlp.state_dict())
    x = drawn(2, 3, 5, 6)
    torch.testing.assert_close(reference(x), mlp(x))


def test_norm_after_the_convolution_of_a_stem():
    stem = ConvEmbed(3, 6, 4, 4, norm=GroupNorm1(6, dtype=torch.float64), dtype=torch.float64)
    y = stem(drawn(2, 3, 12, 16))
    assert y.is_contiguous()
    torch.testing.assert_close(y.mean((1, 2, 3)), y.new_zeros(2))
    assert list(stem.state_dict()) == ["proj.weight", "proj.bias", "norm.weight", "norm.bias"]
