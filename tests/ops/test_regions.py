import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops import gather_regions, scatter_regions
from mlpzoo.ops.regions import gather_regions_reference, scatter_regions_reference

AXES = pytest.mark.parametrize("axis", [1, 2])
IMPLS = pytest.mark.parametrize("impl", ["auto", "slices", "index"])
# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
REGIONS = pytest.mark.parametrize(("size", "step"), [(4, 0), (3, 2), (2, 1), (1, 5)])


def drawn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@AXES
@IMPLS
@REGIONS
@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 8, 12, 5), (3, 1, 2, 64)], ids=str)
def test_within_error_budget(shape, size, step, axis, impl, poisoned_empty):
    x = drawn(*shape)
    y = gather_regions_reference(x, size, step, axis)
    length = shape[axis]
    assert_within_budget(
        lambda x: gather_regions(x, size, step, axis, impl),
        lambda x: gather_regions_reference(x, size, step, axis),
        [x],
        torch.float32,
    )
    assert_within_budget(
        lambda y: scatter_regions(y, size, step, axis, length, impl),
        lambda y: scatter_regions_reference(y, size, step, axis, length),
        [y],
        torch.float32,
    )


@AXES
@IMPLS
def test_input_that_is_not_contiguous(axis, impl):
    x = drawn(2, 26, 17, 9)

    def view(x):
        return x[:, ::2].transpose(1, 2)

    assert not view(x).is_contiguous()
    assert_within_budget(
        lambda x: gather_regions(view(x), 3, 2, axis, impl),
        lambda x: gather_regions_reference(view(x), 3, 2, axis),
        [x],
        torch.float32,
    )


@given(
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    size=st.integers(1, 5),
    step=st.integers(0, 9),
    axis=st.sampled_from([1, 2]),
    impl=st.sampled_from(["slices", "index", "reference"]),
)
@settings(deadline=None, max_examples=100)
def test_places_by_hand_and_back(grid, size, step, axis, impl):
    """A region's channels are position by position; the line goes round as often as it must."""
    length = grid[axis - 1]
    x = drawn(2, *grid, 3)
    lines = x.movedim(axis, 1)
    regions = -(-length // size)
    expected = torch.stack(
        [torch.cat([lines[:, (g * size + o - step) % length] for o in range(size)], dim=-1) for g in range(regions)], 1
    ).movedim(1, axis)
    found = gather_regions(x, size, step, axis, impl)
    assert torch.equal(found, expected)
    assert torch.equal(scatter_regions(found, size, step, axis, length, impl), x)


@DEPRECATED
@AXES
@IMPLS
def test_gradients_by_finite_differences(axis, impl):
    x = drawn(1, 4, 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gather_regions(x, 3, 2, axis, impl), x, check_forward_ad=True)
    y = gather_regions(x, 3, 2, axis).detach().requires_grad_()
    length = x.shape[axis]
    assert torch.autograd.gradcheck(lambda y: scatter_regions(y, 3, 2, axis, length, impl), y, check_forward_ad=True)


@AXES
def test_vmap(axis):
    x = drawn(3, 2, 4, 5, 6)
    found = torch.vmap(lambda x: gather_regions(x, 3, 1, axis))(x)
    assert torch.equal(found, torch.stack([gather_regions_reference(y, 3, 1, axis) for y in x]))
    back = torch.vmap(lambda y: scatter_regions(y, 3, 1, axis, x.shape[axis + 1]))(found)
    assert torch.equal(back, x)


def test_nothing_is_copied_where_nothing_moves():
    x = drawn(2, 5, 8, 3)
    y = gather_regions(x, 4, 0, 2)
    assert y.data_ptr() == x.data_ptr()
    assert scatter_regions(y, 4, 0, 2, 8).data_ptr() == x.data_ptr()


def test_the_reference_keeps_channels_first():
    x = drawn(2, 9, 8, 8).permute(0, 2, 3, 1)
    for axis in (1, 2):
        y = gather_regions_reference(x, 4, 1, axis)
        assert y.permute(0, 3, 1, 2).is_contiguous()
        assert scatter_regions_reference(y, 4, 1, axis, 8).permute(0, 3, 1, 2).is_contiguous()


@pytest.mark.parametrize("op", [gather_regions, lambda x, *a, impl: scatter_regions(x, *a, 2, impl)], ids=["in", "out"])
def test_unknown_impl(op):
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        op(drawn(1, 2, 2, 2), 2, 0, 1, impl="cuda")
