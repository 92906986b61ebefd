import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlpzoo.layers import PatchEmbed, ResNetStem, StdConv
from mlpzoo.layers.resnet_stem import MaxPoolSame, ResidualUnit, pad_same, same_padding


def same_windows(x, kernel, stride, fill):
    """Every window of SAME padding, entry by entry: `(B, C, ⌈H/s⌉, ⌈W/s⌉, kernel, kernel)`."""
    b, c, h, w = x.shape
    out_h, out_w = math.ceil(h / stride), math.ceil(w / stride)
    # TensorFlow's rule: the padding needed in all, the smaller half of it in front.
    top = max((out_h - 1) * stride + kernel - h, 0) // 2
    left = max((out_w - 1) * stride + kernel - w, 0) // 2
    windows = torch.full((b, c, out_h, out_w, kernel, kernel), fill, dtype=x.dtype)
    for i in range(out_h):
        for j in range(out_w):
            for di in range(kernel):
                for dj in range(kernel):
                    y, z = i * stride + di - top, j * stride + dj - left
                    if 0 <= y < h and 0 <= z < w:
                        windows[:, :, i, j, di, dj] = x[:, :, y, z]
    return windows


@pytest.mark.parametrize(("size", "kernel", "stride", "expected"), [
    (224, 7, 2, (2, 3)),
    (225, 7, 2, (3, 3)),
    (112, 3, 2, (0, 1)),
    (113, 3, 2, (1, 1)),
    (56, 3, 1, (1, 1)),
    (56, 1, 2, (0, 0)),
    (1, 3, 2, (1, 1)),
])  # fmt: skip
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


@pytest.mark.parametrize("size", [(6, 9), (7, 4), (1, 5)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_std_conv_against_the_plain_formula(size, kernel, stride):
    conv = StdConv(3, 5, kernel, stride, dtype=torch.float64)
    nn.init.normal_(conv.weight, mean=0.7, std=2.0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = conv.weight.detach().clone()
    for filter in weight:
        deviation = (filter - filter.mean()).square().mean().sqrt()
        filter.copy_((filter - filter.mean()) / (deviation + 1e-5))
    expected = torch.einsum("bchwij,ocij->bohw", same_windows(x, kernel, stride, 0.0), weight)
    torch.testing.assert_close(conv(x), expected)
    assert conv.bias is None


def test_std_conv_standardizes_half_precision_in_single():
    conv = StdConv(64, 8, 3, dtype=torch.bfloat16)
    exact = StdConv(64, 8, 3, dtype=torch.float64)
    exact.load_state_dict(conv.state_dict())
    x = torch.randn(1, 64, 5, 5).bfloat16()
    conv.requires_grad_(False)
    exact.requires_grad_(False)
    assert conv(x).dtype == torch.bfloat16
    error = (conv(x).double() - exact(x.double())).square().mean().sqrt()
    assert float(error) < 4 * torch.finfo(torch.bfloat16).eps * float(exact(x.double()).std())


@pytest.mark.parametrize("size", [(6, 9), (7, 4), (1, 5)], ids=str)
def test_max_pool_against_the_plain_formula(size):
    x = -1 - torch.rand(2, 3, *size)
    assert torch.equal(MaxPoolSame()(x), same_windows(x, 3, 2, float("-inf")).amax((-1, -2)))


def test_padding_sees_no_size_while_tracing():
    graph = torch.fx.symbolic_trace(ResNetStem(3, (1,), width=32)).eval()
    stem = ResNetStem(3, (1,), width=32).eval()
    graph.load_state_dict(stem.state_dict())
    for side in (32, 45):
        x = torch.randn(1, 3, side, side)
        torch.testing.assert_close(graph(x), stem(x))
    assert pad_same(torch.ones(1, 1, 2, 2), 3, 2, 5.0).tolist() == [[[[1, 1, 5], [1, 1, 5], [5, 5, 5]]]]


def test_unit_starts_as_its_skip():
    unit = ResidualUnit(128, 32)
    assert isinstance(unit.conv_proj, nn.Identity)
    x = torch.randn(2, 128, 6, 5)
    torch.testing.assert_close(unit(x), F.relu(x))


@pytest.mark.parametrize(("in_chans", "stride"), [(64, 1), (128, 2), (64, 2)])
def test_unit_projects_where_the_shape_changes(in_chans, stride):
    unit = ResidualUnit(in_chans, 32, stride)
    nn.init.zeros_(unit.gn3.bias)
    x = torch.randn(2, in_chans, 7, 4)
    skip = F.group_norm(unit.conv_proj(x), 32, unit.gn_proj.weight, unit.gn_proj.bias, 1e-6)
    assert skip.shape == (2, 128, -(-7 // stride), -(-4 // stride))
    torch.testing.assert_close(unit(x), F.relu(skip))


@pytest.mark.parametrize(
    ("depths", "stride", "out_chans"),
    [((), 4, 32), ((1,), 4, 128), ((1, 2), 8, 256), ((1, 1, 1), 16, 512), ((1, 1, 1, 1), 32, 1024)],
    ids=str,
)
def test_stride_and_channels(depths, stride, out_chans):
    stem = ResNetStem(5, depths, width=32)
    assert (stem.stride, stem.out_chans) == (stride, out_chans)
    assert stem(torch.randn(1, 5, 67, 33)).shape == (1, out_chans, -(-67 // stride), -(-33 // stride))


def test_unusable_values():
    with pytest.raises(ValueError, match="multiple of 32, got 48"):
        ResNetStem(3, (), width=48)
    with pytest.raises(ValueError, match=r"1 bottleneck or more, got depths \(2, 0\)"):
        ResNetStem(3, (2, 0))


def test_patches_of_a_map_are_measured_in_pixels():
    embed = PatchEmbed((64, 96), 32, 3, 16, backbone=ResNetStem(3, (1, 1), width=32))
    assert embed.proj.kernel_size == (4, 4)
    assert embed.grid_size == (2, 3)
    assert embed(torch.randn(2, 3, 64, 96)).shape == (2, 6, 16)
    embed.set_input_size(patch_size=(16, 32))
    assert embed.proj.kernel_size == (2, 4)
    assert embed(torch.randn(2, 3, 64, 96)).shape == (2, 12, 16)
    with pytest.raises(ValueError, match=r"a patch of 12×12 pixels .* multiple of 8"):
        embed.set_input_size((96, 96), 12)
    assert embed.img_size == (64, 96)
    with pytest.raises(ValueError, match=r"does not divide into patches of 16×32"):
        embed.set_input_size((72, 96))
