import pytest
import torch
import torch.nn.functional as F
from error_budget import assert_within_budget

from mlpzoo.ops.multi_scale import multi_scale_conv, multi_scale_conv_reference

# Shape of the map, stride, kernels.
CASES = [
    pytest.param((2, 3, 8, 12), 4, 2, id="stem"),
    pytest.param((1, 63, 26, 34), 2, 2, id="many channels"),
    pytest.param((1, 5, 4, 6), 2, 3, id="three kernels, wider than the map"),
    pytest.param((1, 4, 6, 3), 3, 1, id="one kernel"),
]
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, stride, kernels):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    sides = [stride * 2**i for i in range(kernels)]
    return [draw(*shape), draw(7), *(draw(7, shape[1], side, side) / side for side in sides)]


@pytest.mark.parametrize(("shape", "stride", "kernels"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, stride, kernels, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, b, *w: multi_scale_conv(x, b, stride, "auto", *w),
        lambda x, b, *w: multi_scale_conv_reference(x, b, stride, *w),
        inputs(shape, stride, kernels),
        dtype,
    )


@pytest.mark.parametrize(("shape", "stride", "kernels"), CASES)
@IMPLS
def test_is_a_sum_of_convolutions(shape, stride, kernels, impl):
    x, b, *weights = inputs(shape, stride, kernels)
    each = [F.conv2d(x, w, None, stride, (w.shape[2] - stride) // 2) for w in weights]
    expected = torch.stack(each).sum(0) + b[:, None, None]
    torch.testing.assert_close(multi_scale_conv(x, b, stride, impl, *weights), expected)


def test_errors():
    x, b, w = inputs((1, 1, 2, 2), 2, 1)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        multi_scale_conv(x, b, 2, "fast", w)
