"""Bytes that operators move, one kernel after the other."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.op_trial import Layout

_ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_OVERWRITING = ("copy_", "fill_", "zero_")


class Traffic(TorchDispatchMode):
    """Adds up, while active, what every operator of PyTorch reads and writes.

    Views and allocations move nothing. What an operator does inside, such as gathering columns for a convolution, is
    not seen, nor is what caches save.

    Attributes:
        bytes: the sum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _ALLOCATIONS:
            return result
        read = list(_tensors((args, kwargs)))
        written = list(_tensors(result))
        storages = {tensor.untyped_storage()._cdata for tensor in read}
        shared = any(tensor.untyped_storage()._cdata in storages for tensor in written)
        if shared and not func._schema.is_mutable:
            return result
        self.bytes += sum(map(_bytes, read[1:] if name in _OVERWRITING else read)) + sum(map(_bytes, written))
        return result


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _bytes(tensor: Tensor) -> int:
    return Layout.of(tensor).elements * tensor.itemsize
