"""`mlpzoo train`."""

import dataclasses
import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Json, TrainingDevice, UsageError, usable_device, value_errors_are_usage
from mlpzoo.cli._output import add_row, millions, print_facts, print_json, print_table

EXAMPLES = (
    "mlpzoo train digits",
    "mlpzoo train finetune --data photos model.name=mixer_b16 model.pretrained=true model.options.img_size=320",
    "mlpzoo train recipe.yaml optimizer.lr=1e-3 schedule.epochs=30 --dry-run",
    "torchrun --nproc-per-node 8 -m mlpzoo train cyclemlp_300e --data imagenet",
)


def command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe's name, or its .yaml file; without it, the list.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, such as optimizer.lr=1e-3."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the images; short for data.root=FOLDER.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. By default runs/RECIPE.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed: the same one gives the same model on the CPU.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data. By default the recipe's.")] = None,
    device: TrainingDevice = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished run, or one of another recipe, in the folder.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and the sizes, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model by a recipe. The same command resumes an interrupted run.

    Without RECIPE, list the recipes that mlpzoo includes. Progress is shown on stderr.

    Several processes train together under `torchrun -m mlpzoo train …` or `accelerate launch -m mlpzoo train …`.
    """
    from mlpzoo import train as room
    from mlpzoo.train import recipe_files

    if recipe is None:
        _list_recipes(as_json)
        return
    folder = out or Path("runs") / Path(recipe).stem
    if recipe in room.PROGRAMS:
        if changes or data or dry_run or overwrite:
            raise UsageError(f"{recipe} takes --out, --seed, --epochs and --device alone")
        options: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
        where = usable_device(device or "cpu")
        result = room.PROGRAMS[recipe](folder, seed=seed or 0, device=where, **options)
    else:
        known = [*room.shipped_recipes(), *room.PROGRAMS]
        if recipe not in known and Path(recipe).suffix not in (".yaml", ".yml"):
            near = difflib.get_close_matches(recipe, known, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise UsageError(f"unknown recipe '{recipe}'{hint}: there is {', '.join(known)}, or give a .yaml file")
        with value_errors_are_usage():
            given = list(changes or ()) + ([f"run.seed={seed}"] if seed is not None else [])
            given += [f"data.root={json.dumps(str(data))}"] if data else []
            read = room.read_recipe(recipe, given)
            if epochs is not None:
                read = recipe_files.with_epochs(recipe, given, epochs)
        if dry_run:
            _show_plan(room.plan(read), room.dump_recipe(read), as_json)
            return
        result = room.train(read, folder, device=device, overwrite=overwrite)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        # Every result is a dataclass; a protocol cannot say so.
        print_json({**dataclasses.asdict(result), "folder": str(result.folder)})  # type: ignore[call-overload]
        return
    print_facts([*result.rows(), ("Training time", f"{result.seconds:.1f} s"), ("Written to", str(result.folder))])


def _list_recipes(as_json: bool) -> None:
    from mlpzoo import train as room

    recipes = {name: room.read_recipe(name) for name in room.shipped_recipes()}
    if as_json:
        print_json([{"name": name, **recipe.model_dump(mode="json")} for name, recipe in recipes.items()])
        return
    table = Table("Recipe", "Model", "Data", "Source", "Result")
    for name, recipe in recipes.items():
        about = recipe.about
        add_row(table, name, recipe.model.name, recipe.data.dataset, about.source, about.result, end_section=True)
    for name, program in room.PROGRAMS.items():
        add_row(table, name, "–", "–", "ours", (program.__doc__ or "").splitlines()[0])
    print_table(table)


def _show_plan(plan: Any, settings: str, as_json: bool) -> None:
    if as_json:
        print_json({**dataclasses.asdict(plan), "recipe": settings})
        return
    print(settings)
    trained = "" if plan.trained == plan.parameters else f", {millions(plan.trained)} of them trained"
    print_facts(
        (
            ("Parameters", millions(plan.parameters) + trained),
            ("Forward pass", f"{plan.gmacs:.2f} GMACs an image"),
            ("Classes", str(plan.classes)),
            ("Images an epoch", f"{plan.images:,}"),
            ("Validation images", "none" if plan.validation_images is None else f"{plan.validation_images:,}"),
            ("Updates", f"{plan.updates:,}, {plan.updates_per_epoch:,} an epoch"),
            ("Memory expected", f"{plan.memory_mb / 1000:.2f} GB in one process, at full precision"),
        )
    )
