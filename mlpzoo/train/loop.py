"""The training loop: any task, on Hugging Face accelerate, from one CPU to many nodes.

What is trained is a `Task`; how, its recipe. The loop owns updates, accumulation, clipping, schedule, moving average,
validation and checkpoints, and stops cleanly at signals and at losses that are not finite.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from timm.utils import ModelEmaV3
from torch import Tensor

from mlpzoo.train.checkpoints import CheckpointFolder, State
from mlpzoo.train.identity import Identity, difference
from mlpzoo.train.journal import Journal, Speed, peak_flops
from mlpzoo.train.optimizers import build_optimizer, build_schedule
from mlpzoo.train.randomness import mixed, random_state, seed_all, set_random_state
from mlpzoo.train.sharding import full_state, load_full_state
from mlpzoo.train.task import Task

CHECKPOINTS = "checkpoints"
BEST = "best"


class Diverged(RuntimeError):  # noqa: N818
    """The loss is not finite any more."""


class Stopped(RuntimeError):  # noqa: N818
    """A signal stopped the run after a checkpoint was saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Trainer:
    """One run.

    Args:
        task: what is trained, with its recipe.
        folder: of the run; checkpoints, metrics and the best weights go there.
        accelerator: where it runs.
        progress: whether to show progress on stderr.
    """

    def __init__(self, task: Task, folder: Path, accelerator: Accelerator, *, progress: bool = True) -> None:
        self.task, self.folder, self.accelerator, self.progress = task, folder, accelerator, progress
        run, schedule, optimizer = task.recipe.run, task.recipe.schedule, task.recipe.optimizer
        self.run = run
        self.clip_norm = optimizer.clip_norm
        self.updates = schedule.updates or (schedule.epochs or 0) * task.updates_per_epoch
        self.updates += schedule.cooldown_epochs * task.updates_per_epoch
        self.checkpoints = CheckpointFolder(folder / CHECKPOINTS, run.keep_checkpoints)
        self.step = 0
        self.best = -math.inf
        self.validated: dict[str, float] = {}
        # Of the main process alone.
        self.data: Identity = {}
        # A signal heard by this process; acted upon once all processes know of it, at the same update.
        self._heard = self._signal = 0

        if run.compile:
            task.model.compile()
        unwrapped = build_optimizer(task.model, optimizer)
        self.schedule = build_schedule(unwrapped, schedule, task.updates_per_epoch)
        self.raw_optimizer = unwrapped
        self.model, self.optimizer = accelerator.prepare(task.model, unwrapped)
        self.ema: ModelEmaV3 | None = None
        if run.ema_decay is not None:
            if accelerator.is_fsdp2:
                raise ValueError("a moving average (run.ema_decay) of sharded weights is not kept: use strategy ddp")
            self.ema = ModelEmaV3(accelerator.unwrap_model(self.model), decay=run.ema_decay, use_warmup=run.ema_warmup)
        # Every process starts from the same network; from here on, their random numbers (dropout) differ.
        seed_all(mixed(run.seed, accelerator.process_index))

    def fit(self) -> dict[str, float]:
        """Train to the end, resuming from the newest checkpoint if there is one.

        Returns:
            What the last validation found.

        Raises:
            ValueError: when the data are not those of the checkpoint.
            Diverged: when the loss is not finite.
            Stopped: on SIGTERM or SIGINT, after saving.
            OSError: when a checkpoint cannot be written.
        """
        if self.accelerator.is_main_process:
            self.checkpoints.clear()
        said = self._resume()
        journal = Journal(self.folder, self.accelerator, step=self.step, updates=self.updates, progress=self.progress)
        with journal, self._listening():
            for line in said:
                journal.say(line)
            while self.step < self.updates:
                self._epoch(journal)
            if not self.validated:
                self._validate(journal)
        return self.validated

    def weights(self) -> Mapping[str, Tensor]:
        """What is validated and saved: the moving average where there is one. Complete in the main process alone."""
        if self.ema is not None:
            return self.ema.module.state_dict()
        return full_state(self.accelerator, self.model, None)[0]

    def save(self, folder: Path) -> None:
        """Write the network as it is validated; every process must call it, and the main one writes."""
        weights = self.weights()
        if self.accelerator.is_main_process:
            recipe = self.task.recipe
            about = recipe.about.model_dump(exclude_defaults=True)
            about |= {"step": self.step, "seed": recipe.run.seed, **self.validated}
            self.task.save(weights, folder, about)

    def _epoch(self, journal: Journal) -> None:
        """Updates up to the end of an epoch, or of the run."""
        task, run, accelerator = self.task, self.run, self.accelerator
        epoch, start = divmod(self.step, task.updates_per_epoch)
        validate_every = max(1, round(run.validate_every * task.updates_per_epoch)) if run.validate_every else 0
        checkpoint_every = run.checkpoint_every or task.updates_per_epoch
        check_every = 1 if accelerator.device.type == "cpu" else run.log_every
        batches = task.batches(epoch, start)
        window: list[tuple[Tensor, Mapping[str, Tensor]]] = []
        speed = Speed()
        task.train_mode(self.model)
        for _ in range(start, min(task.updates_per_epoch, start + self.updates - self.step)):
            window.append(self._update(batches))
            self.step += 1
            due = (
                (validate_every and self.step % validate_every == 0) or self.step == self.updates,
                self.step % checkpoint_every == 0 or self.step == self.updates,
            )
            log = self.step % run.log_every == 0 or self.step % task.updates_per_epoch == 0 or any(due)
            if log or self.step % check_every == 0:
                self._check(window, epoch)
            if log:
                self._log(journal, epoch, window, speed)
                window.clear()
            since = time.perf_counter()
            if due[0]:
                self._validate(journal)
                task.train_mode(self.model)
            if due[1]:
                self._save()
            speed.pause(since)
            if accelerator.num_processes == 1:
                self._signal = self._heard
            if self._signal:
                where = self.checkpoints.path(self.step)
                if not due[1]:
                    self._save()
                name = signal.Signals(self._signal).name
                raise Stopped(f"stopped by {name}; saved {where}: the same command goes on from there", self._signal)

    def _update(self, batches: Iterator[Any]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """One update from as many batches as it accumulates; the mean loss and figures of this process."""
        accelerator = self.accelerator
        losses, shown = [], []
        for _ in range(self.run.accumulate):
            with accelerator.accumulate(self.model):
                loss, figures = self.task.loss(self.model, next(batches))
                accelerator.backward(loss)
                if self.clip_norm and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.model.parameters(), self.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            losses.append(loss.detach())
            shown.append(figures)
        self.schedule.step_update(self.step + 1)
        if self.ema is not None:
            self.ema.update(accelerator.unwrap_model(self.model), step=self.step + 1)
        if len(losses) == 1:
            return losses[0], shown[0]
        means = {name: torch.stack([figures[name] for figures in shown]).mean() for name in shown[0]}
        return torch.stack(losses).mean(), means

    def _check(self, window: list[tuple[Tensor, Mapping[str, Tensor]]], epoch: int) -> None:
        """Agree with the other processes on whether to stop, and stop if a loss is not finite."""
        unchecked = torch.stack([loss for loss, _ in window]).float()
        bad = (~unchecked.isfinite()).nonzero()
        first = len(window) - int(bad[0]) if len(bad) else 0
        self._signal = self._heard
        if self.accelerator.num_processes > 1:
            told = torch.tensor([first, self._signal], device=self.accelerator.device)
            first, self._signal = torch.stack(list(self.accelerator.gather(told[None]))).amax(0).tolist()
        if first:
            step = self.step - first + 1
            newest = self.checkpoints.steps()
            last = f"the last good checkpoint is {self.checkpoints.path(newest[0])}" if newest else "none is saved yet"
            raise Diverged(
                f"the loss is not finite any more at update {step} (epoch {epoch + 1}), at a learning rate of "
                f"{self._lr():.3g}; {last}. A lower optimizer.lr, a longer warm-up or optimizer.clip_norm may help"
            )

    def _log(
        self, journal: Journal, epoch: int, window: list[tuple[Tensor, Mapping[str, Tensor]]], speed: Speed
    ) -> None:
        names = ["loss", *window[0][1]]
        rows = torch.stack([torch.stack([loss, *shown.values()]) for loss, shown in window]).float().mean(0)
        if self.accelerator.num_processes > 1:
            rows = self.accelerator.reduce(rows, "mean")
        values = dict(zip(names, rows.tolist(), strict=True))
        images_per_s = speed.of(len(window) * self.task.recipe.data.batch_size)
        values |= {"epoch": epoch + 1, "lr": self._lr(), "images_per_s": images_per_s}
        share = self._share_of_peak(images_per_s)
        if share is not None:
            values["share_of_peak"] = share
        journal.record(self.step, values)
        epochs = math.ceil(self.updates / self.task.updates_per_epoch)
        parts = [f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}"]
        parts += [" ".join(self.task.shown(name, values[name])) for name in names]
        parts += [f"{images_per_s:7,.0f} images/s"]
        parts += [] if share is None else [f"{share:.0%} of peak"]
        journal.show(self.step, "  ".join(parts))

    def _share_of_peak(self, images_per_s: float) -> float | None:
        """Share of the device's peak rate that training reaches, where both are known."""
        flops = self.task.flops_per_image
        peak = peak_flops(self.accelerator.device, self.run.precision)
        return None if not flops or not peak else images_per_s * flops / (peak * self.accelerator.num_processes)

    def _validate(self, journal: Journal) -> None:
        model = self.model if self.ema is None else self.ema.module
        model.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            found = self.task.validate(model)
        if not found:
            return
        self.validated = found
        journal.record(self.step, found)
        journal.say("  ".join([f"update {self.step}:", *(f"{name} {value:.4f}" for name, value in found.items())]))
        if self.task.best_by and found[self.task.best_by] > self.best:
            self.best = found[self.task.best_by]
            self.save(self.folder / BEST)

    def _save(self) -> None:
        weights, optimizer = full_state(self.accelerator, self.model, self.optimizer)
        generators = gather_object([random_state()])
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state: State = {
                "step": self.step,
                "best": self.best,
                "validated": self.validated,
                "optimizer": optimizer,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "generators": generators,
                "data": self.data,
            }
            ema = self.ema.module.state_dict() if self.ema is not None else None
            self.checkpoints.save(self.step, weights, state, ema)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> list[str]:
        """Restore the newest complete checkpoint; returns messages to show."""
        said: list[str] = []
        chosen: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            self.data = self.task.identity()
            step = self.checkpoints.newest(said.append)
            chosen = [step, None if step is None else self._other_data(step)]
        broadcast_object_list(chosen)
        if chosen[0] is None:
            return said
        if chosen[1] is not None:
            raise ValueError(
                f"the data are not those that the run in {self.folder} was trained on: {chosen[1]}. Put them back, or "
                "start anew in another folder or by --overwrite"
            )
        weights, state, ema = self.checkpoints.read(chosen[0])
        load_full_state(self.accelerator, self.model, self.optimizer, weights, state["optimizer"])
        if self.ema is not None and ema is not None:
            self.ema.module.load_state_dict(ema)
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.validated = state["step"], state["best"], state["validated"]
        self.schedule.step_update(self.step)
        generators = state["generators"]
        if len(generators) == self.accelerator.num_processes:
            set_random_state(generators[self.accelerator.process_index])
        else:
            said.append(
                f"that checkpoint is of {len(generators)} processes, this run of {self.accelerator.num_processes}: "
                "dropout goes on with other random numbers"
            )
        said.append(f"going on from {self.checkpoints.path(self.step)}, {self.step} of {self.updates} updates")
        return said

    def _other_data(self, step: int) -> str | None:
        """How the data differ from those of a checkpoint; None for not at all."""
        data = self.checkpoints.state(step).get("data")
        return None if data is None else difference(data, self.data)

    def _lr(self) -> float:
        return max(group["lr"] for group in self.raw_optimizer.param_groups)

    def _listening(self) -> "_Signals":
        return _Signals(self)


class _Signals:
    """Within, the first SIGTERM or SIGINT is noted for the loop to act upon; a second one acts as usual."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.earlier: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.earlier = {number: signal.signal(number, self._note) for number in self.NUMBERS}

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.trainer._heard = number
        signal.signal(number, self.earlier[number])
