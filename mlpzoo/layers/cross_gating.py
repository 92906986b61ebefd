"""Cross gating: two maps, each gated by what multi-axis mixing makes of the other.

Shape suffixes: B batch, H × W positions, C channels, T positions mixed with one another, N sets of them.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.conv_nhwc import UpsampleNHWC
from mlpzoo.layers.init import flax_default_, normal_002_
from mlpzoo.layers.linear import apply_linear
from mlpzoo.layers.mixing import TokenLinear
from mlpzoo.ops import partition, unpartition


class MultiAxisGate(nn.Module):
    """A map to the gate that it sets: half of the channels mixed across the grid, half inside blocks.

    Source: `GetSpatialGatingWeights` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels.
        block_size: side of a block, in positions.
        grid_size: side of the grid, in cells.
        factor: channels after widening over `dim`.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorm; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same; both sizes divide both sides.
    """

    def __init__(
        self,
        dim: int,
        block_size: int,
        grid_size: int,
        *,
        factor: int = 2,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if factor * dim % 2:
            raise ValueError(f"{factor} × {dim} channels do not divide into two halves")
        self.block_size, self.grid_size = block_size, grid_size
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.fc1 = nn.Linear(dim, factor * dim, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.grid = TokenLinear(grid_size**2, grid_size**2, device=device, dtype=dtype)
        self.block = TokenLinear(block_size**2, block_size**2, device=device, dtype=dtype)
        self.fc2 = nn.Linear(factor * dim, dim, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the gate, of the same shape."""
        u_BHWC, v_BHWC = apply_linear(self.fc1, self.norm(x_BHWC), self.act).chunk(2, dim=-1)
        u_BHWC = _mix(u_BHWC, self.grid, "grid", self.grid_size)
        v_BHWC = _mix(v_BHWC, self.block, "block", self.block_size)
        return apply_linear(self.fc2, torch.cat([u_BHWC, v_BHWC], dim=-1))

    def reset_parameters(self) -> None:
        """As the authors draw: the mixing starts near a gate of one."""
        for linear in (self.fc1, self.fc2):
            flax_default_(linear)
        for mixing in (self.grid, self.block):
            normal_002_(mixing, bias=1.0)


def _mix(x_BHWC: Tensor, layer: TokenLinear, kind: str, size: int) -> Tensor:
    """Apply a layer to the positions that a partition mixes."""
    x_BTNC = partition(x_BHWC, kind, size)
    y_BTNC = layer(x_BTNC.flatten(2)).view(x_BTNC.shape)
    return unpartition(y_BTNC, kind, size, x_BHWC.shape[1], x_BHWC.shape[2])


class CrossGating(nn.Module):
    """Fuse two maps by letting each gate the other (MAXIM, arXiv:2201.02973, section 3.3).

    Source: `CrossGatingBlock` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        in_dim: channels of the first map.
        y_dim: channels of the second map.
        dim: channels of both results.
        block_size: side of a block, in positions.
        grid_size: side of the grid, in cells.
        upsample_y: whether the second map is half as large as the first, and is upsampled to begin with.
        factor: channels over `dim` inside the gates.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorms; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, in_dim)` and `(batch, height, width, y_dim)`, or half of that height and width, to
        two of `(batch, height, width, dim)`: the fused map, and the second map gated.
    """

    def __init__(
        self,
        in_dim: int,
        y_dim: int,
        dim: int,
        block_size: int,
        grid_size: int,
        *,
        upsample_y: bool,
        factor: int = 2,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.upsample_y = UpsampleNHWC(y_dim, dim, device=device, dtype=dtype) if upsample_y else nn.Identity()
        self.in_x = nn.Linear(in_dim, dim, device=device, dtype=dtype)
        self.in_y = nn.Linear(dim if upsample_y else y_dim, dim, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.norm_x, self.norm_y = (nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype) for _ in range(2))
        self.fc_x, self.fc_y = (nn.Linear(dim, dim, device=device, dtype=dtype) for _ in range(2))
        self.gate_x, self.gate_y = (
            MultiAxisGate(
                dim,
                block_size,
                grid_size,
                factor=factor,
                act_layer=act_layer,
                norm_eps=norm_eps,
                device=device,
                dtype=dtype,
            )
            for _ in range(2)
        )
        self.out_x, self.out_y = (nn.Linear(dim, dim, device=device, dtype=dtype) for _ in range(2))
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor, y_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """The two maps to the fused map and the second map gated."""
        x_in = apply_linear(self.in_x, x_BHWC)
        y_in = apply_linear(self.in_y, self.upsample_y(y_BHWC))
        x = apply_linear(self.fc_x, self.norm_x(x_in), self.act)
        y = apply_linear(self.fc_y, self.norm_y(y_in), self.act)
        gated_y = apply_linear(self.out_y, y * self.gate_x(x)) + y_in
        gated_x = apply_linear(self.out_x, x * self.gate_y(y))
        return gated_x + gated_y + x_in, gated_y

    def reset_parameters(self) -> None:
        """flax's defaults for the linears outside the gates."""
        for linear in (self.in_x, self.in_y, self.fc_x, self.fc_y, self.out_x, self.out_y):
            flax_default_(linear)
