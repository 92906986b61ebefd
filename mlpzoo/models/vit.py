"""Vision Transformer and its hybrids (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929).

Authors' code: google-research/vision_transformer, `vit_jax/models_vit.py` at c6de1e5 (Apache-2.0).
What differs: channels, image size and patch size are free, and position embeddings are resized to any grid by
antialiased bicubic interpolation, where the authors take square ones and bilinear. The outputs are theirs: GELU in
its tanh form and epsilon 1e-6 are flax's defaults. Dropout, which the authors' configs of L/16, H/14 and the R50
hybrids set to 0.1 for training, is 0 here until asked for.

Shape suffixes: B batch, I image channels, H × W pixels, T tokens (the class token included), C channels of a token.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from timm.layers import lecun_normal_
from torch import Tensor, nn

from mlpzoo.layers import EncoderBlock, GridBound, PatchEmbed, ResNetStem
from mlpzoo.layers.grid_bound import GridFound
from mlpzoo.models._base import take_indices
from mlpzoo.models._family import HALF, Family
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig
from mlpzoo.models.vit_files import FORMATS, RELEASED, TO_TIMM
from mlpzoo.ops import resize_output_tokens
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class VitConfig(IsotropicConfig):
    """Settings of a Vision Transformer.

    Attributes:
        num_heads: heads of each attention.
        mlp_dim: hidden units of each MLP.
        class_token: whether a learned token stands in front of the patches.
        global_pool: `"token"` for the class token, `"avg"` for the mean over patches, `""` for all tokens.
        representation_size: units of a tanh layer before the head, which the authors pre-train with; None for none.
        resnet_depths: bottlenecks of each stage of the ResNet in front, possibly none; None for no ResNet. `patch_size`
            counts pixels of the image all the same.
        resnet_width: channels after the root of that ResNet.
        pos_drop_rate: dropout rate after the position embeddings.
        attn_drop_rate: dropout rate of the attention weights.
    """

    num_heads: int
    mlp_dim: int
    class_token: bool = True
    global_pool: str = "token"
    representation_size: int | None = None
    resnet_depths: tuple[int, ...] | None = None
    resnet_width: int = 64
    pos_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    act_layer: str = "gelu_tanh"

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("mlp_dim", self.mlp_dim >= 1, "1 or more")
        self._require(
            "representation_size", self.representation_size is None or self.representation_size >= 1, "1 or more"
        )
        for name in ("pos_drop_rate", "attn_drop_rate"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        if self.resnet_depths is not None:
            # JSON has no tuples: a config that went through a file comes back with lists.
            object.__setattr__(self, "resnet_depths", tuple(self.resnet_depths))

    @property
    def first_conv(self) -> str:
        """Name of the convolution that sees the image."""
        return super().first_conv if self.resnet_depths is None else "stem.backbone.conv_root"

    @property
    def stem_width(self) -> int:
        """Channels of a token, or of a hybrid what its ResNet begins with."""
        return super().stem_width if self.resnet_depths is None else self.resnet_width

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """As in the base class, and the units of the tanh layer before the head, where there is one."""
        told = super().fields_from_shapes(shapes)
        representation = shapes.get("pre_logits.fc.bias")
        return {**told, "representation_size": representation[0]} if told and representation else told


class VisionTransformer(GridBound, IsotropicBackbone):
    """Patch or hybrid embedding, class token, `depth` encoder blocks, LayerNorm, pool, optional tanh layer, head."""

    family = "vit"
    global_pools = ("token", "avg", "")
    config: VitConfig

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`, `cls_token` and `pos_embed`."""
        config = self.config
        backbone = None
        if config.resnet_depths is not None:
            backbone = ResNetStem(
                config.in_chans, config.resnet_depths, width=config.resnet_width, norm_eps=config.norm_eps, **dd
            )
        self.stem = PatchEmbed(
            config.img_size, config.patch_size, config.in_chans, config.embed_dim, backbone=backbone, **dd
        )
        self.grid = self.stem.grid
        self.num_prefix_tokens = int(config.class_token)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.embed_dim, **dd)) if config.class_token else None
        num_tokens = self.num_prefix_tokens + self.stem.num_patches
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, config.embed_dim, **dd))
        self.pos_drop = nn.Dropout(config.pos_drop_rate)

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `EncoderBlock`."""
        config = self.config
        return EncoderBlock(
            config.embed_dim,
            config.num_heads,
            config.mlp_dim,
            norm_eps=config.norm_eps,
            act_layer=config.act_layer,
            attn_drop=config.attn_drop_rate,
            drop_path=drop_path,
            drop=config.proj_drop_rate,
            impl=config.impl,
            **dd,
        )

    def build_head(self, **dd: Any) -> None:
        """Create the representation layer, if the config has one, and the head."""
        size = self.config.representation_size
        if size is not None:
            self.head_hidden_size = size
        super().build_head(**dd)
        if size is not None:
            fc = nn.Linear(self.embed_dim, size, **dd)
            self.pre_logits = nn.Sequential(OrderedDict(fc=fc, act=nn.Tanh()))

    def reset_parameters(self) -> None:
        """As the authors do: flax's LeCun normal outside the blocks, a class token and a head of zeros."""
        for module in (*self.stem.modules(), *self.blocks, self.norm):
            if isinstance(module, EncoderBlock | ResNetStem | nn.LayerNorm):
                module.reset_parameters()
        for module in (self.stem.proj, *self.pre_logits.children()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                assert module.bias is not None
                lecun_normal_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.zeros_(self.cls_token)
        self.reset_classifier_parameters()

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to tokens with their positions, the class token first."""
        x_BTC = self.stem(x_BIHW)
        if self.cls_token is not None:
            x_BTC = torch.cat([self.cls_token.expand(x_BTC.shape[0], -1, -1), x_BTC], dim=1)
        return self.pos_drop(x_BTC + self.pos_embed)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """An image batch to logits; for the mask, over all tokens with the class token, see `mlpzoo.ops.attention`."""
        return self.forward_head(self.forward_features(x, attn_mask))

    def forward_features(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """An image batch to normalized, unpooled tokens, the class token first."""
        if attn_mask is None:
            return super().forward_features(x)
        net, x = self.fitting(x)
        *_, x = net._walk_masked(net.embed(x), len(net.blocks) - 1, attn_mask)
        return net.norm(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        *,
        return_prefix_tokens: bool = False,
        attn_mask: Tensor | None = None,
    ) -> Any:
        """Tokens after chosen blocks, see `Backbone.forward_intermediates`.

        Args:
            x: as there, like the arguments not named here.
            indices: the same.
            norm: the same.
            stop_early: the same.
            output_fmt: the same.
            intermediates_only: the same.
            return_prefix_tokens: whether each feature is a pair of the patches' and the class token, as in timm; a
                network without a class token gives no pairs.
            attn_mask: what may be attended to, over all tokens with the class token.
        """
        pairs = return_prefix_tokens and self.num_prefix_tokens > 0
        if not pairs and attn_mask is None:
            return super().forward_intermediates(x, indices, norm, stop_early, output_fmt, intermediates_only)
        if output_fmt not in self.feature_formats:
            raise ValueError(f"unknown output_fmt '{output_fmt}': choose 'NCHW' or 'NLC'")
        taken = take_indices(len(self.blocks), indices)
        last = max(taken) if stop_early else len(self.blocks) - 1
        features: dict[int, Any] = {}
        net, x = self.fitting(x)
        for i, y in enumerate(net._walk_masked(net.embed(x), last, attn_mask)):
            x = y
            if i in taken:
                feature = net.as_feature(x, i, norm, output_fmt)
                features[i] = (feature, (net.norm(x) if norm else x)[:, : self.num_prefix_tokens]) if pairs else feature
        intermediates = [features[i] for i in taken]
        return intermediates if intermediates_only else (net.finish(x, last), intermediates)

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        attn_mask: Tensor | None = None,
    ) -> list[Any]:
        """Tokens after chosen blocks, by the name and with the arguments of timm's and DINO's ViT.

        Args:
            x: image batch, `(batch, in_chans, height, width)`.
            n: the last n blocks, or those listed.
            reshape: whether to give maps `(batch, channels, height, width)` instead of tokens.
            return_prefix_tokens: whether each is a pair of the patches' and the class token.
            norm: whether to apply the final norm.
            attn_mask: what may be attended to.

        Returns:
            Tokens `(batch, patches, channels)`, a list over blocks.
        """
        found: list[Any] = self.forward_intermediates(
            x,
            n,
            norm,
            output_fmt="NCHW" if reshape else "NLC",
            intermediates_only=True,
            return_prefix_tokens=return_prefix_tokens,
            attn_mask=attn_mask,
        )
        return found

    def _walk_masked(self, x: Tensor, last: int, attn_mask: Tensor | None) -> Iterator[Tensor]:
        """As `walk`, with a mask; activations are then kept."""
        if attn_mask is None:
            yield from self.walk(x, last)
            return
        for block in self.blocks[: last + 1]:
            x = block(x, attn_mask=attn_mask)
            yield x

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The position embeddings of the patches; that of the class token stays."""
        prefix, patches = self.pos_embed.tensor_split([self.num_prefix_tokens], dim=1)
        patches = resize_output_tokens(patches[0].T, self.grid, new_grid).T[None]
        yield "pos_embed", torch.cat([prefix, patches], dim=1)

    def grid_in(self, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> GridFound:
        """How many patch tokens a state dict of these shapes is bound to."""
        shape = shapes.get(f"{prefix}pos_embed", ())
        return GridFound(tokens=shape[1] - (f"{prefix}cls_token" in shapes) if len(shape) == 3 else None)

    def explain_misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Name the option that a file of these shapes was built with, where it is a known one."""
        shape = shapes.get("pre_logits.fc.bias")
        size = shape[0] if shape else None
        if size != self.config.representation_size:
            return f"The file wants a model built with representation_size={size}"
        if ("cls_token" in shapes) != self.config.class_token:
            pool = "token" if "cls_token" in shapes else "avg"
            return f"The file wants a model built with class_token={pool == 'token'}, global_pool='{pool}'"
        return super().explain_misfit(shapes)

    def no_weight_decay(self) -> set[str]:
        """The embeddings, which are no linear maps."""
        return {"pos_embed", "cls_token"} & set(dict(self.named_parameters()))

    def _checked_pool(self, global_pool: str) -> str:
        if global_pool == "token" and not self.config.class_token:
            raise ValueError("global_pool='token' needs a class token, which this network has not: choose 'avg' or ''")
        return super()._checked_pool(global_pool)


# Base, large and huge are the paper's Table 1; the authors' `vit_jax/configs/models.py` has all of them.
TINY: dict[str, Any] = {"embed_dim": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768}
SMALL: dict[str, Any] = {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536}
BASE: dict[str, Any] = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072}
LARGE: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096}
HUGE: dict[str, Any] = {"embed_dim": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120}
GAP: dict[str, Any] = {"class_token": False, "global_pool": "avg"}

FAMILY = Family(
    name="vit",
    title="ViT",
    paper="https://arxiv.org/abs/2010.11929",
    code="https://github.com/google-research/vision_transformer/blob/c6de1e5/vit_jax/models_vit.py",
    license="Apache-2.0",
    model=VisionTransformer,
    data={"mean": HALF, "std": HALF},
    variants={
        "vit_ti16": VitConfig(patch_size=16, **TINY),
        "vit_s32": VitConfig(patch_size=32, **SMALL),
        "vit_s16": VitConfig(patch_size=16, **SMALL),
        "vit_b32": VitConfig(patch_size=32, **BASE),
        "vit_b16": VitConfig(patch_size=16, **BASE),
        "vit_b8": VitConfig(patch_size=8, **BASE),
        "vit_l32": VitConfig(patch_size=32, **LARGE),
        "vit_l16": VitConfig(patch_size=16, **LARGE),
        "vit_h14": VitConfig(patch_size=14, **HUGE),
        "vit_s32_gap": VitConfig(patch_size=32, **SMALL, **GAP),
        "vit_s16_gap": VitConfig(patch_size=16, **SMALL, **GAP),
        "vit_b32_gap": VitConfig(patch_size=32, **BASE, **GAP),
        "vit_b16_gap": VitConfig(patch_size=16, **BASE, **GAP),
        # Named 16 by the authors, yet its root halves the image twice before patches of 8: they are 32 pixels wide.
        "vit_r_ti16": VitConfig(patch_size=32, resnet_depths=(), **TINY),
        "vit_r26_s32": VitConfig(patch_size=32, resnet_depths=(2, 2, 2, 2), **SMALL),
        "vit_r26_b32": VitConfig(patch_size=32, resnet_depths=(2, 2, 2, 2), **BASE),
        "vit_r50_b16": VitConfig(patch_size=16, resnet_depths=(3, 4, 9), **BASE),
        "vit_r50_l32": VitConfig(patch_size=32, resnet_depths=(3, 4, 6, 3), **LARGE),
    },
    weights=RELEASED,
    formats=FORMATS,
    to_timm=TO_TIMM,
    timm_twins={
        f"vit_{size}": f"vit_{name}_224"
        for size, name in (
            ("ti16", "tiny_patch16"),
            ("s32", "small_patch32"),
            ("s16", "small_patch16"),
            ("b32", "base_patch32"),
            ("b16", "base_patch16"),
            ("l32", "large_patch32"),
            ("l16", "large_patch16"),
        )
    },
)
