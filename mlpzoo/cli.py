"""The `mlpzoo` command: every verb is one call into the library and a way to show what came back."""

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import mlpzoo
from mlpzoo._terminal import (
    complain,
    decibels,
    jsonable,
    millions,
    percent,
    picture_progress,
    print_json,
    print_table,
    printable,
    row,
    share,
    times,
)

app = typer.Typer(
    name="mlpzoo",
    help="MLP-like vision networks: look them up, run them on image files, train one.",
    epilog="Example: mlpzoo train digits, then mlpzoo predict --checkpoint runs/digits runs/digits/samples/*.png",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Typer vendors click in some versions and imports it in others; its own exception leads to the base of either.
CLICK_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]


class UsageError(Exception):
    """The command was called wrongly: exit status 2."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and turn every mistake into one line on stderr; return the exit status."""
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that cannot show a character gets a question mark instead of a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        status = app(args=None if arguments is None else list(arguments), prog_name="mlpzoo", standalone_mode=False)
        sys.stdout.flush()
    except CLICK_USAGE_ERROR as error:
        return _fail(error.format_message(), 2)  # type: ignore[attr-defined]
    except UsageError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            # Whoever read our output has left. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        # A training run that a signal stopped carries its number: the exit status is then what a shell gives.
        return _fail(str(error) or type(error).__name__, 128 + getattr(error, "signal", -127))
    if status == 130:
        return _fail("interrupted", 130)
    return status or 0


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Handle what stands before the verb."""
    if version:
        print(f"mlpzoo {mlpzoo.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list", epilog="Example: mlpzoo list 'mixer_b*' --json")
def list_(
    filter: Annotated[
        list[str] | None, typer.Argument(metavar="[FILTER]...", help="Wildcard patterns, such as 'mixer_*'.")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only models with released weights.")] = False,
    as_json: Json = False,
) -> None:
    """List the models with their size, cost and published accuracy."""
    names = mlpzoo.list_models(filter or "", pretrained=pretrained)
    if not names:
        raise ValueError("no model matches; `mlpzoo list` shows all")
    infos = [mlpzoo.model_info(name) for name in names]
    if as_json:
        print_json([dataclasses.asdict(info) for info in infos])
        return
    table = Table("Model", "Family")
    for title in ("Parameters", "GMACs", "Input", "Top-1"):
        table.add_column(title, justify="right")
    table.add_column("Licence")
    for info in infos:
        row(
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


@app.command("info", epilog="Example: mlpzoo info mixer_b16")
def info_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or name.tag for certain weights.")],
    as_json: Json = False,
) -> None:
    """Tell what is known of one model."""
    with _names_are_usage():
        info = mlpzoo.model_info(name)
    if as_json:
        print_json(dataclasses.asdict(info))
        return
    table = Table(show_header=False)
    row(table, "Model", info.name)
    row(table, "Family", info.family)
    row(table, "Parameters", millions(info.parameters))
    row(table, "GMACs", f"{info.gmacs:.2f}")
    row(table, "Input", times(info.input_size))
    row(table, "Classes", str(info.num_classes))
    row(table, "Published top-1", f"{percent(info.top1)} ({info.top1_source})" if info.top1 else "–")
    row(table, "Released weights", ", ".join(info.weights) or "none")
    if info.file:
        row(table, "File", info.file)
    statistics = " and ".join(", ".join(f"{value:g}" for value in values) for values in (info.mean, info.std))
    row(table, "Preprocessing", f"{info.interpolation}, crop {info.crop_pct:g}, mean and deviation {statistics}")
    row(table, "Licence", info.license)
    row(table, "Paper", info.paper)
    row(table, "Authors' code", info.code)
    print_table(table)


@app.command(
    epilog="Examples: mlpzoo predict --checkpoint runs/digits a.png b.png\n\n"
    "mlpzoo predict --model mixer_b16 --top-k 3 --json *.jpg\n\n"
    "mlpzoo predict --model mixer_b16 --checkpoint Mixer-B_16.npz photo.jpg"
)
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A folder that `mlpzoo train` wrote, or a file of weights in any released format."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model's name; alone, its released weights are downloaded; with a file, what it is of."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show for each image.")] = 5,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Say what image files show. Files that cannot be read are named on stderr; the exit status is then 1."""
    from mlpzoo.inference import load_classifier, predict

    if checkpoint is None and model is None:
        raise UsageError("give --checkpoint DIR_OR_FILE, or --model NAME for released weights")
    if model is not None:
        with _names_are_usage():
            mlpzoo.model_info(model)
    network, labels = load_classifier(checkpoint, model=model, device=_device(device))
    predictions = list(predict(network, images, labels=labels, top_k=top_k))
    for prediction in predictions:
        if prediction.error:
            complain(str(prediction.error))
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
                row(table, "" if i else str(prediction.path), label, f"{p:.1%}", end_section=last)
        print_table(table)
    if any(prediction.error for prediction in predictions):
        raise typer.Exit(1)


