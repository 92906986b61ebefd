import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.strip_mixing import strip_mixing, strip_mixing_reference

CASES = [
    pytest.param(shape, groups, id=f"{'x'.join(map(str, shape))}-{groups}")
    for shape, groups in [((2, 8, 6, 6), 4), ((1, 63, 13, 17), 21), ((3, 4, 5, 2), 2)]
]
AXES = pytest.mark.parametrize("axis", [2, 3])
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, groups, axis):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    length = shape[axis]
    return [draw(*shape), draw(groups, length, length, 3) / (3 * length) ** 0.5, draw(groups * length)]


@pytest.mark.parametrize(("shape", "groups"), CASES)
@AXES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, groups, axis, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, w, b: strip_mixing(x, w, b, axis),
        lambda x, w, b: strip_mixing_reference(x, w, b, axis),
        inputs(shape, groups, axis),
        dtype,
    )


@pytest.mark.parametrize(("shape", "groups"), CASES)
@AXES
@IMPLS
def test_is_the_definition(shape, groups, axis, impl):
    x, w, b = inputs(shape, groups, axis)
    # Lines last, so that one loop does for both axes.
    x_BCOL = x if axis == 3 else x.transpose(2, 3)
    expected = torch.zeros_like(x_BCOL)
    for channel in range(shape[1]):
        group = channel % groups
        expected[:, channel] += b.view(groups, -1)[group]
        for line in range(x_BCOL.shape[2]):
            for tap in range(3):
                if 0 <= line + tap - 1 < x_BCOL.shape[2]:
                    expected[:, channel, line] += x_BCOL[:, channel, line + tap - 1] @ w[group, :, :, tap].T
    y = strip_mixing(x, w, b, axis, impl)
    torch.testing.assert_close(y, expected if axis == 3 else expected.transpose(2, 3))


@AXES
def test_takes_any_memory_format(axis):
    x, w, b = inputs((2, 6, 4, 5), 3, axis)
    expected = strip_mixing(x, w, b, axis)
    last = x.contiguous(memory_format=torch.channels_last)
    strided = torch.empty(2, 12, 4, 5, dtype=x.dtype)[:, ::2].copy_(x)
    for same in (last, strided):
        torch.testing.assert_close(strip_mixing(same, w, b, axis), expected)
    assert expected.is_contiguous(memory_format=torch.channels_last)


def test_errors():
    x, w, b = inputs((1, 2, 3, 3), 1, 2)
    with pytest.raises(ValueError, match="2 is the height, 3 the width"):
        strip_mixing(x, w, b, 1)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        strip_mixing(x, w, b, 2, "fast")
