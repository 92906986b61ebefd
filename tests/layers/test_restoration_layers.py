"""The layers of MAXIM, each against the formula it stands for, written with other means."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from mlpzoo.layers import (
    ChannelAttention,
    ConvAttentionBlock,
    ConvNHWC,
    CrossGating,
    GatherLevels,
    MlpAttentionBlock,
    MultiAxisGate,
    MultiAxisMlp,
    PartitionedGatedMlp,
    Resample,
    SupervisedAttention,
    UpsampleNHWC,
)
from mlpzoo.layers.init import flax_default_

DOUBLE = {"dtype": torch.float64}


def drawn(module: nn.Module) -> nn.Module:
    """The module with every parameter drawn anew, so that no zero or one hides a term."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def norm(x, layer):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias


def gelu(x):
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def linear(x, layer):
    return torch.einsum("...i,oi->...o", x, layer.weight) + layer.bias


def mixed(x_BHWC, layer, kind, size):
    """Mix positions as the authors do: cells to one axis, positions of a cell to another, and an einsum over one."""
    H, W = x_BHWC.shape[1:3]
    fh, fw = (size, size) if kind == "block" else (H // size, W // size)
    cells = rearrange(x_BHWC, "n (gh fh) (gw fw) c -> n (gh gw) (fh fw) c", fh=fh, fw=fw)
    if kind == "block":
        cells = torch.einsum("ngfc,of->ngoc", cells, layer.weight) + layer.bias[:, None]
    else:
        cells = torch.einsum("ngfc,og->nofc", cells, layer.weight) + layer.bias[:, None, None]
    return rearrange(cells, "n (gh gw) (fh fw) c -> n (gh fh) (gw fw) c", gh=H // fh, fh=fh)


def gated_mlp(x, layer):
    u, v = gelu(linear(norm(x, layer.norm), layer.fc1)).chunk(2, -1)
    return x + linear(u * (mixed(norm(v, layer.gate_norm), layer.gate, layer.kind, layer.size) + 1), layer.fc2)


@pytest.mark.parametrize("kind", ["block", "grid"])
@pytest.mark.parametrize(("dim", "factor"), [(6, 2), (7, 2), (6, 3)])
def test_partitioned_gated_mlp(kind, dim, factor):
    layer = drawn(PartitionedGatedMlp(dim, kind, 3, factor=factor, **DOUBLE))
    x = torch.randn(2, 6, 9, dim, **DOUBLE)
    torch.testing.assert_close(layer(x), gated_mlp(x, layer))


def test_multi_axis_mlp():
    layer = drawn(MultiAxisMlp(6, 4, 2, **DOUBLE))
    x = torch.randn(2, 8, 12, 6, **DOUBLE)
    u, v = gelu(linear(norm(x, layer.norm), layer.fc1)).chunk(2, -1)
    joined = torch.cat([gated_mlp(u, layer.grid), gated_mlp(v, layer.block)], -1)
    torch.testing.assert_close(layer(x), x + linear(joined, layer.fc2))
    assert (layer.grid.size, layer.block.size) == (2, 4)


def gate(x, layer):
    u, v = gelu(linear(norm(x, layer.norm), layer.fc1)).chunk(2, -1)
    u, v = mixed(u, layer.grid, "grid", layer.grid_size), mixed(v, layer.block, "block", layer.block_size)
    return linear(torch.cat([u, v], -1), layer.fc2)


@pytest.mark.parametrize("upsample", [False, True])
def test_cross_gating(upsample):
    layer = drawn(CrossGating(5, 7, 6, 4, 2, upsample_y=upsample, **DOUBLE))
    x = torch.randn(2, 8, 12, 5, **DOUBLE)
    y = torch.randn(2, 4, 6, 7, **DOUBLE) if upsample else torch.randn(2, 8, 12, 7, **DOUBLE)
    fused, gated = layer(x, y)
    x_in, y_in = linear(x, layer.in_x), linear(layer.upsample_y(y), layer.in_y)
    x_mid, y_mid = (
        gelu(linear(norm(x_in, layer.norm_x), layer.fc_x)),
        gelu(linear(norm(y_in, layer.norm_y), layer.fc_y)),
    )
    expected_y = linear(y_mid * gate(x_mid, layer.gate_x), layer.out_y) + y_in
    torch.testing.assert_close(gated, expected_y)
    torch.testing.assert_close(fused, linear(x_mid * gate(y_mid, layer.gate_y), layer.out_x) + expected_y + x_in)


def test_convolutions_with_the_channels_last_are_pytorchs():
    x = torch.randn(2, 6, 8, 5)
    conv, peer = ConvNHWC(5, 7, 4, 2, padding=1), nn.Conv2d(5, 7, 4, 2, padding=1)
    peer.load_state_dict(conv.state_dict())
    y = conv(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, peer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_upsampling_stamps_its_kernel():
    layer = drawn(UpsampleNHWC(5, 3, **DOUBLE))
    x = torch.randn(2, 3, 4, 5, **DOUBLE)
    stamped = torch.einsum("bhwi,ioyx->bhywxo", x, layer.weight).reshape(2, 6, 8, 3) + layer.bias
    torch.testing.assert_close(layer(x), stamped)


def test_channel_attention_and_its_blocks():
    x = torch.randn(2, 5, 7, 8, **DOUBLE)

    def attended(x, layer):
        return x * torch.sigmoid(linear(F.relu(linear(x.mean((1, 2), keepdim=True), layer.fc1)), layer.fc2))

    layer = drawn(ChannelAttention(8, 4, **DOUBLE))
    torch.testing.assert_close(layer(x), attended(x, layer))
    block = drawn(ConvAttentionBlock(8, slope=0.2, **DOUBLE))
    y = block.conv1(norm(x, block.norm))
    y = block.conv2(torch.where(y > 0, y, 0.2 * y))
    torch.testing.assert_close(block(x), x + attended(y, block.attn))
    block = drawn(MlpAttentionBlock(8, **DOUBLE))
    y = linear(gelu(linear(norm(x, block.norm), block.mlp.fc1)), block.mlp.fc2)
    torch.testing.assert_close(block(x), x + attended(y, block.attn))
    with pytest.raises(ValueError, match="3 channels reduced by 4 leave none"):
        ChannelAttention(3, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_supervised_attention(channels):
    layer = drawn(SupervisedAttention(6, channels, **DOUBLE))
    x, image = torch.randn(2, 5, 7, 6, **DOUBLE), torch.randn(2, 5, 7, channels, **DOUBLE)
    features, made = layer(x, image)
    expected = layer.to_image(x) + (image if channels == 3 else 0)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(features, x + layer.conv(x) * torch.sigmoid(layer.to_mask(expected)))


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1, 2, 4])
def test_resampling_before_or_after_the_projection_is_the_same(ratio):
    layer = drawn(Resample(6, 3, ratio, **DOUBLE))
    x = torch.randn(2, 8, 12, 6, **DOUBLE)
    size = (int(8 * ratio), int(12 * ratio))
    resized = F.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=ratio < 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), linear(resized, layer.proj))
    assert layer(x).is_contiguous()


