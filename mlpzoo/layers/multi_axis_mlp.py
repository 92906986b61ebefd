"""The multi-axis gated MLP: one half of the channels mixes inside blocks, the other half across a grid.

Shape suffixes: B batch, H × W positions, C channels, T positions mixed with one another, N sets of them.
"""

import torch
from torch import Tensor, nn

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.init import normal_002_
from mlpzoo.layers.linear import apply_linear
from mlpzoo.layers.mixing import TokenLinear
from mlpzoo.ops import partition, unpartition


class PartitionedGatedMlp(nn.Module):
    """A gMLP over the sets of positions of one partition, with a skip.

    The channels are widened and halved; one half, normalized and mixed over the positions, plus one gates the other.

    Source: `GridGmlpLayer` and `BlockGmlpLayer` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels.
        kind: `"block"` or `"grid"`, see `mlpzoo.ops.partition`.
        size: side of a block in positions, or of the grid in cells.
        factor: channels after widening over `dim`.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorms; flax's default is 1e-6.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same; `size` divides both sides.
    """

    def __init__(
        self,
        dim: int,
        kind: str,
        size: int,
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
        self.kind, self.size = kind, size
        half = factor * dim // 2
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.fc1 = nn.Linear(dim, 2 * half, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.gate_norm = nn.LayerNorm(half, eps=norm_eps, device=device, dtype=dtype)
        self.gate = TokenLinear(size * size, size * size, device=device, dtype=dtype)
        self.fc2 = nn.Linear(half, dim, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BTNC = partition(x_BHWC, self.kind, self.size)
        u_BTNC, v_BTNC = apply_linear(self.fc1, self.norm(x_BTNC), self.act).chunk(2, dim=-1)
        # To the token mixing, sets and channels are all channels.
        v_BTNC = self.gate(self.gate_norm(v_BTNC).flatten(2)).view(u_BTNC.shape)
        x_BTNC = x_BTNC + apply_linear(self.fc2, torch.addcmul(u_BTNC, u_BTNC, v_BTNC))
        return unpartition(x_BTNC, self.kind, self.size, x_BHWC.shape[1], x_BHWC.shape[2])

    def reset_parameters(self) -> None:
        """Kernels from a normal distribution of deviation 0.02 and zero biases, as the authors draw."""
        for layer in (self.fc1, self.gate, self.fc2):
            normal_002_(layer)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"kind={self.kind!r}, size={self.size}"


class MultiAxisMlp(nn.Module):
    """Widen, halve, mix one half across the grid and one inside blocks, join, project, add (MAXIM, section 3.2).

    Source: `ResidualSplitHeadMultiAxisGmlpLayer` of google-research/maxim, `maxim/models/maxim.py` at 3c82651.

    Args:
        dim: channels.
        block_size: side of a block, in positions.
        grid_size: side of the grid, in cells.
        factor: channels after widening over `dim`.
        block_factor: `factor` of the gMLP inside blocks.
        grid_factor: `factor` of the gMLP across the grid.
        act_layer: name of the activation; the authors' is flax's GELU, the tanh form.
        norm_eps: epsilon of the LayerNorms; flax's default is 1e-6.
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
        block_factor: int = 2,
        grid_factor: int = 2,
        act_layer: str = "gelu_tanh",
        norm_eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if factor * dim % 2:
            raise ValueError(f"{factor} × {dim} channels do not divide into two halves")
        half = factor * dim // 2
        self.norm = nn.LayerNorm(dim, eps=norm_eps, device=device, dtype=dtype)
        self.fc1 = nn.Linear(dim, 2 * half, device=device, dtype=dtype)
        self.act = create_activation(act_layer)
        self.grid, self.block = (
            PartitionedGatedMlp(
                half, kind, size, factor=widening, act_layer=act_layer, norm_eps=norm_eps, device=device, dtype=dtype
            )
            for kind, size, widening in (("grid", grid_size, grid_factor), ("block", block_size, block_factor))
        )
        self.fc2 = nn.Linear(2 * half, dim, device=device, dtype=dtype)
        self.reset_parameters()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        u_BHWC, v_BHWC = apply_linear(self.fc1, self.norm(x_BHWC), self.act).chunk(2, dim=-1)
        mixed_BHWC = torch.cat([self.grid(u_BHWC), self.block(v_BHWC)], dim=-1)
        return x_BHWC + apply_linear(self.fc2, mixed_BHWC)

    def reset_parameters(self) -> None:
        """Kernels of the two linears from a normal distribution of deviation 0.02, zero biases, as the authors draw."""
        for layer in (self.fc1, self.fc2):
            normal_002_(layer)
