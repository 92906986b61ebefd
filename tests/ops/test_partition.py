import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops import partition, unpartition
from mlpzoo.ops.partition import partition_reference, unpartition_reference

KINDS = pytest.mark.parametrize("kind", ["block", "grid"])


@KINDS
@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    size=st.integers(1, 4),
    channels=st.sampled_from([1, 5, 63]),
)
def test_equal_to_the_reference_and_undone_by_the_inverse(kind, batch, rows, columns, size, channels):
    shape = (batch, rows * size, columns * size, channels)
    x = torch.arange(batch * rows * columns * size**2 * channels, dtype=torch.float32).reshape(shape)
    y = partition(x, kind, size)
    assert y.shape == (batch, size**2, rows * columns, channels)
    assert torch.equal(y, partition_reference(x, kind, size))
    assert torch.equal(unpartition(y, kind, size, *shape[1:3]), x)
    assert torch.equal(unpartition_reference(y, kind, size, *shape[1:3]), x)


@KINDS
def test_gradients_and_inputs_that_are_not_contiguous(kind):
    x = torch.randn(2, 18, 12, 5, dtype=torch.float64).transpose(1, 2)
    assert not x.is_contiguous()
    assert_within_budget(lambda x: partition(x, kind, 3), lambda x: partition_reference(x, kind, 3), [x], torch.float32)


def test_blocks_are_neighbours_and_grids_are_far_apart():
    where = torch.arange(8 * 8).reshape(1, 8, 8, 1)
    block = partition(where, "block", 2)[0, :, 0, 0]
    grid = partition(where, "grid", 2)[0, :, 0, 0]
    assert block.tolist() == [0, 1, 8, 9]
    assert grid.tolist() == [0, 4, 32, 36]


def test_mistakes():
    with pytest.raises(ValueError, match="unknown kind 'windows'.*'block' or 'grid'"):
        partition(torch.zeros(1, 4, 4, 1), "windows", 2)
    with pytest.raises(ValueError, match="a map of 4×6 does not divide by 4, the grid's side"):
        partition(torch.zeros(1, 4, 6, 1), "grid", 4)
