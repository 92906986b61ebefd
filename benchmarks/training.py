"""What the training engine costs over a bare PyTorch loop: `python -m benchmarks.training --help`.

Both run in one process on the same loader, network, loss, optimizer and schedule; blocks of updates are taken in turn,
so that a machine whose speed drifts treats them alike. Ours is the whole loop: accumulation, checks of the loss,
records, progress; without checkpoints and validations, which are no part of the other.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment, report
from benchmarks.arguments import Parser, positive
from benchmarks.measure import paired, quartiles
from mlpzoo import demos  # noqa: F401  the recipe's data
from mlpzoo.tasks import read_recipe
from mlpzoo.tasks.classification import Classification
from mlpzoo.train import Place
from mlpzoo.train.engine import processes
from mlpzoo.train.journal import Journal
from mlpzoo.train.loop import Trainer
from mlpzoo.train.optimizers import build_optimizer, build_schedule

RESULTS = environment.ROOT / "benchmarks" / "results"
CASES: dict[str, list[str]] = {
    "digits recipe": [],
    "twice as wide": ["model.options.embed_dim=128", "model.options.channels_mlp_dim=512"],
}
"""What is trained: changes to the recipe `digits`."""
ENOUGH_PAIRS = 15


def blocks(changes: list[str], *, pairs: int, updates: int) -> Iterator[tuple[float, float]]:
    """Seconds of a block of updates, ours and bare, in turn; the first of each is not given."""
    recipe = read_recipe("digits", ["data.workers=0", "run.checkpoint_every=1000000", *changes])
    with processes(recipe.run, "cpu") as accelerator, tempfile.TemporaryDirectory() as folder:
        ours, bare = (_task(recipe, updates) for _ in range(2))
        trainer = Trainer(ours, Path(folder), accelerator)
        optimizer = build_optimizer(bare.model, recipe.optimizer)
        schedule = build_schedule(optimizer, recipe.schedule, updates)
        with Journal(Path(folder), accelerator, step=0, updates=trainer.updates, progress=False) as journal:
            for pair in range(pairs + 1):
                start = time.perf_counter()
                trainer._epoch(journal)
                middle = time.perf_counter()
                _bare_epoch(bare, optimizer, schedule, pair)
                end = time.perf_counter()
                if pair:
                    yield middle - start, end - middle


def _task(recipe: Any, updates: int) -> Classification:
    torch.manual_seed(0)
    task = Classification(recipe, Place(torch.device("cpu")))
    task.updates_per_epoch = task.training.order.updates = min(updates, task.updates_per_epoch)
    return task


def _bare_epoch(task: Classification, optimizer: torch.optim.Optimizer, schedule: Any, epoch: int) -> None:
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


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; append rows where there are enough pairs."""
    parser = Parser("python -m benchmarks.training", description="The training engine beside a bare PyTorch loop.")
    parser.add_argument("--pairs", type=positive, default=ENOUGH_PAIRS, help="pairs of blocks (default: 15)")
    parser.add_argument("--updates", type=positive, default=22, help="updates of a block (default: 22)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, help="CSV file to append to (default: results/training-cpu.csv)")
    given = parser.parse_args(arguments)
    if given.pairs < 2:
        parser.error("--pairs must be 2 or more: quartiles need two values")
    torch.set_num_threads(given.threads)
    out = given.out or (RESULTS / "training-cpu.csv" if given.pairs >= ENOUGH_PAIRS else None)
    command = f"python -m benchmarks.training --pairs {given.pairs} --updates {given.updates} --threads {given.threads}"
    common = {**environment.describe("cpu"), "suite": "training", "command": command}
    for name, changes in CASES.items():
        times = list(blocks(changes, pairs=given.pairs, updates=given.updates))
        ours, bare = ([1e3 * pair[i] / given.updates for pair in times] for i in range(2))
        cost = paired(ours, bare)
        print(
            f"{name}: an update takes {quartiles(bare).median:.1f} ms in a bare loop, and {cost.median:.3f} times as "
            f"long ({cost.q1:.3f}-{cost.q3:.3f}) in the engine"
        )
        if out:
            common |= {"date": environment.now(), "model": name, "dtype": "fp32", "compiled": 0, "pairs": given.pairs}
            rows: list[report.Row] = [
                {**common, "contender": "ours", **report.columns("ms", quartiles(ours))},
                {
                    **common,
                    "contender": "bare loop",
                    **report.columns("ms", quartiles(bare)),
                    **report.columns("ratio", paired(bare, ours)),
                },
            ]
            report.append_csv(out, "train", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
