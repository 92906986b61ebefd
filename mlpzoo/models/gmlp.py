"""gMLP: Pay Attention to MLPs (Liu et al., 2021, https://arxiv.org/abs/2105.08050).

The authors released neither vision code nor weights. The network follows the paper; what the paper leaves open (the
epsilons of the norms, how the linears are drawn) follows timm's `mlp_mixer.py` at 1.0.31, where the only public
weights were trained. Parameter names are timm's.
What differs: image size, patch size and channels are free; tokens stay dense in (batch, tokens, channels), where timm
transposes them for the gate; the paper's tiny attention in the gate, aMLP, is there as `attn_dim=64`.
"""

import dataclasses
from typing import Any

from timm.layers import lecun_normal_
from torch import nn

from mlpzoo.layers import GMLPBlock
from mlpzoo.models._family import HALF, Family, Weights
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig
from mlpzoo.models._keymap import same, writer


@dataclasses.dataclass(frozen=True, kw_only=True)
class GMlpConfig(IsotropicConfig):
    """Settings of a gMLP.

    Attributes:
        mlp_dim: hidden units of a block's MLP, the paper's d_ffn; the gate halves them, so the number is even.
        attn_dim: channels of the single-headed attention in every gate, 64 in the paper's aMLP; 0 for none.
        gate_norm_eps: epsilon of the LayerNorm in every gate, where timm keeps PyTorch's default.
    """

    mlp_dim: int
    attn_dim: int = 0
    gate_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("mlp_dim", self.mlp_dim >= 2 and self.mlp_dim % 2 == 0, "an even number, 2 or more")
        self._require("attn_dim", self.attn_dim >= 0, "0 or more")


class GMlp(IsotropicBackbone):
    """Patch embedding, `depth` gMLP blocks, LayerNorm, mean over tokens, linear head."""

    family = "gmlp"
    config: GMlpConfig

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `GMLPBlock`."""
        config = self.config
        return GMLPBlock(
            config.embed_dim,
            config.mlp_dim,
            self.stem.grid,
            attn_dim=config.attn_dim,
            act_layer=config.act_layer,
            norm_eps=config.norm_eps,
            gate_norm_eps=config.gate_norm_eps,
            drop=config.proj_drop_rate,
            drop_path=drop_path,
            impl=config.impl,
            **dd,
        )

    def reset_parameters(self) -> None:
        """Open the gates, as the paper does; draw the rest as timm does: patches LeCun normal, a head of zeros."""
        assert self.stem.proj.bias is not None
        lecun_normal_(self.stem.proj.weight)
        nn.init.zeros_(self.stem.proj.bias)
        for module in (*self.blocks, self.norm):
            module.reset_parameters()
        self.reset_classifier_parameters()


# Sizes are timm's. Rates of stochastic depth are one minus the survival probabilities 1.00, 0.95 and 0.80, which are
# said to be those of the paper's Table 1 but were not checked against it; that the rate ramps up over the blocks is the
# rule of the work it cites (arXiv:1603.09382).
COMMON: dict[str, Any] = {"patch_size": 16, "depth": 30}

TO_TIMM = writer(
    "timm's layout",
    (
        *same("stem.proj.*", "blocks.*.norm.*", "blocks.*.mlp_channels.fc1.*", "blocks.*.mlp_channels.fc2.*"),
        *same("blocks.*.mlp_channels.gate.norm.*", "blocks.*.mlp_channels.gate.proj.*", "norm.*", "head.*"),
    ),
)


FAMILY = Family(
    name="gmlp",
    title="gMLP",
    paper="https://arxiv.org/abs/2105.08050",
    code="https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/models/mlp_mixer.py",
    license="Apache-2.0",
    model=GMlp,
    data={"mean": HALF, "std": HALF},
    variants={
        "gmlp_ti16": GMlpConfig(embed_dim=128, mlp_dim=768, **COMMON),
        "gmlp_s16": GMlpConfig(embed_dim=256, mlp_dim=1536, drop_path_rate=0.05, **COMMON),
        "gmlp_b16": GMlpConfig(embed_dim=512, mlp_dim=3072, drop_path_rate=0.2, **COMMON),
    },
    weights={
        "gmlp_s16.ra3_in1k": Weights(
            url="https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"
            "gmlp_s16_224_raa-10536d42.pth",
            license="Apache-2.0",
            top1=79.65,
            top1_source="timm's results-imagenet.csv at aa4b585",
        ),
    },
    to_timm=TO_TIMM,
    timm_twins={f"gmlp_{size}": f"gmlp_{size}_224" for size in ("ti16", "s16", "b16")},
)
