"""`mlpzoo info`."""

import dataclasses
from typing import Annotated

import typer

from mlpzoo.cli._arguments import Json, check_model
from mlpzoo.cli._output import millions, percent, print_facts, print_json, times

EXAMPLES = ("mlpzoo info mixer_b16",)


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or NAME.TAG for certain weights.")],
    as_json: Json = False,
) -> None:
    """Show what is known of one model."""
    from mlpzoo.registry import model_info

    check_model(name)
    info = model_info(name)
    if as_json:
        print_json(dataclasses.asdict(info))
        return
    statistics = " and ".join(", ".join(f"{value:g}" for value in values) for values in (info.mean, info.std))
    facts = {
        "Model": info.name,
        "Family": info.family,
        "Parameters": millions(info.parameters),
        "GMACs": f"{info.gmacs:.2f}",
        "Input": times(info.input_size),
        "Classes": str(info.num_classes),
        "Published top-1": f"{percent(info.top1)} ({info.top1_source})" if info.top1 else "–",
        "Released weights": ", ".join(info.weights) or "none",
        "File": info.file,
        "Preprocessing": f"{info.interpolation}, crop {info.crop_pct:g}, mean and standard deviation {statistics}",
        "Licence": info.license,
        "Paper": info.paper,
        "Authors' code": info.code,
    }
    print_facts((title, value) for title, value in facts.items() if value)
