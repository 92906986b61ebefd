import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import resize_bilinear, resize_nearest
from mlpzoo.ops.image_resize import resize_bilinear_reference

POWERS_OF_TWO = [(8, 12), (16, 24), (32, 48), (64, 96), (128, 12)]
OTHERS = [(5, 48), (33, 7)]
SIZES = POWERS_OF_TWO + OTHERS


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equal_to_the_reference(height, width):
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    torch.testing.assert_close(
        resize_bilinear(x, height, width), resize_bilinear_reference(x, height, width), rtol=1e-12, atol=1e-12
    )


# At other ratios PyTorch places the samples in float32, which costs more than the budget.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width"), POWERS_OF_TWO)
def test_within_error_budget(height, width, channels_last, dtype):
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    def fast(x):
        return resize_bilinear(x, height, width)

    def reference(x):
        return resize_bilinear_reference(x, height, width)

    assert_within_budget(fast, reference, [x], dtype)


def test_a_constant_stays_one_whatever_the_size():
    x = torch.full((1, 1, 8, 8), 0.3, dtype=torch.float64)
    for height, width in SIZES:
        torch.testing.assert_close(resize_bilinear(x, height, width), x[:, :, :1, :1].expand(1, 1, height, width))


def test_halving_antialiases():
    stripes = torch.tensor([0.0, 1.0] * 8, dtype=torch.float64).expand(1, 1, 16, 16)
    halved = resize_bilinear(stripes, 8, 8)
    torch.testing.assert_close(halved[..., 1:-1], torch.full((1, 1, 8, 6), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("ratio", [2, 4])
def test_nearest_keeps_the_later_pixel_of_a_tie(ratio):
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    kept = slice(ratio // 2, None, ratio)
    assert torch.equal(resize_nearest(x, 8 // ratio, 8 // ratio), x[:, :, kept, kept])
