"""The block that most networks of this kind repeat.

Shape suffixes: B batch, H × W positions, C channels.
"""

from collections.abc import Callable

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers.linear import rest
from mlpzoo.layers.mlp import MlpBlock


class ResidualBlock(nn.Module):
    """A spatial mixing, then an MLP over the channels, each after a norm and with a skip.

    Args:
        dim: channels.
        mixing: the spatial mixing, `(batch, height, width, dim)` to the same.
        mlp_dim: hidden units of the MLP.
        act_layer: name of the MLP's activation, see `create_activation`.
        norm_layer: what makes the two norms, called as `nn.LayerNorm` is.
        norm_eps: epsilon of the norms.
        drop: dropout rate inside the MLP.
        drop_path: stochastic depth rate of both branches.
        recompute: whether the MLP's hidden layer is computed again in the backward pass, see `MlpBlock`.
        linear_layer: class of the MLP's linears, see `mlpzoo.layers.pointwise`.
        impl: whether the MLP runs `"reference"` implementations; the mixing knows its own.
        device: where the parameters live.
        dtype: their type.

    Shape:
        `(batch, height, width, dim)` to the same.
    """

    def __init__(
        self,
        dim: int,
        mixing: nn.Module,
        mlp_dim: int,
        *,
        act_layer: str = "gelu",
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        norm_eps: float = 1e-5,
        drop: float = 0.0,
        drop_path: float = 0.0,
        recompute: bool = False,
        linear_layer: type[nn.Linear] = nn.Linear,
        impl: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim, eps=norm_eps, device=device, dtype=dtype)
        # The authors of CycleMLP and ViP call their mixing attention, and so do their checkpoints.
        self.attn = mixing
        self.norm2 = norm_layer(dim, eps=norm_eps, device=device, dtype=dtype)
        self.mlp = MlpBlock(
            dim,
            mlp_dim,
            act_layer=act_layer,
            drop=drop,
            recompute=recompute,
            linear_layer=linear_layer,
            impl=rest(impl),
            device=device,
            dtype=dtype,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, height, width, dim)` to the same."""
        x_BHWC = x_BHWC + self.drop_path(self.attn(self.norm1(x_BHWC)))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))
