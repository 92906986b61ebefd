"""FF-only: do you even need attention? (Melas-Kyriazi, 2021, https://arxiv.org/abs/2105.02723).

Authors' code: lukemelas/do-you-even-need-attention, `vision_transformer_linear.py` at 1f57ab0 (without a licence: this
file follows facts about it).
What differs: images need not be square, and token weights can be resized to another grid. Names of variants: the
author's `linear_tiny` is `ff_only_tiny`.

Shape suffixes: B batch, I image channels, H × W pixels, T tokens, the class token included, C channels.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import MlpBlock, TokenLinear, TokenMixing
from mlpzoo.layers.grid_bound import GridFound
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._isotropic import IsotropicBackbone, IsotropicConfig
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.models._pyramid import reset_linear
from mlpzoo.ops.resize import Grid, resize_axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class FFOnlyConfig(IsotropicConfig):
    """Settings of an FF-only network.

    Attributes:
        tokens_mlp_dim: hidden units of the MLP over the tokens; the author's are four times as many as tokens.
        mlp_ratio: hidden units of the MLP over the channels for every channel.
        pos_grid: height and width of the table of positions, which is resized bilinearly to the patches of an image.
        global_pool: `"token"` for the class token, `"avg"` for the mean over patches, `""` for all tokens.
    """

    tokens_mlp_dim: int
    mlp_ratio: float = 4
    pos_grid: tuple[int, int] = (14, 14)
    global_pool: str = "token"

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        self._require("tokens_mlp_dim", self.tokens_mlp_dim >= 1, "1 or more")
        # JSON has no tuples: a config that went through a file comes back with lists.
        object.__setattr__(self, "pos_grid", tuple(self.pos_grid))

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """As in the base class, the hidden units over the tokens, and the table of positions."""
        told = super().fields_from_shapes(shapes)
        hidden, table = shapes.get("blocks.0.token_mlp.fc1.bias"), shapes.get("pos_embed", ())
        if told is None or not hidden or len(table) != 4:
            return None
        return {**told, "tokens_mlp_dim": hidden[0], "pos_grid": table[2:]}


class TokenNorm(nn.Module):
    """A LayerNorm over the tokens of each channel: `(B, T, C)` to the same."""

    def __init__(self, num_tokens: int, eps: float, **dd: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_tokens, **dd))
        self.bias = nn.Parameter(torch.zeros(num_tokens, **dd))

    def reset_parameters(self) -> None:
        """Scale by one and shift by nothing."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        return F.layer_norm(x_BTC.transpose(1, 2), self.weight.shape, self.weight, self.bias, self.eps).transpose(1, 2)