def test_levels_are_gathered_in_order():
    dims = (2, 4, 8)
    maps = [torch.randn(1, 8 >> i, 8 >> i, dim) for i, dim in enumerate(dims)]
    layer = GatherLevels(dims, 1)
    gathered = layer(maps)
    assert gathered.shape == (1, 4, 4, 12)
    for i, part in enumerate(gathered.chunk(3, -1)):
        torch.testing.assert_close(part, layer.resamplings[i](maps[i]))
    layer.lowest_first = True
    torch.testing.assert_close(layer(maps), torch.cat(gathered.chunk(3, -1)[::-1], -1))


def test_widths_that_cannot_be_halved():
    for build in (
        lambda: PartitionedGatedMlp(5, "grid", 2, factor=1),
        lambda: MultiAxisMlp(5, 2, 2, factor=1),
        lambda: MultiAxisGate(5, 2, 2, factor=1),
    ):
        with pytest.raises(ValueError, match="1 × 5 channels do not divide into two halves"):
            build()


@torch.no_grad()
def test_initial_values_are_flaxs():
    for layer, fan_in in (
        (nn.Linear(256, 300), 256),
        (nn.Conv2d(32, 300, 3), 288),
        # Inputs stand first in a transposed convolution's weight.
        (nn.ConvTranspose2d(64, 300, 2, 2), 256),
    ):
        flax_default_(layer)
        assert float(layer.weight.std()) == pytest.approx(fan_in**-0.5, rel=0.02)
        assert float(layer.weight.abs().max()) <= 2.3 * fan_in**-0.5
        assert torch.all(layer.bias == 0)
    gate = MultiAxisGate(64, 8, 8)
    assert torch.all(gate.grid.bias == 1)
    assert float(gate.block.weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(gate.fc1.weight.std()) == pytest.approx(64**-0.5, rel=0.05)
    mlp = MultiAxisMlp(64, 8, 8)
    assert torch.all(mlp.grid.gate.bias == 0)
    for weight in (mlp.fc1.weight, mlp.grid.fc1.weight, mlp.block.gate.weight):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.05)
