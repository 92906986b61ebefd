"""Compile what the operators would launch on an H100, on a machine that has none; a JSON line a kernel and config.

Run by `test_triton_compiled.py` in a process of its own, for Triton's interpreter compiles nothing.
"""

import json
import sys

import torch
from torch._functorch.aot_autograd import aot_function
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from mlpzoo.ops._triton import operators, product, reweight


class Hopper:
    """As much of a driver as compiling asks for."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


class Compiler:
    """Stands where a kernel is launched."""

    def __init__(self, kernel):
        self.configs = [config.all_kwargs() for config in kernel.configs] if hasattr(kernel, "configs") else [{}]
        self.function = kernel.fn if hasattr(kernel, "configs") else kernel

    def __getitem__(self, grid):
        return self.compile

    def compile(self, *arguments, **options):
        for config in self.configs:
            # Of tensors, the compiler wants types and whether their addresses are multiples of 16.
            built = self.function.warmup(*arguments, grid=(1,), **options, **config)
            shared, tensor_cores = built.metadata.shared, "wgmma" in built.asm["ptx"]
            row = {"kernel": self.function.__name__, "config": config, "shared": shared, "tensor_cores": tensor_cores}
            print(json.dumps(row), flush=True)


def call_everything(dtype):
    """Every operator at a shape of a real network, one image."""

    def empty(*shape):
        return torch.empty(shape, dtype=dtype)

    tokens, hidden, mixing = empty(1, 196, 768), empty(1, 384, 768), empty(384, 196)
    operators.token_linear(tokens, mixing, empty(384), "gelu_tanh", True)
    operators.token_linear_input_gradient(hidden, mixing)
    operators.token_linear_weight_gradient(hidden, tokens, mixing)
    lines, square = empty(1, 16, 16, 384), empty(384, 384)
    operators.axis_linear(lines, square, empty(384), 1)
    operators.axis_linear_input_gradient(lines, square, 1)
    operators.axis_linear_weight_gradient(lines, lines, square, 1)
    x, weight, shift = empty(1, 14, 14, 320), empty(320, 320), (3, 1, 1, None)
    operators.cycle_fc(x, weight, empty(320), *shift)
    operators.cycle_fc_input_gradient(x, weight, *shift)
    operators.cycle_fc_weight_gradient(x, x, weight, *shift)
    reweight.reweighted_sum(x, x, x, empty(1, 960))
    reweight.reweighted_sum_gradients(x, x, x, x, empty(1, 960))


def trace_everything():
    """What a compiler sees of the operators: their kernels, and which of their arguments these write."""
    written = []

    def remember(graph, inputs):
        for node in graph.graph.nodes:
            if "triton_kernel_wrapper" in str(node.target):
                written.append(sorted(node.kwargs["tensors_to_clone"]))
        return graph

    with FakeTensorMode():
        x, w, b, logits = (torch.empty(shape) for shape in [(2, 4, 4, 16), (16, 16), (16,), (2, 48)])
        for call, arguments in (
            (lambda *args: operators.token_linear(*args, "gelu", True), (x.flatten(1, 2), w, b)),
            (lambda *args: operators.axis_linear(*args, 1), (x, w, b)),
            (lambda *args: operators.cycle_fc(*args, 3, 1, 1, None), (x, w, b)),
            (reweight.reweighted_sum, (x, x, x, logits)),
        ):
            aot_function(call, remember)(*arguments)
    print(json.dumps(written))


if __name__ == "__main__":
    driver.set_active(Hopper())
    if sys.argv[1] == "trace":
        trace_everything()
    else:
        product.wrap_triton = reweight.wrap_triton = Compiler
        call_everything(getattr(torch, sys.argv[1]))
