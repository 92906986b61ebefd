"""`mlpzoo compare`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mlpzoo.cli._arguments import Device, Json, check_model, image_size, usable_device
from mlpzoo.cli._output import add_row, complain, millions, print_json, print_table, times

EXAMPLES = ("mlpzoo compare mixer_s16 vit_s16 --sizes 224,384,512 --plot cost.png",)


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of models.")],
    sizes: Annotated[
        str, typer.Option(help="Image sizes, separated by commas: a side in pixels, or HEIGHTxWIDTH.")
    ] = "224,384,512",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch. The figures are for one image.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds; the median is shown.")] = 9,
    plot: Annotated[Path | None, typer.Option(help="Picture to draw, such as cost.png.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure parameters, operations, activation memory and time of models against image size."""
    from mlpzoo.compare import compare, draw

    where = usable_device(device)
    grids = [image_size(size) for size in sizes.split(",")]
    for name in models:
        check_model(name)
    with Console(stderr=True).status("") as status:
        costs = list(
            compare(models, grids, batch_size=batch_size, device=where, repeats=repeats, progress=status.update)
        )
    if as_json:
        print_json([dataclasses.asdict(cost) for cost in costs])
    else:
        table = Table("Image", "Model")
        for title in ("Parameters", "GMACs", "Activations", "Time"):
            table.add_column(title, justify="right")
        for i, cost in enumerate(costs):
            figures = ("–",) * 4
            if not cost.problem:
                figures = (
                    millions(cost.parameters or 0),
                    f"{cost.gmacs:.2f}",
                    f"{cost.activation_mb:.1f} MB",
                    f"{cost.ms:.1f} ms",
                )
            add_row(table, times(cost.img_size), cost.model, *figures, end_section=(i + 1) % len(models) == 0)
        print_table(table)
    for cost in costs:
        if cost.problem:
            complain(f"{cost.model} at {times(cost.img_size)}: {cost.problem}")
    if plot is not None:
        draw(costs, plot, title=f"Cost of one image against image size ({where}, batch {batch_size})")
