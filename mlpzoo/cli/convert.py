"""`mlpzoo convert`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlpzoo.cli._arguments import Json, UsageError, check_model, image_size
from mlpzoo.cli._output import print_facts, print_json, printable

EXAMPLES = (
    "mlpzoo convert Mixer-B_16.npz mixer_b16.safetensors",
    "mlpzoo convert CycleMLP_B2.pth cyclemlp_b2 (a folder for the hub)",
    "mlpzoo convert resmlp_12_dist.pth timm.safetensors --layout timm",
)
DTYPES = ("float32", "float16", "bfloat16")


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of weights, in any released format.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="NAME.safetensors for one file; any other name for a folder with config.json."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model that the weights belong to, NAME or NAME.TAG. By default it is found from the file."
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Whose parameter names and shapes the one file has: mlpzoo or timm.")
    ] = "mlpzoo",
    img_size: Annotated[
        str | None,
        typer.Option(help="Image size it was trained at, HEIGHTxWIDTH in pixels, if its token grid is not square."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help=f"{', '.join(DTYPES[:-1])} or {DTYPES[-1]}. By default the model's, float32.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Convert released weights of any format to safetensors.

    Which model they belong to is found from the file.
    """
    import torch

    from mlpzoo.weights import convert

    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown type '{dtype}': choose {', '.join(DTYPES)}")
    if model is not None:
        check_model(model)
    grid = None if img_size is None else image_size(img_size)
    with Console(stderr=True).status(f"Converting {printable(str(source))}"):
        done = convert(
            source,
            target,
            model=model,
            layout=layout,
            img_size=grid,
            dtype=getattr(torch, dtype) if dtype else None,
            overwrite=overwrite,
        )
    if as_json:
        print_json({**dataclasses.asdict(done), "source": str(done.source), "target": str(done.target)})
        return
    print_facts(
        (
            ("Model", done.name),
            ("Options", ", ".join(f"{key}={value!r}" for key, value in done.options.items()) or "its own"),
            ("Read as", done.report.format),
            ("Tensors", str(done.tensors)),
            ("Written to", str(done.target)),
        )
    )
