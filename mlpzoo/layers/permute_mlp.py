"""Spatial mixing of ViP.

Shape suffixes: B batch, H × W positions, C channels.
"""

from typing import Any

import torch
import torch.fx
from timm.layers import to_2tuple
from torch import Tensor, nn

from mlpzoo.layers.grid_bound import GridBound
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.split_reweight import SplitReweight, reweighted_and_projected
from mlpzoo.ops import axis_linear
from mlpzoo.ops.resize import Grid


def check_grid(height: int, width: int, grid: Grid, dim: int) -> None:
    """Raise a ValueError that says which grids a Permute-MLP takes, unless the map has the grid it is built for."""
    if height != grid[0] or width != grid[1]:
        raise ValueError(
            f"got a map of {height}×{width} positions, but this Permute-MLP has {grid[0]} and {grid[1]} segments and "
            f"takes maps of just that size. Build it with segment_dim=(height, width), divisors of its {dim} channels"
        )


# A traced graph keeps it as one call: symbolic sizes cannot be compared while tracing.
torch.fx.wrap("check_grid")


class AxisLinear(nn.Module):
    """A linear layer over lines of a map: the positions along one axis with the channels of one segment.

    It keeps its parameters as `nn.Linear(dim, dim)` would, but is no subclass of it: tools that swap every `nn.Linear`
    of a model apply theirs to the last axis, which would be wrong here.

    Args:
        dim: channels of the map, cut into as many segments as the axis is long.
        axis: 1 for lines along the height, 2 along the width.
        bias: whether there is a bias.
        impl: which implementation of `mlpzoo.ops.axis_linear` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same, contiguous.
    """

    def __init__(
        self,
        dim: int,
        axis: int,
        *,
        bias: bool = True,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.impl = impl
        self.weight = nn.Parameter(torch.empty(dim, dim, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(dim, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as `nn.Linear` draws its own."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        return axis_linear(x_BHWC, self.weight, self.bias, self.axis, self.impl)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.weight.shape[0]}, axis={self.axis}, bias={self.bias is not None}, impl={self.impl!r}"


class WeightedPermuteMLP(GridBound):
    """Three linear layers, over lines along the height, lines along the width, and channels; weighed and projected.

    A line holds the positions along one axis with the channels of one of the segments that the channels are cut into
    (ViP, arXiv:2106.12368).

    Source: `WeightedPermuteMLP` of houqb/VisionPermutator, `models/vip.py` at 2cab2ce. What differs: height and width
    may have segments of their own, so that the map need not be square.

    Args:
        dim: channels.
        segment_dim: segments of the channels along height and width, an int if the same. The weights, `dim` × `dim`,
            want as many as the map has positions along that axis.
        qkv_bias: whether the three linears have a bias.
        qk_scale: without effect, as in the authors' code.
        attn_drop: without effect, as in the authors' code.
        proj_drop: dropout rate after the projection.
        seg_dim: another name for `segment_dim`, which has precedence.
        impl: which implementation of `mlpzoo.ops.axis_linear` runs; if `"reference"` or `"triton"`, of
            every op inside that has one.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: when a number of segments does not divide `dim`, at construction; when a map of another size comes
            in, at call.

    Shape:
        `(batch, height, width, dim)` to the same, where `(height, width)` is `segment_dim`.
    """

    def __init__(
        self,
        dim: int,
        segment_dim: int | Grid = 8,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        *,
        seg_dim: int | Grid | None = None,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.grid = to_2tuple(segment_dim if seg_dim is None else seg_dim)
        self.check_grid(self.grid)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.impl = rest(impl)
        self.mlp_c = nn.Linear(dim, dim, qkv_bias, **dd)
        self.mlp_h = AxisLinear(dim, 1, bias=qkv_bias, impl=impl, **dd)
        self.mlp_w = AxisLinear(dim, 2, bias=qkv_bias, impl=impl, **dd)
        self.reweight = SplitReweight(dim, impl=impl if impl == "triton" else rest(impl), **dd)
        self.proj = nn.Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def check_grid(self, new_grid: Grid) -> None:
        """Raise a ValueError unless both sides divide the channels.

        On another grid only the cut into segments changes, the weights keep their values.
        """
        height, width = new_grid
        if min(height, width) < 1 or self.dim % height or self.dim % width:
            divisors = ", ".join(str(n) for n in range(1, self.dim + 1) if self.dim % n == 0)
            raise ValueError(
                f"{self.dim} channels cannot be cut into {height} and {width} segments: choose among {divisors}"
            )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        check_grid(x_BHWC.shape[1], x_BHWC.shape[2], self.grid, self.dim)
        h_BHWC, w_BHWC = self.mlp_h(x_BHWC), self.mlp_w(x_BHWC)
        c_BHWC = apply_linear(self.mlp_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, h_BHWC, w_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"segment_dim={self.grid}"
