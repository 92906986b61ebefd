"""What every backbone has in common: its head, and the part of the timm contract that ignores shape."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mlpzoo.models._config import BackboneConfig
from mlpzoo.models._network import Network
from mlpzoo.models._recompute import recomputed
from mlpzoo.models._sizes import SizedNetwork

LayerwisePattern = str | list[tuple[str, tuple[int, ...] | None]]


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
