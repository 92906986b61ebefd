"""Mixing inside partitions: against a loop over positions, and where several partitions land."""

import itertools

import pytest
import torch

from mlpzoo.ops.partition_mixing import map_of, partition_mixing, rows_of


def tensors(batch, height, width, channels, sets, window, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, height, width, channels), (sets, window**2, window**2), (sets, window**2)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(("height", "width", "channels", "sets", "window"), [(6, 4, 6, 3, 2), (3, 3, 5, 1, 3)])
def test_partitions_in_their_places(impl, height, width, channels, sets, window):
    x, w, b = tensors(2, height, width, channels, sets, window)
    expected = torch.empty_like(x)
    for p, q, c in itertools.product(range(0, height, window), range(0, width, window), range(channels)):
        part = x[:, p : p + window, q : q + window, c].flatten(1)
        mixed = part @ w[c % sets].T + b[c % sets]
        expected[:, p : p + window, q : q + window, c] = mixed.unflatten(1, (window, window))
    found = partition_mixing(x, w, b, window, False, impl)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), (x, w, b)) for y in (found, expected)]
    for a, c in zip(*gradients, strict=True):
        torch.testing.assert_close(a, c)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_where_the_authors_partitions_land(impl):
    """Two columns of partitions, four channels in two share sets: each partition fills one channel of each set."""
    x = torch.arange(2 * 4 * 4, dtype=torch.float64).view(1, 2, 4, 4)
    unit = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    found = partition_mixing(x, unit, torch.zeros(2, 4, dtype=torch.float64), 2, True, impl)
    left, right = x[0, :, :2], x[0, :, 2:]
    assert torch.equal(found[0, :, :2, :2], left[..., :2])
    assert torch.equal(found[0, :, 2:, :2], left[..., 2:])
    assert torch.equal(found[0, :, :2, 2:], right[..., :2])
    assert torch.equal(found[0, :, 2:, 2:], right[..., 2:])


def test_rows_and_back():
    x = torch.randn(2, 6, 9, 8)
    assert torch.equal(map_of(rows_of(x, 4, 3), x, moved=False), x)
    assert not torch.equal(map_of(rows_of(x, 4, 3), x, moved=True), x)


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match="unknown impl 'fast' of partition_mixing: choose 'auto' or 'reference'"):
        partition_mixing(*tensors(1, 2, 2, 2, 1, 2), 2, False, "fast")
