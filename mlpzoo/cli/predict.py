"""`mlpzoo predict`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Device, Json, MaxPixels, UsageError, check_model, usable_device
from mlpzoo.cli._output import add_row, complain_of, print_json, print_notes, print_table

EXAMPLES = (
    "mlpzoo predict --checkpoint runs/digits a.png b.png",
    "mlpzoo predict --model mixer_b16 --top-k 3 --json *.jpg",
    "mlpzoo predict --model mixer_b16 --checkpoint Mixer-B_16.npz photo.jpg",
)


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A folder that `mlpzoo train` wrote, or a file of weights in any released format."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model's name. Without --checkpoint its released weights are downloaded; with a file of weights, "
            "the model they belong to."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show for each image.")] = 5,
    max_pixels: MaxPixels = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Classify image files.

    Files that cannot be read are named on stderr; the exit status is then 1.
    """
    from mlpzoo.inference import load_classifier, predict

    if checkpoint is None and model is None:
        raise UsageError("give --checkpoint DIR_OR_FILE, or --model NAME for released weights")
    if model is not None:
        check_model(model)
    network, labels = load_classifier(checkpoint, model=model, device=usable_device(device))
    predictions = list(predict(network, images, labels=labels, top_k=top_k, max_pixels=max_pixels))
    failed = complain_of(prediction.error for prediction in predictions)
    print_notes(note for prediction in predictions for note in prediction.notes)
    if as_json:
        print_json(
            [
                {
                    "path": str(prediction.path),
                    "classes": [{"label": label, "probability": p} for label, p in prediction.classes],
                    "error": str(prediction.error) if prediction.error else None,
                }
                for prediction in predictions
            ]
        )
    elif any(prediction.classes for prediction in predictions):
        table = Table("Image", "Class")
        table.add_column("Probability", justify="right")
        for prediction in predictions:
            for i, (label, p) in enumerate(prediction.classes):
                last = i == len(prediction.classes) - 1
                add_row(table, "" if i else str(prediction.path), label, f"{p:.1%}", end_section=last)
        print_table(table)
    if failed:
        raise typer.Exit(1)
