"""How a stem or a downsampling changes the size of a map."""

from torch import nn

from mlpzoo.ops.resize import Grid


def stride_of(module: nn.Module) -> int:
    """Pixels in for one pixel out, along each side; 1 for a module that does not say."""
    stride = getattr(module, "stride", 1)
    assert isinstance(stride, int)
    return stride


def grid_after(module: nn.Module, grid: Grid) -> Grid:
    """Height and width of what leaves a module: its own `grid_after(grid)`, or divided by its stride, rounded down."""
    own = getattr(module, "grid_after", None)
    if own is not None:
        return own(grid)
    stride = stride_of(module)
    return grid[0] // stride, grid[1] // stride
