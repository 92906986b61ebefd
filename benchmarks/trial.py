"""A contender ready to run: on its device, in its dtype and layout, with its images."""

import copy

import torch
from torch import Tensor

from benchmarks.models import Contender


class Trial:
    """One contender in one configuration; a `benchmarks.measure.Runner`.

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
        self.rename = contender.rename
        self.train = train
        self.layout = torch.channels_last if contender.channels_last else torch.contiguous_format
        module = copy.deepcopy(contender.model).to(device, dtype).to(memory_format=self.layout).train(train)
        self.module = contender.prepare(module)
        self.network = torch.compile(self.module, dynamic=False) if compiled else self.module

    def feed(self, images: Tensor, gradient: Tensor) -> None:
        """Take the images `(batch, channels, height, width)` and the logits' gradient `(batch, classes)` to run on."""
        anchor = next(self.module.parameters())
        self.images = images.to(anchor.device, anchor.dtype).contiguous(memory_format=self.layout)
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

    def own_bytes(self) -> int:
        """What it holds between steps."""
        held = [*self.module.parameters(), *self.module.buffers(), self.images, self.gradient]
        return sum(tensor.nbytes for tensor in held)
