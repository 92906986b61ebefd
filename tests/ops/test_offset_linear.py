import math

import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops.offset_linear import offset_linear, offset_linear_reference

# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
AXES = pytest.mark.parametrize("axis", [1, 2], ids=["height", "width"])


def inputs(*shape, groups, out=6):
    """A map, offsets a good way from whole numbers, where the op has kinks, a weight and a bias."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    whole = torch.randint(-4, 5, (*shape[:3], groups), generator=generator)
    offsets = whole + 0.1 + 0.8 * torch.rand(*shape[:3], groups, dtype=torch.float64, generator=generator)
    weight = torch.randn(out, shape[3], dtype=torch.float64, generator=generator)
    return [x, offsets, weight, torch.randn(out, dtype=torch.float64, generator=generator)]


@AXES
@pytest.mark.parametrize(("shape", "groups"), [((2, 13, 17, 63), 21), ((1, 1, 2, 64), 64), ((3, 5, 4, 6), 1)], ids=str)
def test_within_error_budget(axis, shape, groups, poisoned_empty):
    assert_within_budget(
        lambda *xs: offset_linear(*xs, axis),
        lambda *xs: offset_linear_reference(*xs, axis),
        inputs(*shape, groups=groups),
        torch.float32,
    )


@AXES
def test_input_that_is_not_contiguous(axis):
    def through(op):
        return lambda x, offsets, w, b: op(x[:, ::2].transpose(1, 2), offsets[:, ::2].transpose(1, 2), w, b, axis)

    tensors = inputs(2, 14, 18, 21, groups=7)
    assert_within_budget(through(offset_linear), through(offset_linear_reference), tensors, torch.float32)


@AXES
def test_positions_are_not_rounded_to_half_precision(axis):
    """Near position 200, bfloat16 tells apart whole positions only."""
    x, offsets, w, b = (x.bfloat16() for x in inputs(1, 220, 220, 4, groups=2))
    found, expected = offset_linear(x, offsets, w, b, axis), offset_linear_reference(x, offsets, w, b, axis)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@given(length=st.integers(1, 6), offset=st.floats(-8, 8), axis=st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=80)
def test_every_value_is_read_where_the_formula_says(length, offset, axis):
    line = torch.arange(1.0, length + 1, dtype=torch.float64)
    x = line.view(1, -1, 1, 1) if axis == 1 else line.view(1, 1, -1, 1)
    identity = torch.ones(1, 1, dtype=torch.float64)
    for op in (offset_linear, offset_linear_reference):
        found = op(x, torch.full_like(x, offset), identity, None, axis).flatten()
        for place in range(length):
            at = place + offset
            first, part = math.floor(at), at - math.floor(at)
            ends = [float(line[i]) if 0 <= i < length else 0.0 for i in (first, first + 1)]
            assert math.isclose(found[place], (1 - part) * ends[0] + part * ends[1], abs_tol=1e-9)


@DEPRECATED
@AXES
def test_gradients_of_every_order(axis):
    tensors = [x.requires_grad_() for x in inputs(1, 3, 2, 4, groups=2, out=2)]
    assert torch.autograd.gradcheck(lambda *xs: offset_linear(*xs, axis), tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *xs: offset_linear(*xs, axis), tensors)


def test_vmap():
    x, offsets, w, b = inputs(3, 4, 5, 6, groups=3)
    found = torch.vmap(lambda x, offsets: offset_linear(x[None], offsets[None], w, b, 1)[0])(x, offsets)
    torch.testing.assert_close(found, offset_linear_reference(x, offsets, w, b, 1))


def test_mistakes():
    x, offsets, w, b = inputs(1, 2, 2, 6, groups=4)
    with pytest.raises(ValueError, match="4 groups, which do not divide 6 channels"):
        offset_linear(x, offsets, w, b, 1)
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        offset_linear(x, offsets[..., :2], w, b, 1, "cuda")
