import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.axis_mixing import axis_mixing, axis_mixing_reference

SHAPES = [pytest.param(shape, id="x".join(map(str, shape))) for shape in [(2, 8, 8, 8), (1, 63, 13, 17), (3, 5, 7, 2)]]
AXES = pytest.mark.parametrize("axis", [2, 3])
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, axis):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    length = shape[axis]
    return [draw(*shape), draw(length, length) / length**0.5, draw(length)]


@pytest.mark.parametrize("shape", SHAPES)
@AXES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, axis, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, w, b: axis_mixing(x, w, b, axis),
        lambda x, w, b: axis_mixing_reference(x, w, b, axis),
        inputs(shape, axis),
        dtype,
    )


@pytest.mark.parametrize("shape", SHAPES)
@AXES
@IMPLS
def test_is_the_definition(shape, axis, impl):
    x, w, b = inputs(shape, axis)
    equation = "bclw,ml->bcmw" if axis == 2 else "bchl,ml->bchm"
    expected = torch.einsum(equation, x, w)
    torch.testing.assert_close(axis_mixing(x, w, None, axis, impl), expected)
    biased = expected + (b[:, None] if axis == 2 else b)
    torch.testing.assert_close(axis_mixing(x, w, b, axis, impl), biased)


@AXES
@IMPLS
def test_writes_another_number_of_positions(axis, impl):
    x, _, _ = inputs((2, 3, 4, 5), axis)
    w = torch.ones(7, x.shape[axis], dtype=x.dtype)
    y = axis_mixing(x, w, None, axis, impl)
    torch.testing.assert_close(y, x.sum(axis, keepdim=True).expand_as(y))
    assert y.shape[axis] == 7


@AXES
def test_takes_any_memory_format(axis):
    x, w, b = inputs((2, 6, 4, 5), axis)
    expected = axis_mixing(x, w, b, axis)
    last = x.contiguous(memory_format=torch.channels_last)
    strided = torch.empty(2, 12, 4, 5, dtype=x.dtype)[:, ::2].copy_(x)
    for same in (last, strided):
        torch.testing.assert_close(axis_mixing(same, w, b, axis), expected)
    assert axis_mixing(last, w, b, axis).is_contiguous(memory_format=torch.channels_last)


def test_errors():
    x, w, b = inputs((1, 2, 3, 3), 2)
    with pytest.raises(ValueError, match="2 is the height, 3 the width"):
        axis_mixing(x, w, b, 1)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        axis_mixing(x, w, b, 2, "fast")
