import pytest
import torch
from torch import nn
from torchvision.ops import deform_conv2d

from mlpzoo.layers import ConvEmbed, CycleFC, CycleMLP, Downsample, ResidualBlock, SplitReweight


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def deformed(layer, x, offsets):
    """What the authors compute: `offsets` are (vertical, horizontal), one pair a channel."""
    field = torch.tensor(offsets, dtype=torch.float32).reshape(1, -1, 1, 1).expand(x.shape[0], -1, *x.shape[2:])
    return deform_conv2d(x, field, layer.weight, layer.bias)


def offsets_of(layer, channels, size=9):
    """Where each channel reads, found out with an impulse and a weight that keeps channels apart."""
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None])
    x = torch.zeros(1, channels, size, size)
    x[:, :, size // 2, size // 2] = 1
    places = layer(x)[0].flatten(1).argmax(1)
    return [(size // 2 - int(p) // size, size // 2 - int(p) % size) for p in places]


@pytest.mark.parametrize("impl", ["auto", "conv", "select", "reference"])
def test_as_the_snippets_call_it(impl):
    along_width = CycleFC(6, 6, (1, 3), 1, 0, impl=impl)
    along_height = CycleFC(6, 4, (5, 1), 1, 0, impl=impl)
    x = draw(2, 6, 7, 8)
    pairs = [pair for i in range(6) for pair in (0, (i + 1) % 3 - 1)]
    torch.testing.assert_close(along_width(x), deformed(along_width, x, pairs))
    pairs = [pair for i in range(6) for pair in ((i + 2) % 5 - 2, 0)]
    torch.testing.assert_close(along_height(x), deformed(along_height, x, pairs))
    assert along_height(x).shape == (2, 4, 7, 8)


def test_state_dict_is_plain():
    assert {name: tuple(v.shape) for name, v in CycleFC(6, 4, (1, 3), groups=2).state_dict().items()} == {
        "weight": (4, 3, 1, 1),
        "bias": (4,),
    }
    assert list(CycleFC(6, 4, (1, 3), bias=False).state_dict()) == ["weight"]


def test_channels_last_stays_channels_last():
    x = draw(2, 6, 7, 8).contiguous(memory_format=torch.channels_last)
    assert CycleFC(6, 4, (1, 3))(x).is_contiguous(memory_format=torch.channels_last)


def test_sampling_in_a_cycle_and_dilated():
    cycle = [0, 1, -1, 0, 1, -1, 0]
    assert offsets_of(CycleFC(7, 7, (1, 3)), 7) == [(0, -offset) for offset in (-o for o in cycle)]
    assert offsets_of(CycleFC(7, 7, (3, 1), sampling="dilated", dilation=2), 7) == [(2 * o, 0) for o in cycle]
    assert offsets_of(CycleFC(7, 7, (3, 1), dilation=2), 7) == [(o, 0) for o in cycle], "as in the authors' code"


def test_sampling_at_random():
    def offsets(seed):
        return offsets_of(CycleFC(64, 64, (5, 1), sampling="random", seed=seed), 64)

    first = offsets(0)
    assert {horizontal for _, horizontal in first} == {0}
    assert {vertical for vertical, _ in first} == {-2, -1, 0, 1, 2}
    assert offsets(0) == first
    assert offsets(1) != first


def test_sampling_densely_is_a_convolution():
    layer = CycleFC(6, 4, (1, 5), groups=2, sampling="dense")
    x = draw(2, 6, 7, 8)
    assert layer.weight.shape == (4, 3, 1, 5)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=(0, 2), groups=2))


@pytest.mark.parametrize("sampling", ["cycle", "random", "dilated", "dense"])
def test_every_sampling_compiles(sampling):
    layer = CycleFC(6, 4, (1, 3), 1, 0, 2, sampling=sampling)
    x = draw(2, 6, 7, 8)
    torch.testing.assert_close(torch.fx.symbolic_trace(layer)(x), layer(x))
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 8, (1, 4)), "step size must be odd.*got 4"),
        ((8, 8, (3, 3)), r"one axis.*got \(3, 3\)"),
        ((8, 8, 3), "one axis.*got 3"),
        ((8, 6, (1, 3), 1, 0, 1, 4), "8 channels in and 6 out do not both divide by 4 groups"),
        ((6, 8, (1, 3), 1, 0, 1, 4), "6 channels in and 8 out"),
        ((8, 8, (1, 3), 2), "stride 1 and padding 0 alone, got 2 and 0"),
        ((8, 8, (1, 3), 1, 1), "got 1 and 1"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        CycleFC(*arguments)


def test_unknown_sampling():
    with pytest.raises(ValueError, match="unknown sampling 'sparse'.*'cycle', 'random', 'dilated', 'dense'"):
        CycleFC(4, 4, (1, 3), sampling="sparse")


def test_dilation_below_one():
    with pytest.raises(ValueError, match="dilation must be 1 or more, got 0"):
        CycleFC(4, 4, (1, 3), dilation=0, sampling="dilated")


def test_it_says_what_it_is():
    assert "6, 4, kernel_size=(1, 3), groups=2" in repr(CycleFC(6, 4, (1, 3), groups=2))


def test_cycle_mlp_is_the_authors_equation():
    mlp = CycleMLP(12, qkv_bias=False, qk_scale=None, attn_drop=0.0, proj_drop=0.0)
    assert mlp.mlp_c.bias is None
    assert (mlp.sfc_h.kernel_size, mlp.sfc_w.kernel_size) == ((1, 3), (3, 1))
    x = draw(2, 5, 7, 12)
    h, w = (layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for layer in (mlp.sfc_h, mlp.sfc_w))
    c = x @ mlp.mlp_c.weight.T
    hidden = nn.functional.gelu(mlp.reweight.fc1((h + w + c).mean((1, 2))))
    a = mlp.reweight.fc2(hidden).reshape(2, 1, 1, 12, 3).softmax(-1)
    expected = mlp.proj(h * a[..., 0] + w * a[..., 1] + c * a[..., 2])
    torch.testing.assert_close(mlp(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize("options", [{}, {"step_size": 7}, {"sampling": "random", "seed": 3}], ids=str)
def test_cycle_mlp_agrees_with_its_reference(options):
    fast, reference = CycleMLP(16, **options), CycleMLP(16, impl="reference", **options)
    reference.load_state_dict(fast.state_dict())
    x = draw(2, 9, 6, 16)
    torch.testing.assert_close(fast(x), reference(x))


def test_split_reweight_of_few_channels():
    assert SplitReweight(2)(*(draw(1, 3, 3, 2) for _ in range(3))).shape == (1, 3, 3, 2)


def test_residual_block():
    block = ResidualBlock(6, nn.Linear(6, 6), 9).eval()
    x = draw(2, 3, 4, 6)
    x1 = x + block.attn(nn.functional.layer_norm(x, (6,), eps=1e-5))
    torch.testing.assert_close(block(x), x1 + block.mlp(nn.functional.layer_norm(x1, (6,), eps=1e-5)))


def test_convolutions_leave_dense_maps():
    stem, down = ConvEmbed(3, 8, 7, 4, 2), Downsample(8, 12, 3, 2, 1)
    x = draw(2, 3, 33, 50)
    y = stem(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, stem.proj(x).permute(0, 2, 3, 1))
    z = down(y)
    assert z.is_contiguous()
    torch.testing.assert_close(z, down.proj(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    assert (stem.stride, down.stride) == (4, 2)
