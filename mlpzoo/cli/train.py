"""`mlpzoo train`."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mlpzoo.cli._arguments import Json, TrainingDevice, UsageError, value_errors_are_usage
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
    from mlpzoo import demos, tasks  # noqa: F401  recipes name data of the demos
    from mlpzoo.train import RecipeError, dump_recipe

    if recipe is None:
        _list_recipes(as_json)
        return
    folder = out or Path("runs") / Path(recipe).stem
    with value_errors_are_usage():
        given = list(changes or ()) + ([f"run.seed={seed}"] if seed is not None else [])
        given += [f"data.root={json.dumps(str(data))}"] if data else []
        read = tasks.read_recipe(recipe, given, epochs=epochs)
    _check_is_not_ones_own(recipe, folder)
    try:
        if dry_run:
            _show_plan(tasks.plan(read), dump_recipe(read), as_json)
            return
        result = tasks.train(read, folder, device=device, overwrite=overwrite)
    except RecipeError as error:
        raise UsageError(str(error)) from None
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json({**dataclasses.asdict(result), "folder": str(result.folder)})
        return
    print_facts([*result.rows(), ("Training time", f"{result.seconds:.1f} s"), ("Written to", str(result.folder))])


def _check_is_not_ones_own(recipe: str, folder: Path) -> None:
    """Refuse to write a run's settings over a recipe that somebody wrote.

    Raises:
        UsageError: when the recipe stands in the run's folder, under the name that a run writes.
    """
    from mlpzoo.train.engine import RECIPE, WRITTEN

    path = folder / RECIPE
    if Path(recipe).exists() and path.exists() and path.samefile(recipe):
        with path.open(encoding="utf-8") as file:
            if file.readline().rstrip("\n") != WRITTEN:
                raise UsageError(
                    f"a run in {folder} would write its settings over {path}: name another folder by --out"
                )


def _list_recipes(as_json: bool) -> None:
    from mlpzoo.tasks import read_recipe, shipped_recipes

    recipes = {name: read_recipe(name) for name in shipped_recipes()}
    if as_json:
        print_json([{"name": name, **recipe.model_dump(mode="json")} for name, recipe in recipes.items()])
        return
    table = Table("Recipe", "Task", "Model", "Data", "Source", "Result")
    for name, recipe in recipes.items():
        about = recipe.about
        cells = (name, recipe.task, recipe.model.name, recipe.data.dataset, about.source, about.result)
        add_row(table, *cells, end_section=True)
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
            ("Classes", "none" if plan.classes is None else str(plan.classes)),
            ("Images an epoch", f"{plan.images:,}"),
            ("Validation images", "none" if plan.validation_images is None else f"{plan.validation_images:,}"),
            ("Updates", f"{plan.updates:,}, {plan.updates_per_epoch:,} an epoch"),
            ("Memory expected", f"{plan.memory_mb / 1000:.2f} GB in one process, at full precision"),
        )
    )
