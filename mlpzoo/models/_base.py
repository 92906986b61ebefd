"""What every backbone has in common: its config, its head, and the part of the timm contract that ignores shape."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from timm.layers import to_2tuple
from torch import Tensor, nn

from mlpzoo.models._network import Network
from mlpzoo.models._recompute import recomputed
from mlpzoo.models._sizes import SizedNetwork
from mlpzoo.ops._triton import require_triton
from mlpzoo.ops.resize import Grid

LayerwisePattern = str | list[tuple[str, tuple[int, ...] | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Settings that every family takes; each field can be overridden in `create_model`.

    Attributes:
        num_classes: classes of the head; 0 for none.
        in_chans: channels of the image.
        global_pool: `"avg"`, or `""` to keep the unpooled features; some families offer more.
        drop_rate: dropout rate before the head.
        proj_drop_rate: dropout rate inside the blocks, after each linear of an MLP.
        drop_path_rate: stochastic depth rate, of the last block where the family ramps it up.
        drop_path_decay: whether the rate ramps up linearly from 0 over the blocks, or is the same in all.
        act_layer: name of the activation, see `mlpzoo.layers.create_activation`.
        norm_eps: epsilon of the LayerNorms.
        impl: which implementation of its fast ops the network runs: `"auto"`, `"reference"`, or `"triton"` for kernels
            where there are some, which need a CUDA device (or Triton's interpreter, to try them).
    """

    num_classes: int = 1000
    in_chans: int = 3
    global_pool: str = "avg"
    drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    drop_path_decay: bool = True
    act_layer: str = "gelu"
    norm_eps: float = 1e-6
    impl: str = "auto"

    has_stages: ClassVar[bool] = False
    """Whether the network's parts are stages of falling resolution, each of which gives a feature map of its own."""

    def __post_init__(self) -> None:
        """Refuse values no network can be built from."""
        self._require("num_classes", self.num_classes >= 0, "0 or more")
        self._require("in_chans", self.in_chans >= 1, "1 or more")
        for name in ("drop_rate", "proj_drop_rate", "drop_path_rate"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        if self.impl == "triton":
            require_triton()

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    @property
    def image_size(self) -> Grid | None:
        """Image height and width in pixels that weights are bound to; None where they are bound to none."""
        return None

    @property
    def resizes_weights(self) -> bool:
        """Whether images of any size go in, met by weights resized to each."""
        return False

    @property
    def first_conv(self) -> str:
        """Name of the convolution that sees the image, whose input channels are the image's."""
        return "stem.proj"

    @property
    def stem_width(self) -> int:
        """Output channels of `first_conv`."""
        raise NotImplementedError

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Pixels for one position of each feature map that `forward_intermediates` gives."""
        raise NotImplementedError

    @property
    def optional_prefixes(self) -> tuple[str, ...]:
        """What the names of parameters begin with that some files lack; loading leaves those as they were drawn."""
        return ()

    def fields_from_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
        """Fields that a file was built with, as far as its shapes tell of them, to recognize files by.

        Args:
            shapes: names, in our layout, to shapes.

        Returns:
            Field to value; None where the file is plainly not of this variant.
        """
        stem = shapes.get(f"{self.first_conv}.weight", ())
        if len(stem) != 4 or stem[0] != self.stem_width:
            return None
        return {"in_chans": stem[1], "num_classes": shapes.get("head.weight", (0,))[0]}

    def drop_path_rates(self, num_blocks: int) -> list[float]:
        """The stochastic depth rate of each block, in order."""
        if not self.drop_path_decay:
            return [self.drop_path_rate] * num_blocks
        return [self.drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridBoundConfig(BackboneConfig):
    """Settings of a backbone that has weights bound to a grid, whatever its shape.

    Attributes:
        img_size: image height and width in pixels, an int if square.
        dynamic_img_size: whether images of any size go in: padded with zeros, on the right and below, to the next size
            that the network can take, and met by weights resized as `set_input_size` would. Gradients reach the
            weights through the resizing, which is done anew for every batch of another size than `img_size`.
    """

    img_size: int | Grid = 224
    dynamic_img_size: bool = False

    def __post_init__(self) -> None:
        """Refuse values no network can be built from. Which sizes work is checked when one is built."""
        super().__post_init__()
        self._require("img_size", len(to_2tuple(self.img_size)) == 2, "a size or a (height, width), in pixels")

    @property
    def image_size(self) -> Grid:
        """Image height and width in pixels that weights are bound to."""
        height, width = to_2tuple(self.img_size)
        return height, width

    @property
    def resizes_weights(self) -> bool:
        """Whether images of any size go in, met by weights resized to each."""
        return self.dynamic_img_size

    def working_sides(self) -> Sequence[int] | None:
        """All sides of an image, in pixels, that the weights can take; None for a family that takes every multiple."""
        return None

    @property
    def sizes_that_work(self) -> str:
        """The sentence of error messages that names the sizes; empty where every multiple works."""
        sides = self.working_sides()
        return "" if sides is None else f"height and width may each be {', '.join(map(str, sides))} pixels"


def take_indices(num_features: int, indices: int | Sequence[int] | None) -> list[int]:
    """Which of `num_features` feature maps are meant: the last n for an int, all for None, else those listed.

    Raises:
        ValueError: when an index or a count lies outside, or when none is listed.
    """
    if indices is None:
        return list(range(num_features))
    if isinstance(indices, int):
        if not 0 < indices <= num_features:
            raise ValueError(f"asked for the last {indices} features, but this model has 1 to {num_features} to give")
        return list(range(num_features - indices, num_features))
    if len(indices) == 0:
        raise ValueError(f"asked for no features: choose among 0 to {num_features - 1}")
    wrong = [i for i in indices if not -num_features <= i < num_features]
    if wrong:
        raise ValueError(f"feature indices {wrong} are out of range: this model has features 0 to {num_features - 1}")
    return [i % num_features for i in indices]


class Backbone(SizedNetwork):
    """Base of the base classes: a config, a head, and the part of timm's contract that ignores shape.

    A subclass calls `build_head` last but one in its constructor and `reset_parameters` last.
    """

    head_names = ("head.weight", "head.bias")
    global_pools: ClassVar[tuple[str, ...]] = ("avg", "")
    """The values of `global_pool` that this family takes."""
    parts_are_a_chain: ClassVar[bool] = True
    """Whether each part takes what leaves the one before, and nothing else."""
    feature_stack: ClassVar[str] = ""
    """Name of the sequence of parts whose outputs `forward_intermediates` gives: blocks or stages."""
    feature_formats: ClassVar[tuple[str, ...]] = ()
    """The values of `output_fmt` that `forward_intermediates` takes."""
    norm_after_pool: ClassVar[bool] = False
    """Whether the final norm follows the pool, and so normalizes vectors, instead of preceding it."""
    config: BackboneConfig
    norm: nn.Module
    checkpoint_loader: ClassVar[Callable[[nn.Module, str], Any] | None] = None
    """Set by `mlpzoo.weights`, which this room must not import: reads a released file into a model."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.in_chans = config.in_chans
        self.global_pool = self._checked_pool(config.global_pool)
        self.dynamic_img_size = config.resizes_weights
        self.grad_checkpointing = False
        self.num_features = 0
        self.head_hidden_size = 0

    def build_head(self, **dd: Any) -> None:
        """Create `pre_logits` (identity), `head_drop` and `head`; a family with a layer before the head extends it."""
        self.pre_logits: nn.Module = nn.Identity()
        self.head_drop = nn.Dropout(self.config.drop_rate)
        self.head = self._new_classifier(self.num_classes, **dd)

    def build_norm(self, dim: int, **dd: Any) -> nn.Module:
        """The final norm, over so many channels: a LayerNorm. An identity for a network that has none."""
        return nn.LayerNorm(dim, eps=self.config.norm_eps, **dd)

    def reset_parameters(self) -> None:
        """Draw every parameter anew, as the authors' code does."""
        raise NotImplementedError

    def pool(self, x: Tensor) -> Tensor:
        """Features to one vector an image, or the features themselves where `global_pool` is empty."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """An image batch `(batch, in_chans, height, width)` to normalized, unpooled features."""
        net, x = self.fitting(x)
        x = net.run_parts(net.embed(x))
        return x if self.norm_after_pool else net.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features of `forward_features` to `(batch, num_classes)`, or to what the head sees if `pre_logits`."""
        x = self.pool(x)
        if self.norm_after_pool:
            x = self.norm(x)
        x = self.head_drop(self.pre_logits(x))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """An image batch `(batch, in_chans, height, width)` to logits `(batch, num_classes)`."""
        return self.forward_head(self.forward_features(x))

    def embed(self, x_BIHW: Tensor) -> Tensor:
        """An image batch to what enters the first part of the feature stack."""
        raise NotImplementedError

    @property
    def parts(self) -> nn.Sequential:
        """The parts of the feature stack."""
        parts = self.get_submodule(self.feature_stack)
        assert isinstance(parts, nn.Sequential)
        return parts

    def run_part(self, part: nn.Module, x: Tensor) -> Tensor:
        """One part of the feature stack, recomputed in the backward pass if so set."""
        return recomputed(part, x) if self.grad_checkpointing else part(x)

    def walk(self, x: Tensor, last: int) -> Iterator[Tensor]:
        """What leaves each part, up to number `last`, for what `embed` gives.

        A network whose parts take more than what left the one before overrides this, and sets `parts_are_a_chain`.
        """
        for part in self.parts[: last + 1]:
            x = self.run_part(part, x)
            yield x

    def run_parts(self, x: Tensor) -> Tensor:
        """What leaves the last part."""
        if self.parts_are_a_chain and not self.grad_checkpointing:
            return self.parts(x)
        for y in self.walk(x, len(self.parts) - 1):
            x = y
        return x

    def as_feature(self, x: Tensor, index: int, norm: bool, output_fmt: str) -> Tensor:
        """What leaves a part of the feature stack, in the format and with the norm asked for."""
        raise NotImplementedError

    def finish(self, x: Tensor, index: int) -> Tensor:
        """What leaves the last part run, as `forward_features` gives it."""
        return x if self.norm_after_pool else self.norm(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Features after chosen parts of the network: blocks of an isotropic one, stages of a pyramid.

        Args:
            x: image batch, `(batch, in_chans, height, width)`.
            indices: the last n parts for an int, all for None, else the parts listed; negative counts from the end.
            norm: whether to apply the final norm: to each of an isotropic network, to the last of a pyramid.
            stop_early: whether to stop after the last part asked for.
            output_fmt: `"NCHW"`; or `"NLC"` for the tokens of an isotropic network, `"NHWC"` for the maps of a pyramid.
            intermediates_only: whether to leave out the final features.

        Returns:
            The list of features, preceded by what `forward_features` gives (or, stopped early, by what left the last
            part run) unless `intermediates_only`.

        Raises:
            ValueError: for an index out of range, no index at all, or an unknown `output_fmt`.
        """
        if output_fmt not in self.feature_formats:
            raise ValueError(
                f"unknown output_fmt '{output_fmt}': choose {' or '.join(map(repr, self.feature_formats))}"
            )
        taken = take_indices(len(self.parts), indices)
        features: dict[int, Tensor] = {}
        last = max(taken) if stop_early else len(self.parts) - 1
        net, x = self.fitting(x)
        for i, y in enumerate(net.walk(net.embed(x), last)):
            x = y
            if i in taken:
                features[i] = net.as_feature(x, i, norm, output_fmt)
        intermediates = [features[i] for i in taken]
        return intermediates if intermediates_only else (net.finish(x, last), intermediates)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what comes after the last part asked for, and if told so the norm and the head; return the indices."""
        taken = take_indices(len(self.parts), indices)
        setattr(self, self.feature_stack, self.parts[: max(taken) + 1])
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.pre_logits = nn.Identity()
            self.head_hidden_size = self.num_features
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a fresh one, on the same device and in the same dtype; 0 classes for none.

        Args:
            num_classes: outputs of the new head.
            global_pool: another pooling; unchanged if None.

        Raises:
            ValueError: for a pooling this family does not have; nothing has changed then.
        """
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.num_classes = num_classes
        # The config is what gets saved.
        self.config = dataclasses.replace(self.config, num_classes=num_classes, global_pool=self.global_pool)
        anchor = next(self.parameters())
        self.head = self._new_classifier(num_classes, device=anchor.device, dtype=anchor.dtype).train(self.training)
        self.reset_classifier_parameters()

    def reset_classifier_parameters(self) -> None:
        """Draw the head anew. Zeros, as in flax, unless a family overrides it."""
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters to leave out of weight decay, besides those of one dimension."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, LayerwisePattern]:
        """Patterns that group the parameters by depth, for layer-wise learning rates."""
        raise NotImplementedError

    def load_pretrained(self, checkpoint_path: str, prefix: str = "") -> None:
        """Read a released file in any of the family's formats; timm calls this for files it cannot read itself.

        Raises:
            mlpzoo.CheckpointError: when the file does not fit; the model is as it was before.
        """
        loader = type(self).checkpoint_loader
        if loader is None:
            raise RuntimeError("the loader of released files lives in mlpzoo.weights: import mlpzoo first")
        loader(self, checkpoint_path)

    def whole_network(self, config: BackboneConfig) -> Network:
        """A whole network of this kind on the meta device, with the head that this one has by now."""
        return super().whole_network(dataclasses.replace(config, num_classes=self.num_classes))

    def _new_classifier(self, num_classes: int, **dd: Any) -> nn.Module:
        return nn.Linear(self.head_hidden_size, num_classes, **dd) if num_classes > 0 else nn.Identity()

    def _checked_pool(self, global_pool: str) -> str:
        if global_pool not in self.global_pools:
            raise ValueError(
                f"unknown global_pool '{global_pool}' for {type(self).__name__}: choose one of "
                f"{', '.join(repr(name) for name in self.global_pools)}"
            )
        return global_pool
