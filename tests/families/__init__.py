"""What the tests know of each family: one file a family, which defines `CASE`.

Tests that hold for every family (the contract, files and their formats, sizes, folding, export, compilation, training)
run over every case found here, so a family comes under all of them by adding its file. Each file holds what cannot be
told from the package itself: sizes of a small network, what the authors' files hold, numbers measured by running the
authors' code.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from cases import Case
from torch import nn

import mlpzoo

KeyList = Callable[[Any], Mapping[str, tuple[int, ...]]]
"""From a config to the names and shapes that the authors' file of such a network holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimmTwin:
    """A small network of timm's, and the same network here.

    Attributes:
        name: what to call it in test IDs.
        build: makes timm's; its GELUs are exact.
        model: name of ours.
        options: options of `create_model` that make ours the same.
        tolerance: largest difference of logits, in standard deviations of them.
    """

    name: str
    build: Callable[[], nn.Module]
    model: str
    options: Mapping[str, Any]
    tolerance: float = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilyCase:
    """One family for the tests.

    Attributes:
        family: its name, the key in `mlpzoo.models.FAMILIES`.
        model: the variant that the small network is made from.
        small: options of `create_model` that make it small: a few channels, every kind of part at least once, at least
            three parts, images that are not square where the size is fixed. `num_classes` is set by the tests.
        shallow: further options for compilers, which take their time: one part of each kind.
        another_size: an image size, not that of `small`, which the small network can be given.
        settings: sets of options in which whatever else the family has is switched on; folding is tested for each.
        key_lists: a list for each format of the authors' files, written down from sizes alone and not from key maps.
        wrapper: the entry under which the authors' PyTorch files nest the weights; empty where they do not.
        conformance: the cases of `tests/conformance/vectors`.
        parameters: variant to its number of parameters, measured by running the authors' code.
        alike: variant to others whose files hold the same names and shapes.
        twins: networks of timm's that are the same.
        slow_to_compile: whether compilers take so long, as they do for most pyramids, that only `make test-all` waits
            for more than one graph of one size.
        task: the family's own.
    """

    family: str
    model: str = ""
    small: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shallow: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"depth": 1})
    another_size: tuple[int, int] = (80, 48)
    settings: tuple[Mapping[str, Any], ...] = ()
    key_lists: tuple[KeyList, ...] = ()
    wrapper: str = ""
    conformance: tuple[Case, ...] = ()
    parameters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alike: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    twins: tuple[TimmTwin, ...] = ()
    slow_to_compile: bool = True
    task: str = "classification"

    def create(self, **options: Any) -> nn.Module:
        """The small network, for 7 classes unless told otherwise."""
        return mlpzoo.create_model(self.model, **{"num_classes": 7, **self.small, **options})


def _discovered() -> dict[str, FamilyCase]:
    found = {}
    for module in pkgutil.iter_modules(__path__):
        case = getattr(importlib.import_module(f"{__name__}.{module.name}"), "CASE", None)
        if isinstance(case, FamilyCase):
            found[case.family] = case
    return found


CASES = _discovered()
"""Family to its case."""


def size_for(network: nn.Module, size: tuple[int, int] = (70, 90)) -> tuple[int, int]:
    """The image size that weights are bound to; for others the one given, or the next that the network takes.

    It has unequal sides where the size given has: compilers take sides that are equal once to be equal always.
    """
    if network.config.image_size:
        return network.config.image_size
    height, width = (side + -side % multiple for side, multiple in zip(size, network.size_multiple, strict=True))
    return height, width + (network.size_multiple[1] if height == width and size[0] != size[1] else 0)


def learning(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; a RandFormer has others too."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def names() -> list[str]:
    """The families of classifiers, on which most tests run."""
    return [name for name, case in CASES.items() if case.task == "classification"]


SAMPLE = ("mixer", "resmlp", "gmlp", "vit", "convmixer", "cyclemlp", "vip", "hire_mlp", "swin_mlp", "dfformer")
"""A family of each kind: tokens, maps, pyramids, with BatchNorms, bound to grids, in windows, with filters."""


def marks_of(family: str) -> list[pytest.MarkDecorator]:
    """What marks a test of the house rather than of a family: only those of `SAMPLE` are in the default suite."""
    return [] if family in SAMPLE else [pytest.mark.slow]


def sampled(among: Iterable[str] | None = None) -> list[Any]:
    """Families as parameters of such a test; all by default."""
    return [pytest.param(name, marks=marks_of(name)) for name in (names() if among is None else among)]


def conformance_cases() -> list[Case]:
    """The conformance cases of all families."""
    return [dataclasses.replace(found, wrapper=case.wrapper) for case in CASES.values() for found in case.conformance]
