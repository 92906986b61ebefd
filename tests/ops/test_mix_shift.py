import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops.mix_shift import mix_shift, mix_shift_reference

# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
SHIFTS = (-2, 0, 1)


def inputs(*shape, sides=(1, 3, 5)):
    """A map, and of each axis the kernels and the biases of three groups."""
    generator = torch.Generator().manual_seed(0)
    most = -(-shape[3] // len(sides))
    sizes = [min(most, shape[3] - first) for first in range(0, shape[3], most)]
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator)]
    for _ in range(2):
        groups = list(zip(sizes, sides, strict=True))
        tensors += [torch.randn(n, 1, k, k, dtype=torch.float64, generator=generator) for n, k in groups]
        tensors += [torch.randn(n, dtype=torch.float64, generator=generator) for n, _ in groups]
    return tensors


def of_tensors(op, shifts=SHIFTS, view=lambda x: x):
    def run(x, *parameters):
        count = len(shifts)
        return op(view(x), shifts, *(parameters[i : i + count] for i in range(0, 4 * count, count)))

    return run


@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 2, 1, 64), (3, 8, 4, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, dtype, poisoned_empty):
    assert_within_budget(of_tensors(mix_shift), of_tensors(mix_shift_reference), inputs(*shape), dtype)


def test_input_that_is_not_contiguous():
    def view(x):
        return x[:, ::2].transpose(1, 2)

    fast, reference = (of_tensors(op, view=view) for op in (mix_shift, mix_shift_reference))
    assert_within_budget(fast, reference, inputs(2, 14, 18, 21), torch.float32)


@given(height=st.integers(1, 6), width=st.integers(1, 6), shift=st.integers(-7, 7), side=st.sampled_from([1, 3, 5]))
@settings(deadline=None, max_examples=40)
def test_every_value_is_read_where_the_formula_says(height, width, shift, side):
    x, w_right, b_right, w_down, b_down = inputs(1, height, width, 1, sides=(side,))
    expected, reach = torch.zeros_like(x), side // 2
    for i in range(height):
        for j in range(width):
            total = b_right + b_down
            for di in range(-reach, reach + 1):
                for dj in range(-reach, reach + 1):
                    row, column = i + di, j + dj
                    if 0 <= row < height and 0 <= column < width:
                        tap = (0, 0, di + reach, dj + reach)
                        total = total + w_right[tap] * x[0, row, (column - shift) % width, 0]
                        total = total + w_down[tap] * x[0, (row - shift) % height, column, 0]
            expected[0, i, j, 0] = total
    for impl in ("auto", "reference"):
        found = mix_shift(x, (shift,), [w_right], [b_right], [w_down], [b_down], impl)
        torch.testing.assert_close(found, expected)


@DEPRECATED
def test_gradients_of_every_order():
    tensors = [x.requires_grad_() for x in inputs(1, 3, 2, 3, sides=(1, 3, 1))]
    assert torch.autograd.gradcheck(of_tensors(mix_shift), tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of_tensors(mix_shift), tensors)


def test_nothing_but_the_inputs_is_saved():
    tensors = [x.requires_grad_() for x in inputs(2, 5, 6, 7)]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        of_tensors(mix_shift)(*tensors)
    assert {x.data_ptr() for x in saved} == {x.data_ptr() for x in tensors}


def test_vmap():
    x, *parameters = inputs(3, 4, 5, 6)
    found = torch.vmap(lambda x: of_tensors(mix_shift)(x[None], *parameters)[0])(x)
    torch.testing.assert_close(found, of_tensors(mix_shift_reference)(x, *parameters))


def test_mistakes():
    x, *parameters = inputs(1, 2, 2, 6)
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        of_tensors(lambda *arguments: mix_shift(*arguments, "cuda"))(x, *parameters)
    with pytest.raises(ValueError, match="cover 6 channels, and the map has 7"):
        of_tensors(mix_shift)(x.new_zeros(1, 2, 2, 7), *parameters)
