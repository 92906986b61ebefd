"""Modules whose weights are bound to a grid of positions."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from mlpzoo.ops.resize import Grid, resize_axis

Shapes = Mapping[str, tuple[int, ...]]
GridAxes = Mapping[str, tuple[str, ...]]


def as_grid(num_tokens: int | Grid) -> Grid:
    """The grid that a layer is told of: height and width, or a number of tokens, which stands for a line of them."""
    return (1, num_tokens) if isinstance(num_tokens, int) else (num_tokens[0], num_tokens[1])


class GridFound(NamedTuple):
    """What shapes tell of a grid; None for what they do not tell.

    Attributes:
        height: positions along the height.
        width: positions along the width.
        tokens: height times width.
        frequencies: half the width, rounded down, plus one: what a spectrum of real values has along the width.
    """

    height: int | None = None
    width: int | None = None
    tokens: int | None = None
    frequencies: int | None = None

    def fits(self, grid: Grid) -> bool:
        """Whether a grid may be the one that was told of."""
        return (
            self.height in (None, grid[0])
            and self.width in (None, grid[1])
            and self.tokens in (None, grid[0] * grid[1])
            and self.frequencies in (None, grid[1] // 2 + 1)
        )

    def __str__(self) -> str:
        if self.height is None and self.width is None:
            return f"{self.tokens} tokens"
        if self.frequencies is not None:
            return f"{self.height or '?'}×{self.frequencies} frequencies"
        return f"a grid of {self.height or '?'}×{self.width or '?'}"


class GridBound(nn.Module):
    """A module that fits one grid of positions alone, and that can be resized to another.

    A subclass sets `grid` in its constructor and names its bound weights in `grid_axes`; `resize_grid`, resized views
    for one image, and reading the grid from the shapes of a file follow. Whatever else depends on the grid is a
    property computed from it.

    Weights that axes alone do not describe (a table with a prefix token, a filter in the frequency domain) come from an
    override of `weights_at` and `grid_in`. Sizes that the mathematics forbids are refused in `check_grid`.
    """

    grid: Grid
    """Height and width of the grid this module is bound to now, in positions."""

    grid_axes: ClassVar[GridAxes] = {}
    """Name of a bound parameter or buffer to what each of its axes means, from the first; left out: not bound.

    `"in"` sums over all positions and `"out"` writes one value for each: `{"fc1.weight": ("", "in")}`. With `_height`
    or `_width` appended, over the positions along that side alone: `{"proj_h.weight": ("out_width", "in_width")}`. A
    name that the instance has no tensor for, such as a bias left out, is passed over.
    """

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The bound weights of this module and those inside it, resized, one at a time.

        Args:
            new_grid: height and width in positions of the grid wanted.

        Yields:
            A parameter's (or buffer's) name and its value at the new grid, through which gradients reach the parameter.
        """
        for name, axes in self.grid_axes.items():
            owner, _, leaf = name.rpartition(".")
            value = getattr(self.get_submodule(owner), leaf, None)
            if value is None:
                continue
            for axis, role in enumerate(axes):
                if role:
                    value = resize_axis(value, axis, role, self.grid, new_grid)
            yield name, value

    def grid_in(self, shapes: Shapes, prefix: str = "") -> GridFound:
        """What a state dict of these names and shapes tells of the grid it was saved at.

        Args:
            shapes: names to shapes.
            prefix: what stands before this module's own names there.
        """
        found: dict[str, int] = {}
        for name, axes in self.grid_axes.items():
            for size, role in zip(shapes.get(prefix + name, ()), axes, strict=False):
                if role:
                    found[role.partition("_")[2] or "tokens"] = size
        return GridFound(**found)

    def check_grid(self, new_grid: Grid) -> None:
        """Raise a ValueError where the module cannot take a grid, saying which it can. Any will do by default."""

    def resize_grid(self, new_grid: Grid) -> None:
        """Bind the module to another grid, in place; frozen parameters stay frozen.

        Raises:
            ValueError: when the module cannot take the grid; nothing has changed then.
        """
        self.check_grid(new_grid)
        if new_grid == self.grid:
            return
        for name, value in self.weights_at(new_grid):
            owner = self.get_submodule(name.rpartition(".")[0])
            leaf = name.rpartition(".")[2]
            old = getattr(owner, leaf)
            value = value.detach().contiguous()
            if isinstance(old, nn.Parameter):
                value = nn.Parameter(value, requires_grad=old.requires_grad)
            setattr(owner, leaf, value)
        self.grid = new_grid
