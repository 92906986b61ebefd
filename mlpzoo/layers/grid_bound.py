"""Modules whose weights are bound to a grid of tokens."""

from collections.abc import Iterator

from torch import Tensor, nn

from mlpzoo.ops.resize import Grid


class GridBound(nn.Module):
    """A module with weights that fit one grid of tokens alone, and that can be resized to another.

    A subclass says how in `weights_at`; whether it happens for good or for one image is decided elsewhere.
    """

    def weights_at(self, old_grid: Grid, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The bound parameters of this module and those inside it, resized, one at a time.

        Args:
            old_grid: height and width in patches of the grid the module is bound to.
            new_grid: those of the grid wanted.

        Yields:
            A parameter's name and its value at the new grid, through which gradients reach the parameter.
        """
        raise NotImplementedError

    def resize_grid(self, old_grid: Grid, new_grid: Grid) -> None:
        """Bind the module to another patch grid, in place; frozen parameters stay frozen."""
        for name, value in self.weights_at(old_grid, new_grid):
            owner, _, leaf = name.rpartition(".")
            old = self.get_parameter(name)
            value = nn.Parameter(value.detach().contiguous(), requires_grad=old.requires_grad)
            setattr(self.get_submodule(owner), leaf, value)
