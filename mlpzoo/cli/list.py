"""`mlpzoo list`."""

import dataclasses
from typing import Annotated

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Json
from mlpzoo.cli._output import add_row, millions, percent, print_json, print_table, times

EXAMPLES = ("mlpzoo list 'mixer_b*' --json",)


def command(
    filter: Annotated[
        list[str] | None, typer.Argument(metavar="[FILTER]...", help="Wildcard patterns, such as 'mixer_*'.")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only models with released weights.")] = False,
    as_json: Json = False,
) -> None:
    """List the models with their size, cost and published accuracy."""
    from mlpzoo.registry import list_models, model_info

    names = list_models(filter or "", pretrained=pretrained)
    if not names:
        raise ValueError("no model matches; `mlpzoo list` shows all")
    infos = [model_info(name) for name in names]
    if as_json:
        print_json([dataclasses.asdict(info) for info in infos])
        return
    table = Table("Model", "Family")
    for title in ("Parameters", "GMACs", "Input", "Top-1"):
        table.add_column(title, justify="right")
    table.add_column("Licence")
    for info in infos:
        add_row(
            table,
            info.name,
            info.family,
            millions(info.parameters),
            f"{info.gmacs:.2f}",
            times(info.input_size),
            percent(info.top1),
            info.license,
        )
    print_table(table)
