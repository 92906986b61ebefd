import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import axis_linear
from mlpzoo.ops.axis_linear import axis_linear_reference

SHAPES = [
    pytest.param(shape, id="x".join(map(str, shape)))
    for shape in [(2, 8, 8, 64), (1, 4, 6, 36), (3, 7, 1, 21), (2, 3, 9, 63)]
]
AXES = pytest.mark.parametrize("axis", [1, 2])


def inputs(shape):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    return [draw(*shape), draw(shape[3], shape[3]) / shape[3] ** 0.5, draw(shape[3])]


def both(axis, impl):
    return lambda x, w, b: axis_linear(x, w, b, axis, impl), lambda x, w, b: axis_linear_reference(x, w, b, axis)


@pytest.mark.parametrize("shape", SHAPES)
@AXES
@pytest.mark.parametrize(
    ("impl", "dtype"), [("swap", torch.float32), ("swap", torch.bfloat16), ("conv", torch.float32)], ids=str
)
def test_within_error_budget(shape, axis, impl, dtype, poisoned_empty):
    assert_within_budget(*both(axis, impl), inputs(shape), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@AXES
def test_reference_is_the_definition(shape, axis):
    x, w, b = inputs(shape)
    length = shape[axis]
    size = shape[3] // length
    maps = w.reshape(length, size, length, size)
    segments = x.unflatten(3, (length, size))
    equation = "bpwns,qtps->bqwnt" if axis == 1 else "bhpns,qtps->bhqnt"
    bias = b.reshape((length, 1, 1, size) if axis == 1 else (length, 1, size))
    expected = (torch.einsum(equation, segments, maps) + bias).flatten(3)
    for impl in ("reference", "swap", "conv"):
        torch.testing.assert_close(axis_linear(x, w, b, axis, impl), expected)


@AXES
@pytest.mark.parametrize("impl", ["auto", "swap", "conv", "reference"])
def test_dense_in_and_out(axis, impl):
    x, w, b = inputs((2, 4, 4, 16))
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not strided.is_contiguous()
    y = axis_linear(strided, w, b, axis, impl)
    assert y.is_contiguous()
    torch.testing.assert_close(y, axis_linear_reference(x, w, b, axis))
    torch.testing.assert_close(axis_linear(x, w, None, axis, impl), axis_linear_reference(x, w, None, axis))


@pytest.mark.parametrize("shape", SHAPES)
@AXES
def test_with_and_without_gradients_agree(shape, axis):
    x, w, b = (value.float() for value in inputs(shape))
    with torch.no_grad():
        inference = axis_linear(x, w, b, axis)
    torch.testing.assert_close(inference, axis_linear(x, w, b, axis))


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        axis_linear(*inputs((1, 2, 2, 2)), 1, impl="cuda")
