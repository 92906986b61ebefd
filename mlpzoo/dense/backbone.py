"""Any network of the zoo as detectors and segmenters want a backbone: an image in, maps of strides 4 to 32 out.

Shape suffixes: B batch, I image channels, H × W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlpzoo._names import family_of
from mlpzoo.dense.simple_pyramid import SimpleFeaturePyramid
from mlpzoo.dense.window import WindowedFeatures
from mlpzoo.models import Backbone
from mlpzoo.models._base import take_indices
from mlpzoo.registry import create_model

STRIDES = (4, 8, 16, 32)


class DenseBackbone(nn.Module):
    """A network of the zoo, and where it has one map alone, a `SimpleFeaturePyramid` on the last.

    Args:
        name: a name of `mlpzoo.list_models()`, with a tag after a dot to choose among released weights.
        out_indices: which maps, 0 to 3 for strides 4 to 32; the last n for an int.
        pretrained: whether to download and load the released weights.
        checkpoint_path: a file to load into the network.
        window: for networks bound to one image size: whether to run them on windows of that size, see
            `WindowedFeatures`, instead of taking each image as a whole (`dynamic_img_size=True`).
        window_overlap: how much of a window the next one covers again.
        pyramid_channels: channels of the simple feature pyramid.
        output_stride: pixels for one position of the coarsest map, 4, 8, 16 or 32; maps that would be coarser have it
            too. Networks with stages have it as an option of their own, or refuse it.
        frozen_stages: how much is not trained: nothing for -1, the embedding for 0, with the first n stages, or
            blocks of a network without stages, for n. The frozen part stays in evaluation mode.
        norm_eval: whether BatchNorms stay in evaluation mode.
        grad_checkpointing: whether to recompute activations in the backward pass.
        options: any field of the network's config, `device`, `dtype`.

    Attributes:
        body: from the image to the network's maps.
        pyramid: from those to maps of strides 4 to 32, None where they are such.
        channels: channels of each map.
        strides: pixels for one position of each map.

    Raises:
        ValueError: when the network gives no such maps, for indices out of range or an unusable value.
        TypeError: for an unknown option.

    Shape:
        `(batch, in_chans, height, width)` to a list of `(batch, channels, height / stride, width / stride)`.
    """

    def __init__(
        self,
        name: str,
        *,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        pretrained: bool = False,
        checkpoint_path: str | Path | None = None,
        window: bool = False,
        window_overlap: float = 0.0,
        pyramid_channels: int = 256,
        output_stride: int | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        grad_checkpointing: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.out_indices = take_indices(len(STRIDES), out_indices)
        config = family_of(name).variants[name.split(".")[0]]
        has_stages = config.has_stages
        if not config.has_positions:
            raise ValueError(f"{name} sees an image as one vector and has no feature maps: choose another backbone")
        if config.data_size:
            options.setdefault("dynamic_img_size", not window)
        if window and not config.image_size:
            raise ValueError(f"window=True is for networks bound to one image size, and {name} takes any")
        if output_stride is not None:
            if output_stride not in STRIDES:
                raise ValueError(f"output_stride must be one of {', '.join(map(str, STRIDES))}, got {output_stride}")
            if has_stages:
                options["output_stride"] = output_stride
        net: Any = create_model(
            name,
            pretrained,
            checkpoint_path=checkpoint_path,
            features_only=True,
            out_indices=self.out_indices if has_stages else (-1,),
            **options,
        )
        backbone = net.model
        assert isinstance(backbone, Backbone)
        reductions = net.feature_info.reduction()
        self.pyramid: SimpleFeaturePyramid | None = None
        if has_stages:
            if not set(reductions) <= set(STRIDES):
                raise ValueError(
                    f"{name} has maps of strides {', '.join(map(str, reductions))}, and dense heads want 4, 8, 16 and "
                    f"32: choose a network with stages of those strides, such as CycleMLP, or one without stages"
                )
            self.channels, self.strides = tuple(net.feature_info.channels()), tuple(reductions)
        else:
            anchor = next(backbone.parameters())
            self.strides = tuple(min(STRIDES[i], output_stride or STRIDES[i]) for i in self.out_indices)
            (dim,), (stride,) = net.feature_info.channels(), reductions
            self.pyramid = SimpleFeaturePyramid(
                dim, stride, pyramid_channels, self.strides, device=anchor.device, dtype=anchor.dtype
            )
            self.channels = (pyramid_channels,) * len(self.strides)
        self.body: nn.Module = net
        if window:
            assert backbone.config.image_size is not None
            self.body = WindowedFeatures(net, backbone.config.image_size, window_overlap)
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        for module in self._frozen():
            module.requires_grad_(False)
        if frozen_stages >= 0:
            for parameter in backbone.parameters(recurse=False):
                parameter.requires_grad_(False)
        if grad_checkpointing:
            backbone.set_grad_checkpointing()
        self.train()

    @property
    def network(self) -> Backbone:
        """The network itself."""
        net = self.body.net if isinstance(self.body, WindowedFeatures) else self.body
        network = net.get_submodule("model")
        assert isinstance(network, Backbone)
        return network

    def forward(self, x_BIHW: Tensor) -> list[Tensor]:
        """`(batch, in_chans, height, width)` to one map for each of `out_indices`."""
        if not isinstance(x_BIHW, Tensor) or x_BIHW.ndim != 4:
            found = f"shape {tuple(x_BIHW.shape)}" if isinstance(x_BIHW, Tensor) else type(x_BIHW).__name__
            raise ValueError(
                f"got {found}, but a backbone takes one tensor (batch, channels, height, width): images of unequal "
                f"sizes must be padded to one size first, which detectors do"
            )
        height, width = x_BIHW.shape[2:]
        if min(height, width) < max(self.strides):
            raise ValueError(
                f"got images of {height}×{width} pixels, smaller than one position of the coarsest map, which is "
                f"{max(self.strides)} pixels wide: enlarge them, or leave that map out of out_indices"
            )
        maps = self.body(x_BIHW)
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        # A network bound to a grid pads images to a size that it can take.
        return [
            y[:, :, : -(-height // stride), : -(-width // stride)] for y, stride in zip(maps, self.strides, strict=True)
        ]

    def train(self, mode: bool = True) -> "DenseBackbone":
        """Set the mode, leaving what is frozen in evaluation mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        backbone = self.network
        parts = list(backbone.get_submodule(backbone.feature_stack).children())
        if not -1 <= self.frozen_stages <= len(parts):
            raise ValueError(f"frozen_stages must be from -1 to {len(parts)}, got {self.frozen_stages}")
        return [backbone.get_submodule("stem"), *parts[: self.frozen_stages]] if self.frozen_stages >= 0 else []
