"""Arguments that several verbs share, and how what was typed becomes what the library takes."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(min=1, help="Largest number of pixels an image may have. By default 89478485, Pillow's limit."),
]
TrainingDevice = Annotated[
    str | None, typer.Option(help="Where to compute: cpu or cuda. By default a GPU where there is one.")
]


class UsageError(Exception):
    """The command was called wrongly: exit status 2."""


@contextlib.contextmanager
def value_errors_are_usage() -> Iterator[None]:
    """Within, a ValueError is about something the user typed."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_model(name: str) -> None:
    """Refuse a name that no model has.

    Raises:
        UsageError: with the nearest names.
    """
    from mlpzoo.registry import model_info

    with value_errors_are_usage():
        model_info(name)


def usable_device(name: str) -> "torch.device":
    """The device of that name.

    Raises:
        UsageError: when this machine cannot compute on it.
    """
    import torch

    try:
        device = torch.device(name)
        usable = device.type != "meta" and torch.zeros(1, device=device).item() == 0
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = False
    if not usable:
        raise UsageError(f"cannot compute on device '{name}' here: try cpu, or cuda where PyTorch finds a GPU")
    return device


def image_size(text: str) -> tuple[int, int]:
    """Height and width in pixels, from one side of a square or HEIGHTxWIDTH.

    Raises:
        UsageError: when the text is neither.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        raise UsageError(f"'{text}' is no image size: give pixels, such as 224, or HEIGHTxWIDTH, such as 384x512")
    return int(sides[0]), int(sides[-1])
