"""The suite `training`: what the training engine costs over a bare PyTorch loop.

Both run in one process on the same loader, network, loss, optimizer and schedule; blocks of updates are taken in turn,
so that a machine whose speed drifts treats them alike. Ours is the whole loop: accumulation, checks of the loss,
records, progress; without checkpoints and validations, which are no part of the other.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.measure import Row, Runner, measure
from benchmarks.options import Options
from benchmarks.report import END, OURS, TIMES, WHAT
from benchmarks.suite import Suite, register

CASES: dict[str, list[str]] = {
    "digits": [],
    "digits_wide": ["model.options.embed_dim=128", "model.options.channels_mlp_dim=512"],
}
"""What is trained: changes to the recipe `digits`."""


class Loop(Runner):
    """A block of updates.

    Args:
        task: what is trained.
        step: makes the updates.
    """

    def __init__(self, task: Any, step: Callable[[], None]) -> None:
        self.task = task
        self.step = step


@contextlib.contextmanager
def loops(changes: list[str], *, pairs: int, updates: int) -> Iterator[dict[str, Loop]]:
    """Our loop and a bare one, ready for `pairs` blocks and one to warm up."""
    from mlpzoo import demos  # noqa: F401  the recipe's data
    from mlpzoo.tasks import read_recipe
    from mlpzoo.tasks.classification import Classification
    from mlpzoo.train import Place
    from mlpzoo.train.engine import processes
    from mlpzoo.train.journal import Journal
    from mlpzoo.train.loop import Trainer
    from mlpzoo.train.optimizers import build_optimizer, build_schedule

    def build_task() -> Classification:
        torch.manual_seed(0)
        task = Classification(recipe, Place(torch.device("cpu")))
        task.updates_per_epoch = task.training.order.updates = min(updates, task.updates_per_epoch)
        return task

    recipe = read_recipe("digits", ["data.workers=0", "run.checkpoint_every=1000000", *changes])
    with processes(recipe.run, "cpu") as accelerator, tempfile.TemporaryDirectory() as folder:
        ours, bare = build_task(), build_task()
        trainer = Trainer(ours, Path(folder), accelerator)
        optimizer = build_optimizer(bare.model, recipe.optimizer)
        schedule = build_schedule(optimizer, recipe.schedule, updates)
        epochs = iter(range(pairs + 1))
        with Journal(Path(folder), accelerator, step=0, updates=trainer.updates, progress=False) as journal:
            yield {
                OURS: Loop(ours, lambda: trainer._epoch(journal)),
                "bare loop": Loop(bare, lambda: _bare_epoch(bare, optimizer, schedule, next(epochs))),
            }


def _bare_epoch(task: Any, optimizer: torch.optim.Optimizer, schedule: Any, epoch: int) -> None:
    """The same updates as anybody would write them."""
    model = task.model.train()
    order = task.training.order
    order.epoch, order.start = epoch, 0
    for update, ((images, labels), _, _) in enumerate(task.training.loader):
        loss = task.loss_of(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step_update(epoch * task.updates_per_epoch + update + 1)


def run_training(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Time both loops; yields their rows, milliseconds an update."""
    how = {"pairs": options.pairs}
    with loops(CASES[name], **how, updates=options.updates) as runners:
        rows = measure(runners, device="cpu", warmups=1, repeats=options.updates, **how)
    about = {"dtype": "fp32", "compiled": 0, "pairs": options.pairs}
    yield [{**about, "contender": contender, **row} for contender, row in rows.items()]


register(
    Suite(
        name="training",
        summary="the training engine beside a bare PyTorch loop",
        run=run_training,
        options=(
            opt.several("models", "what is trained", CASES),
            *(opt.CPU_ONLY, opt.PAIRS),
            opt.Option(name="updates", help="updates of a block", default=22, parse=opt.positive),
        ),
        columns=("model", *WHAT, *TIMES, *END),
    )
)