@app.command(
    epilog="Examples: mlpzoo detect --checkpoint runs/detection-digits photo.png\n\n"
    "mlpzoo detect --checkpoint runs/detection-digits --out found --score-threshold 0.3 --json *.png"
)
def detect(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    checkpoint: Annotated[Path, typer.Option(help="A folder that `mlpzoo train detection-digits` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures; beside each file by default.")] = None,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="Leave out what is less sure.")] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures that exist.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find things in image files and draw them into copies, NAME-detected.png.

    Files that cannot be read, or whose picture must not be replaced, are named on stderr; the exit status is then 1.
    """
    from mlpzoo.tasks import detect_files, load_detector

    detector = load_detector(checkpoint, device=_device(device))
    files = list(detect_files(detector, images, out=out, score_threshold=score_threshold, overwrite=overwrite))
    for file in files:
        if file.error:
            complain(str(file.error))
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
                row(table, str(file.source), "nothing", *("–",) * 5, str(file.output), end_section=True)
            for i, box in enumerate(file.boxes if file.output else ()):
                sides = (f"{side:.1f}" for side in box.box)
                names = ("", "") if i else (str(file.source), str(file.output))
                last = i == len(file.boxes) - 1
                row(table, names[0], box.label, f"{box.score:.2f}", *sides, names[1], end_section=last)
        print_table(table)
    if any(file.error for file in files):
        raise typer.Exit(1)


@app.command(
    epilog="Examples: mlpzoo restore noisy.png clean.png --task denoising --checkpoint checkpoint.npz\n\n"
    "mlpzoo restore photos/ restored/ --task deblurring --dataset gopro --tile 512\n\n"
    "mlpzoo restore noisy.png clean.png --checkpoint runs/denoise --target truth.png"
)
def restore(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image file, or a folder of them.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write (.png, .jpg, …), or a folder.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A folder that `mlpzoo train` wrote, or a file of weights of --model or of --task's network; without "
            "it the checkpoint released for --task is downloaded."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A network's name, such as maxim_s3.")] = None,
    task: Annotated[
        str | None, typer.Option(help="What to undo: denoising, deblurring, deraining, dehazing, enhancement.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Which of the task's released checkpoints, by what it was trained on.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="The true picture, or a folder of them, to measure PSNR and SSIM against.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Restore by tiles of that many pixels, a multiple of 64: memory then depends on it."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels that neighbouring tiles share; a quarter of the tile by default.")
    ] = None,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average over 8 rotations and reflections, at 8 times the cost.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Restore image files: take out noise, blur, rain or haze.

    Pictures come out upright, in RGB, with their 8 or 16 bits (16 in PNG only) and their metadata. Files that cannot
    be read or must not be replaced are named on stderr; the exit status is then 1.
    """
    from mlpzoo.restoration import load_restorer, restore_files
    from mlpzoo.restoration.releases import find_release

    if checkpoint is None and task is None:
        raise UsageError("give --checkpoint DIR_OR_FILE, or --task NAME for a released checkpoint")
    with _names_are_usage():
        if task is not None:
            find_release(task, dataset)
    network = load_restorer(checkpoint, model=model, task=task, dataset=dataset, device=_device(device))
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
                progress=progress,
            )
        )
    for file in files:
        if file.error:
            complain(str(file.error))
        elif file.bits < file.source_bits:
            print(f"mlpzoo: note: {file.output} keeps {file.bits} of {file.source_bits} bits", file=sys.stderr)
    if as_json:
        plain = [{key: jsonable(value) for key, value in dataclasses.asdict(file).items()} for file in files]
        print_json(plain)
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
                row(table, str(file.source), str(file.output), *(figures if target else ()))
        print_table(table)
    if any(file.error for file in files):
        raise typer.Exit(1)


