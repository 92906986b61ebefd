"""One implementation of an op ready to run. Nothing here imports mlpzoo: it runs in other commits too."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Runner
from benchmarks.trial import OUTPUT, Values

Outputs = Tensor | tuple[Tensor, ...]
Op = Callable[..., Outputs]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shape and strides of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __str__(self) -> str:
        """The shape; `~` marks memory with gaps or in another order."""
        return "×".join(map(str, self.shape)) + ("" if self.dense else "~")

    @classmethod
    def of(cls, tensor: Tensor) -> "Layout":
        """A tensor's layout."""
        return cls(tuple(tensor.shape), tuple(tensor.stride()))

    @property
    def extent(self) -> int:
        """Numbers from the first to the last, gaps included."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True))

    @property
    def elements(self) -> int:
        """Numbers that differ in place: those along an expanded axis are one."""
        return math.prod(size for size, stride in zip(self.shape, self.stride, strict=True) if stride)

    @property
    def dense(self) -> bool:
        """Whether it is contiguous in memory."""
        return self.extent == self.elements and list(self.stride) == sorted(self.stride, reverse=True)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What an op is called with, in float64.

    Attributes:
        tensors: by name, the numbers from first to last, gaps included, and how they are laid out.
        settings: the other arguments, by name.
        gradients: of the outputs, in their shapes.
    """

    tensors: dict[str, tuple[Tensor, Layout]]
    settings: dict[str, Any]
    gradients: list[Tensor]


class OpTrial(Runner):
    """One implementation in one configuration.

    A step calls the op in inference mode or, in training mode, calls it and computes the gradients of all its tensors;
    `repeats` times, for one call may be too short for a clock.

    Args:
        function: the implementation, which takes the arguments by name.
        arguments: what it takes.
        device: where it runs.
        dtype: of every tensor.
        train: whether gradients are computed.
        compiled: whether `torch.compile` is applied.
    """

    def __init__(
        self,
        function: Op,
        arguments: Arguments,
        *,
        device: str,
        dtype: torch.dtype,
        train: bool,
        compiled: bool = False,
    ) -> None:
        self.train = train
        self.repeats = 1
        self.names = list(arguments.tensors)
        self.tensors = [
            flat.to(device, dtype, copy=True).as_strided(layout.shape, layout.stride).requires_grad_(train)
            for flat, layout in arguments.tensors.values()
        ]
        self.gradients = [gradient.to(device, dtype) for gradient in arguments.gradients]

        def call(*tensors: Tensor) -> Outputs:
            return function(**dict(zip(self.names, tensors, strict=True)), **arguments.settings)

        self.call = torch.compile(call, dynamic=False) if compiled else call

    def once(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The outputs, and in training the gradient of every tensor."""
        # Not in inference mode: dispatch modes would see composite operations there, and not what they do.
        with torch.set_grad_enabled(self.train):
            found = self.call(*self.tensors)
        outputs = (found,) if isinstance(found, Tensor) else found
        return outputs, torch.autograd.grad(outputs, self.tensors, self.gradients) if self.train else ()

    def prepare(self) -> None:
        """Call once, so that no contender is slowed by what the one before left in the caches."""
        with torch.inference_mode(not self.train):
            self.once()

    def step(self) -> None:
        """The work on the clock."""
        with torch.inference_mode(not self.train):
            for _ in range(self.repeats):
                self.once()

    def repeat(self, number: int) -> None:
        """Let a step make so many calls."""
        self.repeats = number

    def values(self) -> Values:
        """What one call gives, by name: the numbers of all outputs as `OUTPUT`, and gradients."""
        outputs, gradients = self.once()
        joined = torch.cat([output.detach().flatten() for output in outputs])
        return {OUTPUT: joined, **dict(zip(self.names, gradients, strict=False))}
