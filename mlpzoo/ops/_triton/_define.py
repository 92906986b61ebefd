"""How kernels become operators of PyTorch, and what differs under Triton's interpreter."""
# mypy: disable-error-code="import-untyped, import-not-found"

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

INTERPRETED = isinstance(tl.sigmoid, InterpretedFunction)
"""Whether Triton's interpreter is on, which a process settles when it first imports Triton."""


def operator(name: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Register a function that runs kernels as the operator `mlpzoo::name`.

    Compilers look into a `triton_op` and see its kernels. What the interpreter makes of a kernel cannot be traced, so
    there the operator is opaque to them.

    Args:
        name: of the operator.
        fake: gives empty tensors shaped as the outputs.
    """
    make: Any = torch.library.custom_op if INTERPRETED else torch.library.triton_op

    def define(function: Callable[..., Any]) -> Any:
        op = make(f"mlpzoo::{name}", function, mutates_args=())
        op.register_fake(fake)
        return op

    return define


# It bears PyTorch's name, for `triton_op` finds the kernels inside a function by looking for calls of that name.
def wrap_triton(kernel: Any) -> Any:
    """What can be launched from inside an `operator`."""
    return kernel if INTERPRETED else torch.library.wrap_triton(kernel)


def tuned(configs: list[triton.Config], key: list[str]) -> Callable[[Any], Any]:
    """Choose among block sizes by timing them, for each value of the arguments in `key`.

    The interpreter takes the first: there is nothing to time.
    """
    return triton.autotune(configs[:1] if INTERPRETED else configs, key)
