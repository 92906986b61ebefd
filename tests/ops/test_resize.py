import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops.resize import resize_axis, resize_input_tokens, resize_output_tokens

grids = st.tuples(st.integers(1, 20), st.integers(1, 20))


def maps(grid, count=3):
    return torch.randn(count, math.prod(grid), dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def smooth(grid):
    """One map, a slow wave over the grid."""
    y, x = torch.meshgrid(*(torch.linspace(0, 1, side, dtype=torch.float64) for side in grid), indexing="ij")
    return (1 + torch.sin(2 * y) * torch.cos(3 * x)).reshape(1, -1)


@given(old=grids, new=grids)
@settings(deadline=None, max_examples=60)
def test_input_side_keeps_each_sum(old, new):
    w = maps(old)
    torch.testing.assert_close(resize_input_tokens(w, old, new).sum(-1), w.sum(-1))


@given(grid=grids)
@settings(deadline=None, max_examples=20)
def test_the_same_grid_is_the_identity(grid):
    w = maps(grid)
    assert resize_input_tokens(w, grid, grid) is w
    assert resize_output_tokens(w, grid, grid) is w


@given(old=grids, new=grids)
@settings(deadline=None, max_examples=30)
def test_output_side_keeps_constants(old, new):
    w = torch.full((2, math.prod(old)), 0.7, dtype=torch.float64)
    resized = resize_output_tokens(w, old, new)
    torch.testing.assert_close(resized, torch.full((2, math.prod(new)), 0.7, dtype=torch.float64))


@pytest.mark.parametrize("new", [(28, 28), (20, 32), (10, 16)], ids=str)
def test_there_and_back_is_close_on_smooth_maps(new):
    w = smooth((14, 14))
    for resize in (resize_input_tokens, resize_output_tokens):
        back = resize(resize(w, (14, 14), new), new, (14, 14))
        assert float((back - w).abs().max() / w.abs().max()) < 0.02


def test_input_side_of_a_map_whose_sum_is_zero_stays_small():
    w = smooth((14, 14))
    w = w - w.mean()
    assert float(resize_input_tokens(w, (14, 14), (28, 28)).abs().max()) < float(w.abs().max())


def test_half_precision_is_computed_in_float32():
    w = maps((14, 14)).to(torch.bfloat16)
    exact = resize_input_tokens(w.float(), (14, 14), (20, 20))
    assert torch.equal(resize_input_tokens(w, (14, 14), (20, 20)), exact.to(torch.bfloat16))


@pytest.mark.parametrize("resize", [resize_input_tokens, resize_output_tokens])
def test_weights_of_another_grid_are_refused(resize):
    with pytest.raises(ValueError, match="span 196 tokens.*13×13 has 169"):
        resize(maps((14, 14)), (13, 13), (7, 7))


def matrix(old, new):
    """The linear map from one side to another that resizing a row is, `(new, old)`."""
    rows = torch.eye(old, dtype=torch.float64).reshape(1, old, 1, old)
    return F.interpolate(rows, size=(1, new), mode="bicubic", antialias=True, align_corners=False)[0, :, 0].T


@pytest.mark.parametrize("new", [(8, 1), (1, 8), (1, 1), (4, 7), (9, 1)], ids=str)
@pytest.mark.parametrize("old", [(6, 3), (3, 6), (6, 1), (1, 6)], ids=str)
def test_each_side_is_resized_by_itself(old, new):
    """PyTorch itself is wrong where the width becomes 1."""
    maps = torch.randn(3, *old, dtype=torch.float64, requires_grad=True)
    expected = matrix(old[0], new[0]) @ maps @ matrix(old[1], new[1]).T
    found = resize_output_tokens(maps.flatten(1), old, new)
    torch.testing.assert_close(found.unflatten(1, new), expected)
    weights = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), maps),
        torch.autograd.grad((expected * weights.unflatten(1, new)).sum(), maps),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("role", ["in", "out", "in_height", "out_height", "in_width", "out_width"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_axis_of_a_weight(role, axis):
    old, new = (3, 4), (5, 2)
    side, _, line = role.partition("_")
    place = {"": None, "height": 0, "width": 1}[line]
    before, after = (old, new) if place is None else ((1, old[place]), (1, new[place]))
    shape = [2, 3, 2]
    shape[axis] = before[0] * before[1]
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found = resize_axis(w, axis, role, old, new)
    resize = resize_input_tokens if side == "in" else resize_output_tokens
    for vector, wanted in zip(found.movedim(axis, -1).flatten(0, 1), w.movedim(axis, -1).flatten(0, 1), strict=True):
        torch.testing.assert_close(vector[None], resize(wanted[None], before, after))
    assert torch.autograd.gradcheck(lambda w: resize_axis(w, axis, role, old, new), (w,))


def test_an_unknown_role():
    with pytest.raises(ValueError, match="unknown role 'in_depth'"):
        resize_axis(torch.ones(2, 2), 0, "in_depth", (1, 2), (1, 3))
