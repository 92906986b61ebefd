"""`mlpzoo restore`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Device, Json, MaxPixels, UsageError, usable_device, value_errors_are_usage
from mlpzoo.cli._output import (
    add_row,
    complain_of,
    decibels,
    jsonable,
    picture_progress,
    print_json,
    print_notes,
    print_table,
    share,
)

EXAMPLES = (
    "mlpzoo restore noisy.png clean.png --task denoising --checkpoint checkpoint.npz",
    "mlpzoo restore photos/ restored/ --task deblurring --dataset gopro --tile 512",
    "mlpzoo restore noisy.png clean.png --checkpoint runs/denoise --target truth.png",
)


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image file, or a folder of them.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write (.png, .jpg, …), or a folder.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A folder that `mlpzoo train` wrote, or a file of weights for the network of --model or --task. "
            "Without it the checkpoint released for --task is downloaded."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A network's name, such as maxim_s3.")] = None,
    task: Annotated[
        str | None, typer.Option(help="What to undo: denoising, deblurring, deraining, dehazing, enhancement.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Which of the task's released checkpoints, by the data it was trained on.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="The true image, or a folder of them, to measure PSNR and SSIM against.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Restore in tiles of this side in pixels, a multiple of 64, to bound the memory."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels that neighbouring tiles share. By default a quarter of the tile.")
    ] = None,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average over 8 rotations and reflections, at 8 times the cost.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    max_pixels: MaxPixels = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Restore image files: remove noise, blur, rain or haze.

    Images are written upright, in RGB, with their 8 or 16 bits (16 in PNG only) and their metadata. Files that cannot
    be read or must not be replaced are named on stderr; the exit status is then 1.
    """
    from mlpzoo.restoration import load_restorer, restore_files
    from mlpzoo.restoration.releases import find_release

    if checkpoint is None and task is None:
        raise UsageError("give --checkpoint DIR_OR_FILE, or --task NAME for a released checkpoint")
    if task is not None:
        with value_errors_are_usage():
            find_release(task, dataset)
    network = load_restorer(checkpoint, model=model, task=task, dataset=dataset, device=usable_device(device))
    with picture_progress() as progress:
        files = list(
            restore_files(
                network,
                source,
                output,
                target=target,
                tile=tile,
                overlap=overlap,
                self_ensemble=self_ensemble,
                overwrite=overwrite,
                max_pixels=max_pixels,
                progress=progress,
            )
        )
    failed = complain_of(file.error for file in files)
    for file in files:
        fewer = not file.error and file.bits < file.source_bits
        print_notes([f"{file.output} keeps {file.bits} of {file.source_bits} bits"] if fewer else [])
        print_notes(file.notes)
    if as_json:
        print_json([{key: jsonable(value) for key, value in dataclasses.asdict(file).items()} for file in files])
    elif any(not file.error for file in files):
        table = Table("Image", "Written to")
        for title in ("PSNR, before", "after", "SSIM, before", "after") if target else ():
            table.add_column(title, justify="right")
        for file in files:
            if not file.error:
                figures = (
                    decibels(file.source_psnr),
                    decibels(file.psnr),
                    share(file.source_ssim),
                    share(file.ssim),
                )
                add_row(table, str(file.source), str(file.output), *(figures if target else ()))
        print_table(table)
    if failed:
        raise typer.Exit(1)
