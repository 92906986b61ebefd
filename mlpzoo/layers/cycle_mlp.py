"""Spatial mixing of CycleMLP.

Shape suffixes: B batch, H × W positions, C channels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mlpzoo.layers.cycle_fc import CycleFC
from mlpzoo.layers.linear import apply_linear, rest
from mlpzoo.layers.split_reweight import SplitReweight, reweighted_and_projected


class CycleMLP(nn.Module):
    """Two Cycle FCs, one along each axis, and a linear layer over the channels, weighed, added and projected.

    Source: `CycleMLP` of ShoufaChen/CycleMLP, `cycle_mlp.py` at 4e062a0. Its names are kept, so `sfc_h` reads along the
    width and `sfc_w` along the height.

    Args:
        dim: channels.
        qkv_bias: whether `mlp_c` has a bias; the Cycle FCs have one in any case.
        qk_scale: without effect, as in the authors' code.
        attn_drop: without effect, as in the authors' code.
        proj_drop: dropout rate after the projection.
        step_size: step size of the Cycle FCs, odd.
        sampling: where the Cycle FCs read, see `CycleFC`.
        dilation: what their offsets are multiplied by where `sampling` is `"dilated"`.
        seed: seed of their offsets where `sampling` is `"random"`; the two draw apart.
        impl: which implementation of `mlpzoo.ops.cycle_fc` runs; if `"reference"` or `"triton"`, of every
            op inside that has one.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: for what `CycleFC` refuses.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        *,
        step_size: int = 3,
        sampling: str = "cycle",
        dilation: int = 1,
        seed: int = 0,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.impl = rest(impl)
        self.mlp_c = nn.Linear(dim, dim, qkv_bias, **dd)
        options: dict[str, Any] = {"dilation": dilation, "sampling": sampling, "impl": impl, **dd}
        self.sfc_h = CycleFC(dim, dim, (1, step_size), seed=2 * seed, **options)
        self.sfc_w = CycleFC(dim, dim, (step_size, 1), seed=2 * seed + 1, **options)
        self.reweight = SplitReweight(dim, impl=impl if impl == "triton" else rest(impl), **dd)
        self.proj = nn.Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        h_BHWC = self.sfc_h(x_BCHW).permute(0, 2, 3, 1)
        w_BHWC = self.sfc_w(x_BCHW).permute(0, 2, 3, 1)
        c_BHWC = apply_linear(self.mlp_c, x_BHWC, impl=self.impl)
        x_BHWC = reweighted_and_projected(self.reweight, self.proj, h_BHWC, w_BHWC, c_BHWC, impl=self.impl)
        return self.proj_drop(x_BHWC)
