"""The correctness check that comes before every timing.

Two questions, both answered on the device and in the layout that will be timed. Do all contenders compute the same
function? In float64 they must agree to rounding. And is each one exact enough in the dtype timed? Its error against
float64 must be at most twice that of our plain implementation in the same dtype, three times for gradients.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.models import OURS
from benchmarks.trial import LOGITS, Contender, Trial, Values

SAME_FUNCTION = 1e-9
BUDGET = {"logits": 2.0, "gradients": 3.0}
FLOORS = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
"""Errors that are always allowed, so that an almost exact plain implementation is no yardstick."""
TF32_FLOOR = 2e-3
"""The same in float32 where cuDNN may round a convolution's inputs to TF32, in one layout and not in another."""


class RedError(Exception):
    """A contender that does not compute what it should: no speed is to be shown."""


class Gate:
    """Checks the contenders of one model.

    Args:
        contenders: the models, ours and the plain implementation among them.
        images: two images, `(2, channels, height, width)`, or one where all batches are odd.
        gradient: of their logits, `(number, classes)`.
        device: where they run.
        train: whether gradients are checked too.
    """

    def __init__(
        self, contenders: Mapping[str, Contender], images: Tensor, gradient: Tensor, *, device: str, train: bool
    ) -> None:
        self.contenders = contenders
        self.images = images
        self.gradient = gradient
        self.device = device
        self.train = train
        self.truths: dict[int, Values] = {}

    def truth(self, num_images: int) -> Values:
        """What ours gives for the first `num_images` images in float64, once every contender has given the same.

        Raises:
            RedError: naming the contender that computes something else.
        """
        if num_images in self.truths:
            return self.truths[num_images]
        for name, contender in self.contenders.items():
            trial = contender.trial(device=self.device, dtype=torch.float64, train=self.train)
            found = self._run(trial, num_images, num_images)
            if name == OURS:
                truth = found
            for kind, error in errors(found, truth, trial).items():
                if not error <= SAME_FUNCTION:
                    raise RedError(
                        f"{name} does not compute what ours does: in float64 its {kind} differ by {error:.1e} of "
                        f"their size (limit {SAME_FUNCTION:.0e})"
                    )
        self.truths[num_images] = truth
        return truth

    def budgets(self, dtype: torch.dtype) -> dict[str, float]:
        """The errors allowed in a dtype, from those of our plain implementation, uncompiled."""
        plain = self.contenders["reference"].trial(device=self.device, dtype=dtype, train=self.train)
        found = self._measured(plain, len(self.images))
        tf32 = self.device == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
        floor = TF32_FLOOR if tf32 else FLOORS[dtype]
        return {kind: max(BUDGET[kind] * error, floor) for kind, error in found.items()}

    def check(self, name: str, trial: Trial, budgets: Mapping[str, float], batch: int) -> None:
        """Run a trial at the batch size to be timed and hold its errors against the budgets.

        Raises:
            RedError: when one is larger.
        """
        for kind, error in self._measured(trial, batch).items():
            if not error <= budgets[kind]:
                raise RedError(
                    f"{name} is not exact enough: its {kind} are off by {error:.1e} of their size "
                    f"(limit {budgets[kind]:.1e})"
                )

    def _measured(self, trial: Trial, batch: int) -> dict[str, float]:
        num_images = 2 - batch % 2
        return errors(self._run(trial, num_images, batch), self.truth(num_images), trial)

    def _run(self, trial: Trial, num_images: int, batch: int) -> Values:
        """One step on a few images repeated to a batch: statistics over the batch, and all gradients, stay the same."""
        copies = batch // num_images
        trial.feed(
            self.images[:num_images].repeat(copies, 1, 1, 1), self.gradient[:num_images].repeat(copies, 1) / copies
        )
        return trial.values()


def errors(found: Values, truth: Values, trial: Trial) -> dict[str, float]:
    """Root-mean-square errors, relative to the size of what is right: of the logits, and of the worst gradient."""
    truth = {trial.rename(name): value for name, value in truth.items()}
    copies = len(found[LOGITS]) // len(truth[LOGITS])
    truth[LOGITS] = truth[LOGITS].repeat(copies, 1)
    if found.keys() != truth.keys():
        return {"gradients": math.inf}
    sizes = {name: _rms(value) for name, value in truth.items()}
    off = {name: _rms(found[name].double() - value.reshape(found[name].shape)) for name, value in truth.items()}
    result = {LOGITS: off.pop(LOGITS) / sizes.pop(LOGITS)}
    if off:
        # A gradient that is zero but for rounding (a bias before a batch norm) has no size of its own.
        least = 1e-3 * max(sizes.values())
        result["gradients"] = max(off[name] / (sizes[name] + least) for name in off)
    return result


def _rms(value: Tensor) -> float:
    return value.square().mean().sqrt().item()
