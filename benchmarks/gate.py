"""The correctness check that comes before every timing.

The truth is float64, on the device that will be timed. A contender is exact enough in the dtype timed if its error
against it is at most twice that of the plain implementation in the same dtype, three times for gradients. Whole models
must also compute the same function: in float64 all contenders agree to rounding.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.trial import OUTPUT, Contender, Trial, Values

SAME_FUNCTION = 1e-9
OUTPUT_FACTOR, GRADIENT_FACTOR = 2.0, 3.0
FLOORS = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
"""Errors that are always allowed, for a plain implementation that is almost exact is too strict a measure."""
TF32_FLOOR = 2e-3
"""The same in float32 where cuDNN may round a convolution's inputs to TF32, in one layout and not in another."""
GRADIENTS = "gradients"


class RedError(Exception):
    """A contender that does not compute what it should: no speed is to be shown."""


def errors(found: Values, truth: Values) -> dict[str, float]:
    """Root-mean-square errors of an output and of gradients, each relative to the size of what is right.

    An output of more images than the truth has is one of the same images repeated.
    """
    if found.keys() != truth.keys():
        return dict.fromkeys(found.keys() ^ truth.keys(), math.inf)
    repeated = truth[OUTPUT].repeat(len(found[OUTPUT]) // len(truth[OUTPUT]), *[1] * (truth[OUTPUT].ndim - 1))
    truth = {**truth, OUTPUT: repeated}
    sizes = {name: _rms(value) for name, value in truth.items()}
    # A gradient that is zero but for rounding (a bias before a batch norm) has no size of its own.
    least = 1e-3 * max((size for name, size in sizes.items() if name != OUTPUT), default=0.0)
    return {
        name: _rms(found[name].double() - value.reshape(found[name].shape))
        / max(sizes[name] + (0.0 if name == OUTPUT else least), 1e-300)
        for name, value in truth.items()
    }


def hold(name: str, found: Mapping[str, float], limits: Mapping[str, float], reason: str) -> None:
    """Raise RedError for an error above its limit; that of `GRADIENTS` is for every gradient without one."""
    for key, error in found.items():
        limit = limits[key] if key in limits else limits[GRADIENTS]
        if not error <= limit:
            what = OUTPUT if key == OUTPUT else f"gradient of {key}"
            raise RedError(f"{name} {reason}: its {what} is off by {error:.1e} of its size (limit {limit:.1e})")


def hold_same(name: str, found: Values, truth: Values) -> None:
    """Raise RedError for a contender that does not compute what ours does, both in float64."""
    limits = {OUTPUT: SAME_FUNCTION, GRADIENTS: SAME_FUNCTION}
    hold(name, errors(found, truth), limits, "does not compute what ours does in float64")


def budgets(found: Mapping[str, float], dtype: torch.dtype, floor: float = 0.0) -> dict[str, float]:
    """The errors allowed, from those of the plain implementation."""
    floor = max(floor, FLOORS[dtype])
    return {key: max((OUTPUT_FACTOR if key == OUTPUT else GRADIENT_FACTOR) * e, floor) for key, e in found.items()}


class Gate:
    """Checks the contenders of one model.

    Args:
        contenders: the models, ours first and the plain implementation, `"reference"`, among them.
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
        """What ours gives for the first `num_images` images in float64; a RedError unless all contenders agree."""
        truth = self.truths.get(num_images, {})
        if truth:
            return truth
        for name, contender in self.contenders.items():
            trial = contender.trial(device=self.device, dtype=torch.float64, train=self.train)
            found = self._run(trial, num_images, num_images)
            truth = truth or found
            hold_same(name, found, trial.layout(truth))
        self.truths[num_images] = truth
        return truth

    def budgets(self, dtype: torch.dtype) -> dict[str, float]:
        """The errors allowed of the output and of any gradient, from those of our plain implementation, uncompiled."""
        trial = self.contenders["reference"].trial(device=self.device, dtype=dtype, train=self.train)
        found = self._errors(trial, len(self.images))
        output = found.pop(OUTPUT)
        tf32 = self.device == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
        worst = {OUTPUT: output, GRADIENTS: max(found.values(), default=0.0)}
        return budgets(worst, dtype, TF32_FLOOR if tf32 else 0.0)

    def check(self, name: str, trial: Trial, limits: Mapping[str, float], batch: int) -> None:
        """Run a trial at the batch size to be timed; RedError where an error is above its limit."""
        hold(name, self._errors(trial, batch), limits, "is not exact enough")

    def _errors(self, trial: Trial, batch: int) -> dict[str, float]:
        num_images = 2 - batch % 2
        return errors(self._run(trial, num_images, batch), trial.layout(self.truth(num_images)))

    def _run(self, trial: Trial, num_images: int, batch: int) -> Values:
        """One step on a few images repeated to a batch: statistics over the batch, and all gradients, stay the same."""
        copies = batch // num_images
        images, gradient = self.images[:num_images], self.gradient[:num_images]
        trial.feed(images.repeat(copies, 1, 1, 1), gradient.repeat(copies, 1) / copies)
        return trial.values()


def _rms(value: Tensor) -> float:
    return value.square().mean().sqrt().item()
