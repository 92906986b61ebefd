import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.fourier_filter import fourier_filter, fourier_filter_reference

SHAPES = [
    pytest.param(b, h, w, c, id=f"B{b}-H{h}-W{w}-C{c}")
    for b, h, w, c in [(2, 14, 14, 63), (1, 13, 17, 33), (3, 7, 8, 5), (2, 1, 6, 3), (1, 5, 1, 4)]
]


def inputs(b, h, w, c, filters=None):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    static = [draw(b, h, w, c), draw(h, w // 2 + 1, filters or c, 2)]
    return static if filters is None else [*static, draw(b, filters, c).softmax(1)]


@pytest.mark.parametrize("filters", [None, 4])
@pytest.mark.parametrize(("b", "h", "w", "c"), SHAPES)
@pytest.mark.parametrize("impl", ["matrix", "fft", "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(b, h, w, c, filters, impl, dtype, poisoned_empty):
    def fast(*values):
        return fourier_filter(*values, impl=impl)

    assert_within_budget(fast, fourier_filter_reference, inputs(b, h, w, c, filters), dtype)


@pytest.mark.parametrize("filters", [None, 3])
@pytest.mark.parametrize("impl", ["matrix", "fft", "auto"])
def test_exact_in_float64_without_gradients(impl, filters):
    values = inputs(3, 6, 9, 5, filters)
    with torch.inference_mode():
        found, expected = fourier_filter(*values, impl=impl), fourier_filter_reference(*values)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_it_is_a_circular_convolution():
    """A shift of the map, wrapped around, shifts the answer: true of any filter in the frequency domain."""
    x, w = inputs(2, 6, 8, 3)
    for impl in ("matrix", "fft"):
        shifted = fourier_filter(x.roll((2, 5), (1, 2)), w, impl=impl)
        torch.testing.assert_close(shifted, fourier_filter(x, w, impl=impl).roll((2, 5), (1, 2)))


def test_maps_that_are_not_contiguous():
    x, w = inputs(2, 6, 5, 4)
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for impl in ("matrix", "fft"):
        torch.testing.assert_close(fourier_filter(strided, w, impl=impl), fourier_filter_reference(x, w))


def test_float32_under_autocast():
    x, w = (value.float() for value in inputs(1, 8, 8, 4))
    with torch.autocast("cpu", torch.bfloat16):
        found = fourier_filter(x, w, impl="matrix")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, fourier_filter_reference(x, w))


def test_an_exported_program_holds_no_transform():
    class Filter(torch.nn.Module):
        def forward(self, x, w):
            return fourier_filter(x, w)

    x, w = (value.float() for value in inputs(1, 8, 6, 4))
    program = torch.export.export(Filter(), (x, w))
    assert "fft" not in str(program.graph)
    torch.testing.assert_close(program.module()(x, w), fourier_filter_reference(x, w))


def test_bad_input():
    x, w = inputs(1, 6, 6, 4)
    with pytest.raises(ValueError, match="unknown impl 'cufft'.*'matrix'"):
        fourier_filter(x, w, impl="cufft")
    with pytest.raises(ValueError, match="6×4 frequencies does not fit a map of 5×6"):
        fourier_filter(x[:, :5], w)
