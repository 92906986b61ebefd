"""Key maps: how the names and layouts of a released file correspond to ours, as data."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

Layout = Callable[[Tensor], Tensor]


def as_is(value: Tensor) -> Tensor:
    """The layout PyTorch has."""
    return value


def dense_kernel(kernel: Tensor) -> Tensor:
    """flax's `(in, out)` to PyTorch's `(out, in)`."""
    return kernel.T


def flat(value: Tensor) -> Tensor:
    """A vector, from whatever shape a file keeps it in."""
    return value.flatten()


def pointwise_kernel(value: Tensor) -> Tensor:
    """The kernel of a 1×1 convolution to the weight of a linear layer; what is no kernel stays."""
    return value.flatten(1) if value.ndim > 1 else value


def conv_kernel(kernel: Tensor) -> Tensor:
    """flax's `(height, width, in, out)` to PyTorch's `(out, in, height, width)`."""
    return kernel.permute(3, 2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Rule:
    r"""One kind of tensor.

    Attributes:
        pattern: regular expression for the whole name in the file.
        target: our name, with `\1` for the pattern's groups; None for what is left out on purpose.
        layout: from the file's layout to ours.
        part: where several tensors of the file make one of ours, the place of this one along the first axis.
        partly: whether the tensor makes another of ours as well, by a rule that follows; the layout takes out its part.
    """

    pattern: str
    target: str | None
    layout: Layout = as_is
    part: int = 0
    partly: bool = False


Rename = Callable[[Sequence[str]], Sequence[str]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a part of one of our tensors comes from."""

    name: str
    layout: Layout


@dataclasses.dataclass(frozen=True)
class KeyMap:
    """A release format of a family.

    Attributes:
        title: name for people.
        rules: one for each kind of tensor; the first that knows a name has it.
        rename: what is done to all names together before the rules see them, where a name means nothing by itself.
        rename_by_shapes: the same from names with their shapes, where names alone do not tell; it stands in for
            `rename`.
    """

    title: str
    rules: tuple[Rule, ...]
    rename: Rename = list
    rename_by_shapes: Callable[[Shapes], Sequence[str]] | None = None

    def plan(self, names: Iterable[str] | Shapes) -> tuple[dict[str, list[Source]], list[str]]:
        """Assign names of a file.

        Args:
            names: the names; as a mapping to their shapes where `rename_by_shapes` is to find what it needs.

        Returns:
            Our names with their sources, parts in order; and the names no rule knows or another name has forestalled.
        """
        parts: dict[str, dict[int, Source]] = {}
        unknown = []
        listed = list(names)
        if self.rename_by_shapes:
            meant = self.rename_by_shapes(names if isinstance(names, Mapping) else dict.fromkeys(listed, ()))
        else:
            meant = self.rename(listed)
        for name, renamed in zip(listed, meant, strict=True):
            known = False
            for rule in self.rules:
                match = re.fullmatch(rule.pattern, renamed)
                if match:
                    known = True
                    if rule.target is not None:
                        source = Source(name, rule.layout)
                        if parts.setdefault(match.expand(rule.target), {}).setdefault(rule.part, source) is not source:
                            unknown.append(name)
                    if not rule.partly:
                        break
            if not known:
                unknown.append(name)
        return {target: [found[i] for i in sorted(found)] for target, found in parts.items()}, unknown

    def complete_plan(self, names: Iterable[str] | Shapes) -> dict[str, list[Source]] | None:
        """The plan where the rules know every name, else None."""
        plan, unknown = self.plan(names)
        return None if unknown else plan


@dataclasses.dataclass(frozen=True)
class Pair:
    """One kind of tensor in a layout that is both read and written.

    Attributes:
        theirs: its name there; a star stands for one part between dots.
        ours: its name here, with as many stars.
        read: from their shape to ours.
        write: from our shape to theirs.
    """

    theirs: str
    ours: str
    read: Layout = as_is
    write: Layout = as_is


def same(*names: str) -> tuple[Pair, ...]:
    """Kinds of tensors that have the same name and shape in both layouts."""
    return tuple(Pair(name, name) for name in names)


def reader(title: str, pairs: Iterable[Pair], rename: Rename = list) -> KeyMap:
    """The key map from their layout to ours."""
    return KeyMap(title, tuple(Rule(_pattern(p.theirs), _expansion(p.ours), p.read) for p in pairs), rename)


def writer(title: str, pairs: Iterable[Pair], rename: Rename = list) -> KeyMap:
    """The key map from our layout to theirs."""
    return KeyMap(title, tuple(Rule(_pattern(p.ours), _expansion(p.theirs), p.write) for p in pairs), rename)


def _pattern(name: str) -> str:
    return re.escape(name).replace(r"\*", r"([^.]+)")


def _expansion(name: str) -> str:
    parts = name.split("*")
    return parts[0] + "".join(rf"\{i}{part}" for i, part in enumerate(parts[1:], 1))
