"""Scaling MLPs: a tale of inductive bias (Bachmann, Anagnostidis and Hofmann, 2023, https://arxiv.org/abs/2306.13575).

Authors' code: gregorbachmann/scaling_mlps, `models/networks.py` at 50cb3a9 (without a licence: this file follows facts
about it).
What differs: images of other sizes go in, met by a first layer that is resized. The first layer is kept as the kernel
of a convolution that covers the whole image, in the authors' order of channel, row and column; a network's only map has
one position.

Shape suffixes: B batch, I image channels, H × W pixels or positions, C channels.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.layers import GridBound, MlpBlock
from mlpzoo.layers.grid_bound import GridFound
from mlpzoo.models._config import GridBoundConfig
from mlpzoo.models._family import Family, Weights
from mlpzoo.models._isotropic import IsotropicMapBackbone, IsotropicMapConfig
from mlpzoo.models._keymap import KeyMap, Rule
from mlpzoo.ops import fast_path, resize_input_tokens
from mlpzoo.ops.resize import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingMlpConfig(IsotropicMapConfig, GridBoundConfig):
    """Settings of a Scaling MLP.

    Attributes:
        mlp_ratio: hidden units of a block for every channel.
        img_size: image height and width in pixels, all of which the first layer reads.
        patch_size: the longer side of the image, which is one patch; it follows `img_size`.
    """

    img_size: int | Grid = 64
    mlp_ratio: float = 4
    norm_eps: float = 1e-5

    has_positions = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        super().__post_init__()
        object.__setattr__(self, "patch_size", max(self.image_size))


class WholeImageEmbed(GridBound):
    """A linear layer over all pixels: `(B, I, H, W)` to `(B, 1, 1, C)`."""

    def __init__(self, in_chans: int, dim: int, img_size: Grid, **dd: Any) -> None:
        super().__init__()
        self.grid = img_size
        self.proj = nn.Conv2d(in_chans, dim, img_size, **dd)

    @property
    def stride(self) -> int:
        """Pixels for the one position of the map."""
        return max(self.grid)

    def grid_after(self, grid: Grid) -> Grid:
        """One position, whatever the image."""
        return 1, 1

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, 1, 1, dim)`."""
        if fast_path(self.proj):
            y_BC = F.linear(x_BIHW.flatten(1), self.proj.weight.flatten(1), self.proj.bias)
        else:
            y_BC = self.proj(x_BIHW).flatten(1)
        return y_BC[:, None, None]

    def weights_at(self, new_grid: Grid) -> Iterator[tuple[str, Tensor]]:
        """The kernel at another number of pixels; each of its maps keeps its sum."""
        value = self.proj.weight
        yield (
            "proj.weight",
            resize_input_tokens(value.flatten(2).flatten(0, 1), self.grid, new_grid).view(*value.shape[:2], *new_grid),
        )

    def grid_in(self, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> GridFound:
        """The height and width of the kernel."""
        shape = shapes.get(f"{prefix}proj.weight", ())
        return GridFound(*shape[2:]) if len(shape) == 4 else GridFound()


class ScalingMlpBlock(nn.Module):
    """A LayerNorm and an MLP under a skip: `(B, 1, 1, C)` to the same."""

    def __init__(self, config: ScalingMlpConfig, drop_path: float, **dd: Any) -> None:
        super().__init__()
        dim = config.embed_dim
        options: dict[str, Any] = {"act_layer": config.act_layer, "drop": config.proj_drop_rate, "impl": config.impl}
        self.norm = nn.LayerNorm(dim, config.norm_eps, **dd)
        self.mlp = MlpBlock(dim, int(config.mlp_ratio * dim), **options, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """`(batch, 1, 1, dim)` to the same."""
        return x_BHWC + self.drop_path(self.mlp(self.norm(x_BHWC)))


class ScalingMlp(IsotropicMapBackbone):
    """A linear layer over all pixels, `depth` blocks, head; there is no final norm."""

    family = "scaling_mlp"
    config: ScalingMlpConfig

    def build_embedding(self, **dd: Any) -> None:
        """Create `stem`."""
        self.stem = WholeImageEmbed(self.config.in_chans, self.config.embed_dim, self.config.image_size, **dd)

    def build_block(self, *, drop_path: float, **dd: Any) -> nn.Module:
        """One `ScalingMlpBlock`."""
        return ScalingMlpBlock(self.config, drop_path, **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """None."""
        return nn.Identity()

    def reset_parameters(self) -> None:
        """Draw everything as PyTorch does, like the authors."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()

    def reset_classifier_parameters(self) -> None:
        """Draw the head as PyTorch does."""
        if isinstance(self.head, nn.Linear):
            self.head.reset_parameters()

    @property
    def size_multiple(self) -> Grid:
        """Every size will do."""
        return 1, 1

    def grids_at(self, img_size: Grid) -> Mapping[str, Grid]:
        """The first layer is bound to the pixels."""
        return {"stem": img_size}


def as_kernel(weight: Tensor) -> Tensor:
    """A linear layer over RGB pixels of a square image to the kernel of a convolution."""
    side = int((weight.shape[1] // 3) ** 0.5)
    return weight.unflatten(1, (3, side, side))


FORMAT = KeyMap(
    "the authors' weights",
    (
        Rule(r"linear_in\.weight", r"stem.proj.weight", as_kernel),
        Rule(r"linear_in\.bias", r"stem.proj.bias"),
        Rule(r"blocks\.(\d+)\.block\.0\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
        Rule(r"blocks\.(\d+)\.block\.2\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
        Rule(r"layernorms\.(\d+)\.(weight|bias)", r"blocks.\1.norm.\2"),
        Rule(r"linear_out\.(weight|bias)", r"head.\1"),
    ),
)

NORMALIZED: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "crop_pct": 1.0}
CIFAR: dict[str, Any] = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616), "crop_pct": 1.0}
# Google Drive: ImageNet-21k, then ImageNet-1k with its top-1, CIFAR-10 and CIFAR-100 after fine-tuning. The repository
# gives one file for both ImageNet-1k and CIFAR-100 of the smallest, which can only be one of them: it is left out here.
DRIVE = {
    "b6_wi512": ("1QV3a99UT8llfh9zDDuNKWDH_5c6S_YT5", "", None, "1VjHgjheSm_w7xPtheEmY5kV_KE4-38zQ", ""),
    "b12_wi512": (
        "1sL9j_4FFeBTWTzuRFbHLfwrmPVLXhUtW",
        "1f0ZYzB_XujX8hDcEn_J6iWvw1meJ4Cbg",
        38.0,
        "1F1NvoOsYCgsn1GOZcwsoToOtsw-9Aw1v",
        "1KIULehrqOyxIkZj0HiqowNmBy4Ye1EQ2",
    ),
    "b6_wi1024": (
        "1cmO3QSz_hfHtyzkUOZnPmXPxIE2YzEbf",
        "115Lks211vx1at2dWn3JtQ57EZ7eNAVP4E",
        40.0,
        "1Tyd5CkROPCMQybnrZ_o1wiAW7VoK6AfJ",
        "1FrRb78bjun6QGbbH-pCWDaaE_8LWW785",
    ),
    "b12_wi1024": (
        "1rcV8RXij_kW9X2zSLNyNOTO_bKUjE0cJ",
        "1MVebvnSGL02k_ql1gUCjh4quGqM9RM4F",
        43.2,
        "1GyxuewoOzMRhzEOyUrIBLQzquc-QEYNV",
        "1LNqC58cSwtuDr-C4bk1O3GA_vAWls-UH",
    ),
}


def _file(drive: str, classes: int, data: dict[str, Any], top1: float | None = None) -> Weights:
    return Weights(
        where=f"It is on Google Drive, https://drive.google.com/file/d/{drive}: fetch it with a browser and pass "
        "checkpoint_path=",
        license="none",
        num_classes=classes,
        top1=top1,
        top1_source="README.md of gregorbachmann/scaling_mlps at 50cb3a9" if top1 else "",
        **data,
    )


def _released() -> dict[str, Weights]:
    files = {}
    for size, (in21k, in1k, top1, cifar10, cifar100) in DRIVE.items():
        name = f"scaling_mlp_{size}"
        for tag, drive, classes, data, score in (
            ("in21k_ft_in1k", in1k, 1000, NORMALIZED, top1),
            ("in21k", in21k, 11230, NORMALIZED, None),
            ("in21k_ft_cifar10", cifar10, 10, CIFAR, None),
            ("in21k_ft_cifar100", cifar100, 100, CIFAR, None),
        ):
            if drive:
                files[f"{name}.{tag}"] = _file(drive, classes, data, score)
    return files


FAMILY = Family(
    name="scaling_mlp",
    title="Scaling MLP",
    paper="https://arxiv.org/abs/2306.13575",
    code="https://github.com/gregorbachmann/scaling_mlps/blob/50cb3a9/models/networks.py",
    license="none",
    model=ScalingMlp,
    data=NORMALIZED,
    variants={
        f"scaling_mlp_b{depth}_wi{dim}": ScalingMlpConfig(depth=depth, embed_dim=dim)
        for dim in (512, 1024)
        for depth in (6, 12)
    },
    weights=_released(),
    formats=(FORMAT,),
)
