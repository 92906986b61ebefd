"""A network that takes part, and the same ready to run. Nothing here imports mlpzoo: it runs in other commits too."""

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measure import Runner
from benchmarks.memory import added_mb

OUTPUT = "output"
Values = dict[str, Tensor]
"""What a step gives: its output under that name, and the gradients."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that takes part.

    Attributes:
        model: the network, in float32 on the CPU; its weights may be the very tensors of another contender's.
        layout: from values under our parameter names, in our shapes, to its own.
        channels_last: whether its weights and images are laid out channels-last.
        prepare: what is made of the copy that runs, once it is on its device, in its type and in its mode.
    """

    model: nn.Module
    layout: Callable[[Values], Values] = lambda values: values
    channels_last: bool = False
    prepare: Callable[[nn.Module], nn.Module] = lambda model: model

    def trial(self, *, device: str, dtype: torch.dtype, train: bool, compiled: bool = False) -> "Trial":
        """The network ready to run; see `Trial`."""
        return Trial(self, device=device, dtype=dtype, train=train, compiled=compiled)


class Trial(Runner):
    """One contender in one configuration.

    A step is a forward pass in inference mode or, in training mode, a forward and a backward pass from a fixed
    gradient of the logits: no loss, no optimizer. Gradients are dropped between steps.

    Args:
        contender: the model; it is copied.
        device: where it runs.
        dtype: of weights and images both.
        train: whether a step is a training step.
        compiled: whether `torch.compile` is applied.
    """

    def __init__(
        self, contender: Contender, *, device: str, dtype: torch.dtype, train: bool, compiled: bool = False
    ) -> None:
        self.layout = contender.layout
        self.train = train
        self.memory_format = torch.channels_last if contender.channels_last else torch.contiguous_format
        module = copy.deepcopy(contender.model).to(device, dtype).to(memory_format=self.memory_format).train(train)
        self.module = contender.prepare(module)
        self.network = torch.compile(self.module, dynamic=False) if compiled else self.module

    def feed(self, images: Tensor, gradient: Tensor) -> None:
        """Take the images `(batch, channels, height, width)` and the logits' gradient `(batch, classes)` to run on."""
        anchor = next(self.module.parameters())
        self.images = images.to(anchor.device, anchor.dtype).contiguous(memory_format=self.memory_format)
        self.gradient = gradient.to(anchor.device, anchor.dtype)

    def step(self) -> Tensor:
        """The work on the clock; the logits."""
        if not self.train:
            with torch.inference_mode():
                return self.network(self.images)
        logits = self.network(self.images)
        logits.backward(self.gradient)
        return logits

    def reset(self) -> None:
        """Drop the gradients, so that the next step writes new ones instead of adding to them."""
        self.module.zero_grad(set_to_none=True)

    def values(self) -> Values:
        """What a step gives: the logits as `OUTPUT`, and in training the gradient of every parameter, by name."""
        found = {OUTPUT: self.step().detach()}
        found |= {name: value.grad for name, value in self.module.named_parameters() if value.grad is not None}
        self.reset()
        return found

    def own_bytes(self) -> int:
        """What it holds between steps."""
        held = [*self.module.parameters(), *self.module.buffers(), self.images, self.gradient]
        return sum(tensor.nbytes for tensor in held)

    def peak_cuda_mb(self) -> float:
        """Most GPU memory a step needs, in 10⁶ bytes: its weights and images, and what the step adds."""
        peak = added_mb(self.step, "cuda") + self.own_bytes() / 1e6
        self.reset()
        return peak
