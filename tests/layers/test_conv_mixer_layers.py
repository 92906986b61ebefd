import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath
from torch import nn

from mlpzoo.layers import ConvActNorm, ConvMixerBlock, ConvMixerStem


def drawn(layer):
    """A layer as if trained, with statistics that are no mere zeros and ones."""
    for name, value in layer.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 2)
        elif value.is_floating_point():
            nn.init.normal_(value, std=0.5)
    return layer.eval()


def normed(norm, x):
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def part(layer, x, **options):
    return normed(
        layer.norm, nn.functional.gelu(nn.functional.conv2d(x, layer.proj.weight, layer.proj.bias, **options))
    )


def test_convolution_then_activation_then_norm():
    layer, x = drawn(ConvActNorm(3, 5, 3, stride=2)), torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(layer(x), part(layer, x, stride=2))


def test_block_is_the_papers_equation():
    block, x = drawn(ConvMixerBlock(6, 5)), torch.randn(2, 7, 8, 6)
    y = x.permute(0, 3, 1, 2).contiguous()
    y = part(block.depthwise, y, padding=2, groups=6) + y
    y = part(block.pointwise, y)
    torch.testing.assert_close(block(x), y.permute(0, 2, 3, 1))


# PyTorch says that an even kernel costs a copy of the map.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=20, deadline=None)
@given(kernel_size=st.integers(1, 9), height=st.integers(1, 8), width=st.integers(1, 8))
def test_block_keeps_the_map_whatever_its_kernel(kernel_size, height, width):
    y = ConvMixerBlock(3, kernel_size).eval()(torch.randn(1, height, width, 3))
    assert y.shape == (1, height, width, 3)
    assert y.is_contiguous()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_stem_sees_whole_patches_and_leaves_a_dense_map(memory_format):
    stem, image = drawn(ConvMixerStem(3, 5, 4)), torch.randn(2, 3, 11, 14)
    y = stem(image.contiguous(memory_format=memory_format))
    assert y.shape == (2, 2, 3, 5)
    assert y.is_contiguous()
    torch.testing.assert_close(y, part(stem, image[:, :, :8, :12], stride=4).permute(0, 2, 3, 1))


def test_stochastic_depth_drops_the_depthwise_part_alone():
    block = ConvMixerBlock(3, 3, drop_path=0.5)
    assert [name for name, module in block.named_modules() if isinstance(module, DropPath)] == ["drop_path"]
    block.depthwise.norm = nn.Identity()
    block.pointwise = nn.Identity()
    x, seen = torch.randn(64, 2, 2, 3), block.depthwise(torch.zeros(1, 3, 2, 2))
    assert float(seen.detach().abs().max()) > 0
    dropped = (block(x) == x).flatten(1).all(1)
    assert 10 < int(dropped.sum()) < 54


def test_device_and_dtype_reach_every_parameter():
    block = ConvMixerBlock(4, 3, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in block.parameters()} == {("meta", torch.bfloat16)}
