"""`mlpzoo validate`."""

from pathlib import Path
from typing import Annotated

import typer

from mlpzoo.cli._arguments import Json, TrainingDevice
from mlpzoo.cli._output import print_facts, print_json

EXAMPLES = (
    "mlpzoo validate runs/finetune",
    "mlpzoo validate runs/finetune --data other_photos --split test",
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[Path | None, typer.Option(help="Folder of other images of the same classes.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split of the data. By default the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a batch. By default the recipe's.")] = None,
    device: TrainingDevice = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model on validation images."""
    from mlpzoo import demos  # noqa: F401  recipes name data of the demos
    from mlpzoo.tasks import validate

    result = validate(run, data=str(data) if data else None, split=split, device=device, batch_size=batch_size)
    if as_json:
        print_json(result.figures)
        return
    print_facts(result.rows())
