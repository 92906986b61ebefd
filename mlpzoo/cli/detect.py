"""`mlpzoo detect`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Device, Json, MaxPixels, usable_device
from mlpzoo.cli._output import add_row, complain_of, print_json, print_notes, print_table

EXAMPLES = (
    "mlpzoo detect --checkpoint runs/detection-digits photo.png",
    "mlpzoo detect --checkpoint runs/detection-digits --out found --score-threshold 0.3 --json *.png",
)


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    checkpoint: Annotated[Path, typer.Option(help="A folder that `mlpzoo train detection-digits` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the pictures to. By default each is beside its source.")
    ] = None,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="Leave out boxes of a lower score.")] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures that exist.")] = False,
    max_pixels: MaxPixels = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Detect objects in image files and draw their boxes into copies, NAME-detected.png.

    Files that cannot be read, or whose picture must not be replaced, are named on stderr; the exit status is then 1.
    """
    from mlpzoo.tasks import detect_files, load_detector

    detector = load_detector(checkpoint, device=usable_device(device))
    files = list(
        detect_files(
            detector,
            images,
            out=out,
            score_threshold=score_threshold,
            overwrite=overwrite,
            max_pixels=max_pixels,
        )
    )
    failed = complain_of(file.error for file in files)
    print_notes(note for file in files for note in file.notes)
    if as_json:
        print_json(
            [
                {
                    "path": str(file.source),
                    "output": str(file.output) if file.output else None,
                    "boxes": [dataclasses.asdict(box) for box in file.boxes],
                    "error": str(file.error) if file.error else None,
                }
                for file in files
            ]
        )
    elif any(file.output for file in files):
        table = Table("Image", "Class")
        for title in ("Score", "Left", "Top", "Right", "Bottom"):
            table.add_column(title, justify="right")
        table.add_column("Written to")
        for file in files:
            if file.output and not file.boxes:
                add_row(table, str(file.source), "nothing", *("–",) * 5, str(file.output), end_section=True)
            for i, box in enumerate(file.boxes if file.output else ()):
                sides = (f"{side:.1f}" for side in box.box)
                names = ("", "") if i else (str(file.source), str(file.output))
                last = i == len(file.boxes) - 1
                add_row(table, names[0], box.label, f"{box.score:.2f}", *sides, names[1], end_section=last)
        print_table(table)
    if failed:
        raise typer.Exit(1)
