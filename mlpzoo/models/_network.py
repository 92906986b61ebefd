"""What every network of the zoo is to the loader of files, whatever it does: a config and the parameters it makes."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]


class Network(nn.Module):
    """A network that is built from a config alone, as `type(self)(config, device=, dtype=)`, and loaded from files."""

    family: ClassVar[str] = ""
    """Name of the family, the key of its entry in `mlpzoo.models.FAMILIES`."""
    head_names: ClassVar[tuple[str, ...]] = ()
    """Parameters that a file may lack, or have for another number of classes; those are then left as they are."""
    config: Any

    def template(self, config: Any) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters and buffers of a whole network of this kind, without allocating any.

        Args:
            config: of that network.
        """
        build: Callable[..., Network] = type(self)
        whole = build(config, device="meta")
        return {name: tuple(value.shape) for name, value in whole.state_dict().items()}

    def explain_misfit(self, shapes: Shapes) -> str:
        """What to do about a checkpoint of these names and shapes, in our layout, that does not fit; or nothing."""
        return ""