class NormedTokenMixing(TokenMixing):
    """A `TokenNorm`, then an MLP over the tokens, of which the first is a class token: `(B, T, C)` to the same."""

    def __init__(self, grid: Grid, mlp_dim: int, *, norm_eps: float, **options: Any) -> None:
        tokens = 1 + grid[0] * grid[1]
        super().__init__(tokens, mlp_dim, **options)
        self.grid = grid
        weight = self.fc1.weight
        self.norm = TokenNorm(tokens, norm_eps, device=weight.device, dtype=weight.dtype)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        return super().forward(self.norm(x_BTC))

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """What belongs to the patches at another grid; what belongs to the class token stays."""
        axes = {"norm.weight": (0, "out"), "norm.bias": (0, "out"), "fc2.weight": (0, "out"), "fc2.bias": (0, "out")}
        for name, (axis, role) in {"fc1.weight": (1, "in"), **axes}.items():
            first, patches = self.get_parameter(name).tensor_split([1], axis)
            yield name, torch.cat([first, resize_axis(patches, axis, role, self.grid, new_grid)], axis)

    def grid_in(self, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> GridFound:
        """How many patches a state dict of these shapes has."""
        shape = shapes.get(f"{prefix}norm.weight")
        return GridFound(tokens=shape[0] - 1 if shape else None)


class FFOnlyBlock(nn.Module):
    """An MLP over the channels, then one over the tokens, each after a norm, with a skip: `(B, T, C)` to the same."""

    def __init__(self, config: FFOnlyConfig, grid: Grid, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim = config.embed_dim
        options: dict[str, Any] = {
            "act_layer": config.act_layer,
            "drop": config.proj_drop_rate,
            "impl": config.impl,
            **dd,
        }
        self.norm = nn.LayerNorm(dim, config.norm_eps, **dd)
        self.mlp = MlpBlock(dim, int(config.mlp_ratio * dim), **options)
        self.token_mlp = NormedTokenMixing(grid, config.tokens_mlp_dim, norm_eps=config.norm_eps, **options)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """`(batch, tokens, channels)` to the same."""
        x_BTC = x_BTC + self.drop_path(self.mlp(self.norm(x_BTC)))
        return x_BTC + self.drop_path(self.token_mlp(x_BTC))


class FFOnly(IsotropicBackbone):
    """Patches with positions and a class token, `depth` blocks of two MLPs, LayerNorm, class token, head."""

    family = "ff_only"
    global_pools = ("token", "avg", "")
    num_prefix_tokens = 1
    config: FFOnlyConfig

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`, `cls_token` and the positions."""
        super().build_embedding(**dd)
        dim = self.config.embed_dim
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim, **dd))
        self.pos_embed = nn.Parameter(torch.empty(1, dim, *self.config.pos_grid, **dd))
        self.cls_pos_embed = nn.Parameter(torch.empty(1, 1, dim, **dd))

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `FFOnlyBlock`."""
        return FFOnlyBlock(self.config, self.stem.grid, drop_path, **dd)

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to tokens with their positions, the class token first."""
        x_BTC = self.stem(x_BIHW)
        pos: Tensor = self.pos_embed
        if self.config.pos_grid != self.stem.grid:
            pos = F.interpolate(pos, self.stem.grid, mode="bilinear", align_corners=False)
        x_BTC = x_BTC + pos.flatten(2).transpose(1, 2)
        first = (self.cls_token + self.cls_pos_embed).expand(x_BTC.shape[0], -1, -1)
        return torch.cat([first, x_BTC], dim=1)

    def reset_parameters(self) -> None:
        """As the author: linear maps, class token and positions normal with deviation 0.02, the rest as PyTorch."""
        for module in self.modules():
            if isinstance(module, nn.Linear | TokenLinear):
                reset_linear(module)
            elif isinstance(module, nn.Conv2d | nn.LayerNorm | TokenNorm):
                module.reset_parameters()
        for value in (self.cls_token, self.pos_embed, self.cls_pos_embed):
            nn.init.trunc_normal_(value, std=0.02)

    def reset_classifier_parameters(self) -> None:
        """Draw the head as every other linear map."""
        if isinstance(self.head, nn.Linear):
            reset_linear(self.head)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """As in the base class; the class token's position is part of the stem."""
        return {**super().group_matcher(coarse), "stem": r"^(?:stem|cls_token|pos_embed|cls_pos_embed)"}

    def no_weight_decay(self) -> set[str]:
        """The embeddings, which are no linear maps."""
        return {"cls_token", "pos_embed", "cls_pos_embed"}


FORMAT = KeyMap(
    "the author's .pth",
    (
        Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
        Rule(r"cls_token", r"cls_token"),
        Rule(r"pos_encoding\.((?:cls_)?pos_embed)", r"\1"),
        Rule(r"blocks\.(\d+)\.mlp1\.(fc[12])\.(weight|bias)", r"blocks.\1.mlp.\2.\3"),
        Rule(r"blocks\.(\d+)\.norm1\.(weight|bias)", r"blocks.\1.norm.\2"),
        Rule(r"blocks\.(\d+)\.mlp2\.(fc[12])\.(weight|bias)", r"blocks.\1.token_mlp.\2.\3"),
        Rule(r"blocks\.(\d+)\.norm2\.(weight|bias)", r"blocks.\1.token_mlp.norm.\2"),
        Rule(r"norm\.(weight|bias)", r"norm.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    ),
)


def _file(size: str, top1: float) -> Weights:
    return Weights(
        url=f"https://github.com/lukemelas/do-you-even-need-attention/releases/download/v0.0.1/linear-{size}-checkpoint.pth",
        license="none",
        top1=top1,
        top1_source="README.md of lukemelas/do-you-even-need-attention at 1f57ab0",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
    )


FAMILY = Family(
    name="ff_only",
    title="FF-only",
    paper="https://arxiv.org/abs/2105.02723",
    code="https://github.com/lukemelas/do-you-even-need-attention/blob/1f57ab0/vision_transformer_linear.py",
    license="none",
    model=FFOnly,
    data={"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD},
    # Stochastic depth is that of DeiT's training script, which the author uses.
    variants={
        "ff_only_tiny": FFOnlyConfig(embed_dim=192, depth=12, tokens_mlp_dim=788, drop_path_rate=0.1),
        "ff_only_base": FFOnlyConfig(embed_dim=768, depth=12, tokens_mlp_dim=788, drop_path_rate=0.1),
        "ff_only_large": FFOnlyConfig(patch_size=32, embed_dim=1024, depth=24, tokens_mlp_dim=200, drop_path_rate=0.1),
    },
    weights={"ff_only_tiny.in1k": _file("tiny", 61.4), "ff_only_base.in1k": _file("base", 74.9)},
    formats=(FORMAT,),
)
