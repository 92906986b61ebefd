"""Mixing along the height and along the width, fused with the map itself (sMLPNet, Caterpillar).

Shape suffixes: B batch, C channels, H × W positions.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.folding import channel_scale, is_fixed
from mlpzoo.layers.grid_bound import GridAxes, GridBound
from mlpzoo.layers.mlp import MlpBlock
from mlpzoo.ops.axis_mixing import axis_mixing
from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.resize import Grid


class AxisMixing(nn.Module):
    """A linear layer over the positions of each line along one axis, shared by all channels.

    It keeps its parameters as `nn.Linear(length, length)` would, but is no subclass of it: tools that swap every
    `nn.Linear` of a model apply theirs to the last axis, which would be wrong here.

    Args:
        length: positions of a line.
        axis: 2 for lines along the height, 3 along the width.
        impl: which implementation of `mlpzoo.ops.axis_mixing` runs.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, channels, height, width)` to the same.
    """

    def __init__(
        self,
        length: int,
        axis: int,
        *,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.impl = impl
        self.weight = nn.Parameter(torch.empty(length, length, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(length, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as `nn.Linear` draws its own."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same."""
        return axis_mixing(x_BCHW, self.weight, self.bias, self.axis, self.impl)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.weight.shape[0]}, axis={self.axis}, impl={self.impl!r}"


@one_call
def fused(weight: Tensor, bias: Tensor | None, impl: str, *branches: Tensor) -> Tensor:
    """A 1×1 convolution of branches side by side, without putting them side by side in memory.

    Args:
        weight: kernel, `(out, channels of all branches, 1, 1)`.
        bias: bias, `(out,)`, or None.
        impl: `"auto"` or `"reference"`.
        branches: maps `(B, C, H, W)`, best in PyTorch's channels-last format.
    """
    if impl == "reference":
        return F.conv2d(torch.cat(branches, 1), weight, bias)
    parts = weight.flatten(1).split([branch.shape[1] for branch in branches], 1)
    first = branches[0]
    batch, _, height, width = first.shape
    rows = [branch.permute(0, 2, 3, 1).flatten(0, 2) for branch in branches]
    y = F.linear(rows[0], parts[0], bias)
    # In place is safe: the gradient of a sum of products needs their factors alone. Autocast wants to choose the type.
    in_place = fast_path(*branches, weight) and y.dtype == weight.dtype == first.dtype
    for row, part in zip(rows[1:], parts[1:], strict=True):
        y = y.addmm_(row, part.T) if in_place else torch.addmm(y, row, part.T)
    return y.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


def fuse(layer: nn.Module, impl: str, *branches: Tensor) -> Tensor:
    """What a 1×1 convolution makes of branches side by side; a layer that is more than that gets them so."""
    if fast_path(layer):
        assert isinstance(layer, nn.Conv2d)
        return fused(layer.weight, layer.bias, impl, *branches)
    return layer(torch.cat(branches, 1))


class AxialFusion(GridBound):
    """BatchNorm, activation, mixing along each axis, and a 1×1 convolution of the map and both mixtures.

    Source: `sMLPBlock` of microsoft/SPACH, `models/smlp.py` at dcede1e; `globalMix` of sunjin19126/Caterpillar.
    There `proj_h` is what mixes along the width; here each is named after its axis.

    Args:
        dim: channels.
        grid: height and width of the map, in positions.
        act: the activation.
        norm_eps: epsilon of the BatchNorm.
        impl: which implementations run.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, dim, height, width)` to the same.
    """

    grid_axes: ClassVar[GridAxes] = {
        "proj_h.weight": ("out_height", "in_height"),
        "proj_h.bias": ("out_height",),
        "proj_w.weight": ("out_width", "in_width"),
        "proj_w.bias": ("out_width",),
    }

    def __init__(
        self, dim: int, grid: Grid, act: nn.Module, *, norm_eps: float = 1e-5, impl: str = "auto", **dd: Any
    ) -> None:
        super().__init__()
        self.grid = grid
        self.impl = impl
        self.norm: nn.Module = nn.BatchNorm2d(dim, eps=norm_eps, **dd)
        self.act = act
        self.proj_w = AxisMixing(grid[1], 3, impl=impl, **dd)
        self.proj_h = AxisMixing(grid[0], 2, impl=impl, **dd)
        self.fuse = nn.Conv2d(3 * dim, dim, 1, bias=False, **dd)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, dim, height, width)` to the same."""
        x_BCHW = self.act(self.norm(x_BCHW))
        return fuse(self.fuse, self.impl, x_BCHW, self.proj_w(x_BCHW), self.proj_h(x_BCHW))

    def folded(self) -> nn.Module:
        """Itself with its BatchNorm fixed."""
        if is_fixed(self.norm):
            self.register_module("norm", channel_scale(self.norm))
        return self


class LocalAxialBlock(nn.Module):
    """Local and axial mixing under one skip, then an MLP over the channels (sMLPNet, Caterpillar).

    Args:
        dim: channels.
        local: the local mixing, `(batch, dim, height, width)` to the same.
        grid: height and width of the map, in positions.
        mlp_dim: hidden units of the MLP.
        act_layer: name of the activations, see `create_activation`.
        norm_eps: epsilon of the norms.
        drop: dropout rate inside the MLP.
        drop_path: stochastic depth rate of both branches.
        impl: which implementations run.
        dd: `device` and `dtype` of the parameters.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        local: nn.Module,
        grid: Grid,
        mlp_dim: int,
        *,
        act_layer: str,
        norm_eps: float = 1e-5,
        drop: float = 0.0,
        drop_path: float = 0.0,
        impl: str = "auto",
        **dd: Any,
    ) -> None:
        super().__init__()
        self.local = local
        self.axial = AxialFusion(dim, grid, create_activation(act_layer), norm_eps=norm_eps, impl=impl, **dd)
        self.norm = nn.LayerNorm(dim, eps=norm_eps, **dd)
        self.mlp = MlpBlock(dim, mlp_dim, act_layer=act_layer, drop=drop, impl=impl, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        mixed_BCHW = self.axial(self.local(x_BHWC.permute(0, 3, 1, 2)))
        x_BHWC = x_BHWC + self.drop_path(mixed_BCHW.permute(0, 2, 3, 1))
        return x_BHWC + self.drop_path(self.mlp(self.norm(x_BHWC)))