@app.command(
    epilog="Examples: mlpzoo convert Mixer-B_16.npz mixer_b16.safetensors\n\n"
    "mlpzoo convert CycleMLP_B2.pth cyclemlp_b2 (a folder for the hub)\n\n"
    "mlpzoo convert resmlp_12_dist.pth timm.safetensors --layout timm"
)
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of weights, in any released format.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="NAME.safetensors for one file; any other name for a folder with config.json."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The model it is of, told from the file by default; NAME.TAG for released weights."),
    ] = None,
    layout: Annotated[str, typer.Option(help="Names and shapes in the one file: mlpzoo or timm.")] = "mlpzoo",
    img_size: Annotated[
        str | None,
        typer.Option(help="Image size it was trained at, HEIGHTxWIDTH in pixels, if its token grid is not square."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; by default as the model is built, float32.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Convert released weights of any format to safetensors, telling from the file which model it is of."""
    from mlpzoo.weights import convert

    types = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype is not None and dtype not in types:
        raise UsageError(f"unknown type '{dtype}': choose {', '.join(types)}")
    with _names_are_usage():
        if model is not None:
            mlpzoo.model_info(model)
        grid = None if img_size is None else _grid(img_size)
    with Console(stderr=True).status(f"Converting {printable(str(source))}"):
        done = convert(
            source,
            target,
            model=model,
            layout=layout,
            img_size=grid,
            dtype=types.get(dtype or ""),
            overwrite=overwrite,
        )
    if as_json:
        print_json({**dataclasses.asdict(done), "source": str(done.source), "target": str(done.target)})
        return
    table = Table(show_header=False)
    row(table, "Model", done.name)
    row(table, "Options", ", ".join(f"{key}={value!r}" for key, value in done.options.items()) or "its own")
    row(table, "Read as", done.report.format)
    row(table, "Tensors", str(done.tensors))
    row(table, "Written to", str(done.target))
    print_table(table)


@app.command(
    epilog="Examples: mlpzoo train digits\n\n"
    "mlpzoo train finetune --data photos model.name=mixer_b16 model.pretrained=true model.options.img_size=320\n\n"
    "mlpzoo train recipe.yaml optimizer.lr=1e-3 schedule.epochs=30 --dry-run\n\n"
    "torchrun --nproc-per-node 8 -m mlpzoo train cyclemlp_300e --data imagenet"
)
def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe's name, or its .yaml file; without it, the list.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, such as optimizer.lr=1e-3."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the images; short for data.root=FOLDER.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, runs/RECIPE by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed: the same one gives the same model on the CPU.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data, the recipe's own by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to compute: cpu or cuda; a GPU where there is one by default.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Give up a finished or different run in the folder.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and the sizes, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe, showing progress on stderr; the same command goes on with a run that was cut short.

    Without RECIPE, list those that come along. `accelerate launch -m mlpzoo train …` and `torchrun -m mlpzoo train …`
    run it in several processes.
    """
    from mlpzoo import demos, tasks  # noqa: F401  recipes name data of the demos
    from mlpzoo.train import dump_recipe

    if recipe is None:
        _list_recipes(as_json)
        return
    folder = out or Path("runs") / Path(recipe).stem
    with _names_are_usage():
        given = list(changes or ()) + ([f"run.seed={seed}"] if seed is not None else [])
        given += [f"data.root={json.dumps(str(data))}"] if data else []
        read = tasks.read_recipe(recipe, given, epochs=epochs)
    if dry_run:
        _show_plan(tasks.plan(read), dump_recipe(read), as_json)
        return
    result = tasks.train(read, folder, device=device, overwrite=overwrite)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json({**dataclasses.asdict(result), "folder": str(result.folder)})
        return
    table = Table(show_header=False)
    for title, value in result.rows():
        row(table, title, value)
    row(table, "Training time", f"{result.seconds:.1f} s")
    row(table, "Written to", str(result.folder))
    print_table(table)


def _list_recipes(as_json: bool) -> None:
    from mlpzoo.tasks import read_recipe, shipped_recipes

    recipes = {name: read_recipe(name) for name in shipped_recipes()}
    if as_json:
        print_json([{"name": name, **recipe.model_dump(mode="json")} for name, recipe in recipes.items()])
        return
    table = Table("Recipe", "Task", "Model", "Data", "Source", "Result")
    for name, recipe in recipes.items():
        about = recipe.about
        row(
            table,
            name,
            recipe.task,
            recipe.model.name,
            recipe.data.dataset,
            about.source,
            about.result,
            end_section=True,
        )
    print_table(table)


def _show_plan(plan: Any, settings: str, as_json: bool) -> None:
    if as_json:
        print_json({**dataclasses.asdict(plan), "recipe": settings})
        return
    print(settings)
    table = Table(show_header=False)
    trained = "" if plan.trained == plan.parameters else f", {millions(plan.trained)} of them trained"
    row(table, "Parameters", millions(plan.parameters) + trained)
    row(table, "Forward pass", f"{plan.gmacs:.2f} GMACs an image")
    row(table, "Classes", "none" if plan.classes is None else str(plan.classes))
    row(table, "Images an epoch", f"{plan.images:,}")
    row(table, "Validation images", "none" if plan.validation_images is None else f"{plan.validation_images:,}")
    row(table, "Updates", f"{plan.updates:,}, {plan.updates_per_epoch:,} an epoch")
    row(table, "Memory expected", f"{plan.memory_mb / 1000:.2f} GB in one process, at full precision")
    print_table(table)


@app.command(
    epilog="Examples: mlpzoo validate runs/finetune\n\nmlpzoo validate runs/finetune --data other_photos --split test"
)
def validate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[Path | None, typer.Option(help="Other images of the same classes.")] = None,
    split: Annotated[str | None, typer.Option(help="Which of their splits, the recipe's own by default.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a batch.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to compute: cpu or cuda; a GPU where there is one by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained model on validation images."""
    from mlpzoo import demos  # noqa: F401  recipes name data of the demos
    from mlpzoo.tasks import validate as measure

    result = measure(run, data=str(data) if data else None, split=split, device=device, batch_size=batch_size)
    if as_json:
        print_json(result.figures)
        return
    table = Table(show_header=False)
    for title, value in result.rows():
        row(table, title, value)
    print_table(table)


@app.command(epilog="Example: mlpzoo compare mixer_s16 vit_s16 --sizes 224,384,512 --plot cost.png")
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of models.")],
    sizes: Annotated[str, typer.Option(help="Image sides in pixels, or HEIGHTxWIDTH, with commas.")] = "224,384,512",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch; figures are for one.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds; the median is shown.")] = 9,
    plot: Annotated[Path | None, typer.Option(help="Picture to draw, such as cost.png.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure parameters, operations, activation memory and time of models against image size."""
    from mlpzoo.compare import compare, draw

    where = _device(device)
    with _names_are_usage():
        grids = [_grid(size) for size in sizes.split(",")]
        for name in models:
            mlpzoo.model_info(name)
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
            row(table, times(cost.img_size), cost.model, *figures, end_section=(i + 1) % len(models) == 0)
        print_table(table)
    for cost in costs:
        if cost.problem:
            complain(f"{cost.model} at {times(cost.img_size)}: {cost.problem}")
    if plot is not None:
        draw(costs, plot, title=f"Cost of one image against image size ({where}, batch {batch_size})")


def _grid(size: str) -> tuple[int, int]:
    """An image size as typed: one side of a square, or HEIGHTxWIDTH."""
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"'{size}' is no image size: give pixels, such as 224, or HEIGHTxWIDTH, such as 384x512")
    return int(sides[0]), int(sides[-1])


@contextlib.contextmanager
def _names_are_usage() -> Iterator[None]:
    """Within, a ValueError is about a name the user typed."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _device(name: str) -> torch.device:
    """The device of that name, if this machine has it."""
    try:
        device = torch.device(name)
        usable = device.type != "meta" and torch.zeros(1, device=device).item() == 0
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = False
    if not usable:
        raise UsageError(f"cannot compute on device '{name}' here: try cpu, or cuda where PyTorch finds a GPU")
    return device


def _fail(message: str, status: int) -> int:
    complain(message)
    return status
