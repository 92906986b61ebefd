"""The calls that a model makes to the zoo's ops: watched while it runs without memory or arithmetic."""

import dataclasses
import inspect
import itertools
import math
import sys
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import mlpzoo
from benchmarks import models
from benchmarks.op_trial import Arguments, Layout, Op, OpTrial, Outputs
from benchmarks.options import Size
from mlpzoo import ops


def _has_a_twin(function: Op) -> bool:
    """Whether an op is offered in several implementations and takes tensors, not functions of them."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "impl" for p in parameters) and not any("Callable" in str(p.annotation) for p in parameters)


OPS: dict[str, Op] = {name: getattr(ops, name) for name in ops.__all__ if _has_a_twin(getattr(ops, name))}
"""The ops that have a fast version and a reference twin."""

IMPLS: dict[str, dict[str, tuple[str, ...]]] = {
    "linear": {"cpu": ("onednn",), "cuda": ("epilogue",)},
    "linear_halves": {"cpu": ("onednn",), "cuda": ("epilogue",)},
    "mlp": {"cpu": ("onednn",), "cuda": ("epilogue",)},
    "token_linear": {"cpu": ("bmm",), "cuda": ("bmm", "triton")},
    "spatial_gate": {"cpu": ("bmm",), "cuda": ("bmm", "triton")},
    "axis_linear": {"cpu": ("swap", "conv"), "cuda": ("swap", "triton")},
    "cycle_fc": {"cpu": ("conv", "one_conv", "select"), "cuda": ("select", "triton")},
    "reweighted_sum": {"cuda": ("triton",)},
}
"""What an op offers on a device besides `"auto"` and `"reference"`; not what rounds float32 there."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of an op.

    Attributes:
        op: its name.
        tensors: the layout of every tensor, by argument.
        settings: the other arguments, but for `impl`.
        outputs: shapes of what it returned.
        times: how often a step makes it.
    """

    op: str
    tensors: dict[str, Layout]
    settings: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]
    times: int = 1

    def __str__(self) -> str:
        """The arguments in short."""
        parts = []
        for shape, names in itertools.groupby(self.tensors, lambda name: str(self.tensors[name])):
            parts.append(f"{', '.join(name.partition('_')[0] for name in names)} {shape}")
        parameters = inspect.signature(OPS[self.op]).parameters
        for name, value in self.settings.items():
            if value is not None and value != parameters[name].default:
                parts.append(f"{name} {value}")
        return ", ".join(parts)

    def arguments(self, device: str = "cpu") -> Arguments:
        """Random numbers on a device, the same each time; weights such that outputs are as large as inputs."""
        torch.manual_seed(0)
        tensors = {}
        for name, layout in self.tensors.items():
            weight = name.startswith("w") and len(layout.shape) == 2
            flat = torch.randn(layout.extent, dtype=torch.float64, device=device)
            tensors[name] = (flat.mul_(layout.shape[-1] ** -0.5 if weight else 1), layout)
        gradients = [torch.randn(shape, dtype=torch.float64, device=device) for shape in self.outputs]
        return Arguments(tensors, self.settings, gradients)

    def flops(self, train: bool) -> int:
        """Floating-point operations, as PyTorch's counter sees them; the larger count of two implementations.

        The counter takes an op that it does not know for nothing, and either may have such ops. A backward pass
        counts as two forward ones, whatever is computed anew in it.
        """
        counts = []
        for impl in ("auto", "reference"):
            trial = OpTrial(implementation(self.op, impl), self.arguments("meta"), **META, train=False)
            with FlopCounterMode(display=False) as counter:
                trial.once()
            counts.append(counter.get_total_flops())
        return (3 if train else 1) * max(counts)

    def needed_bytes(self, dtype: torch.dtype, train: bool) -> int:
        """Bytes that no implementation can do without.

        Forward, every tensor is read and the output written; backward, every tensor and the output's gradient are
        read, and the tensors' gradients written.
        """
        inputs = sum(layout.elements for layout in self.tensors.values())
        output = sum(map(math.prod, self.outputs))
        return dtype.itemsize * (3 * inputs + 2 * output if train else inputs + output)


META = {"device": "meta", "dtype": torch.float32}


def implementation(op: str, impl: str) -> Op:
    """An op with its implementation chosen."""
    function = OPS[op]

    def run(**arguments: Any) -> Outputs:
        return function(**arguments, impl=impl)

    return run


def record_calls(name: str, batch: int, img_size: int | Size | None, train: bool = False) -> list[Call]:
    """The different calls of ops in a model's forward pass, in order; those that an op makes to another are its own.

    Which ones are made differs between inference and training.

    Args:
        name: of the model.
        batch: images in the batch.
        img_size: of the images; the model's own if None.
        train: whether the pass is one of training.
    """
    options, image = models.model_options(name, img_size)
    model = mlpzoo.create_model(name, device="meta", **options).train(train)
    codes: dict[CodeType, str] = {inspect.unwrap(function).__code__: op for op, function in OPS.items()}
    found: dict[str, Call] = {}
    stack: list[dict[str, Any]] = []

    def watch(frame: FrameType, event: str, result: Any) -> None:
        if frame.f_code not in codes:
            return
        if event == "call":
            stack.append({key: value for key, value in frame.f_locals.items() if key != "impl"})
        elif event == "return":
            arguments = stack.pop()
            if not stack:
                tensors = {key: Layout.of(value) for key, value in arguments.items() if isinstance(value, Tensor)}
                settings = {key: value for key, value in arguments.items() if key not in tensors}
                results = (result,) if isinstance(result, Tensor) else result
                call = Call(codes[frame.f_code], tensors, settings, tuple(tuple(y.shape) for y in results))
                times = found[repr(call)].times + 1 if repr(call) in found else 1
                found[repr(call)] = dataclasses.replace(call, times=times)

    images = torch.empty(batch, *image, device="meta")
    with torch.inference_mode(not train):
        sys.setprofile(watch)
        try:
            model(images)
        finally:
            sys.setprofile(None)
    return list(found.values())
