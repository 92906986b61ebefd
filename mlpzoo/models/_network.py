"""What every network of the zoo is to the loader of files, whatever it does."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import nn

from mlpzoo.ops.resize import Grid

Shapes = Mapping[str, tuple[int, ...]]


class Network(nn.Module):
    """A network that is built from a config alone, as `type(self)(config, device=, dtype=)`, and loaded from files.

    Of the config the loader asks `first_conv`, `optional_prefixes`, `dense_prefixes` and `image_size`, see
    `BackboneConfig`.
    """

    family: ClassVar[str] = ""
    """Name of the family, the key of its entry in `mlpzoo.models.FAMILIES`."""
    head_names: ClassVar[tuple[str, ...]] = ()
    """Parameters that a file may lack, or have for another number of classes; those are then left as they are."""
    config: Any
    is_folded: bool = False
    """Whether `mlpzoo.deploy.fold` made it: released files do not fit."""

    def whole_network(self, config: Any) -> "Network":
        """A whole network of this kind on the meta device, though this one may have been pruned since it was built.

        Args:
            config: of that network.
        """
        build: Callable[..., Network] = type(self)
        return build(config, device="meta")

    def size_in(self, shapes: Shapes, stated: Grid | None = None, *, trust_count: bool = False) -> Grid | None:
        """The image size that a file of these shapes was trained at; None where no shape depends on one."""
        return None

    def explain_misfit(self, shapes: Shapes) -> str:
        """What to do about a checkpoint of these names and shapes, in our layout, that does not fit; or nothing."""
        return ""
