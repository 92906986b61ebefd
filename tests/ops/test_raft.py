import pytest
import torch

from mlpzoo.ops.raft import gather_raft, scatter_raft

SHAPES = pytest.mark.parametrize(
    ("shape", "raft"), [((2, 4, 6, 8), 2), ((1, 13, 17, 63), 3), ((3, 5, 2, 4), 1)], ids=str
)
AXES = pytest.mark.parametrize("axis", [1, 2])
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def draw(shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@SHAPES
@AXES
@IMPLS
def test_is_the_definition(shape, raft, axis, impl):
    x = draw(shape)
    batch, height, width, channels = shape
    part, length = channels // raft, shape[axis]
    y = gather_raft(x, raft, axis, impl)
    for b, h, w, c in [
        (0, 0, 0, 0),
        (batch - 1, height - 1, 0, channels - 1),
        (0, height // 2, width - 1, channels // 2),
    ]:
        mixed = c // part * length + (h, w)[axis - 1]
        place = (b, mixed, w * part + c % part) if axis == 1 else (b * height + h, mixed, c % part)
        assert y[place] == x[b, h, w, c]
    assert y.shape[1] == raft * length
    assert torch.equal(scatter_raft(y, raft, axis, height, width, impl), x)


@SHAPES
@AXES
def test_equals_its_twin_and_passes_gradients(shape, raft, axis):
    """They only move numbers, so nothing is rounded."""
    found, expected = (draw(shape).requires_grad_() for _ in range(2))
    for x, impl in ((found, "auto"), (expected, "reference")):
        y = gather_raft(x, raft, axis, impl)
        z = scatter_raft(y * y, raft, axis, *shape[1:3], impl)
        (z * draw(shape)).sum().backward()
    assert torch.equal(found.grad, expected.grad)


@AXES
def test_takes_any_memory_format(axis):
    x = draw((2, 4, 6, 8))
    expected = gather_raft(x, 2, axis)
    first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    strided = torch.empty(2, 8, 6, 8, dtype=x.dtype)[:, ::2].copy_(x)
    for same in (first, strided):
        assert torch.equal(gather_raft(same, 2, axis), expected)


def test_errors():
    x = draw((1, 2, 2, 2))
    with pytest.raises(ValueError, match="1 is the height, 2 the width"):
        gather_raft(x, 1, 3)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        scatter_raft(gather_raft(x, 1, 1), 1, 1, 2, 2, "fast")
