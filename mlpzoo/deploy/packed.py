"""A linear layer for inference on a CPU.

`mlpzoo.ops.linear` has oneDNN lay out the weight at every call. Here it is laid out once, which is safe where weights
no longer change.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.activations import GELU, GELUTanh
from torch import Tensor, nn

from mlpzoo.ops.linear import linear, onednn_runs

FUSED: dict[type[nn.Module], tuple[str, str]] = {
    nn.Identity: ("none", ""),
    nn.ReLU: ("relu", ""),
    GELU: ("gelu", "none"),
    GELUTanh: ("gelu", "tanh"),
}
"""Activations that oneDNN applies itself, and how PyTorch's operator calls them."""

FORMS: dict[type[nn.Module], str] = {nn.Identity: "none", GELU: "gelu", GELUTanh: "gelu_tanh"}
"""Those that `mlpzoo.ops.linear` knows, and what it calls them."""


@functools.cache
def packing_works() -> bool:
    """Whether PyTorch's oneDNN operators take packed weights, and give what is expected here.

    They are those that compiled code calls and not meant for people, so a release may change them.
    """
    like: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    x, weight = torch.linspace(-1, 1, 6, **like).view(2, 3), torch.linspace(-1, 1, 12, **like).view(4, 3)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        found = torch.ops.mkldnn._linear_pointwise(x, packed, None, "gelu", [], "tanh")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, F.gelu(x @ weight.t(), approximate="tanh"), atol=1e-5)


class Packing:
    """A weight in oneDNN's layout, and what it was made from."""

    def __init__(self, weight: Tensor) -> None:
        # Kept, so that no other weight comes to lie at the same address.
        self.source = weight.detach()
        self.version = _version(weight)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.source)

    def is_of(self, weight: Tensor) -> bool:
        """Whether the weight is still the one that was packed, unchanged."""
        return self.source.data_ptr() == weight.data_ptr() and self.version == _version(weight)


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


class PackedLinear(nn.Linear):
    """A linear layer and the activation after it, in one pass on a CPU in float32 where no gradient is recorded.

    There, the weight is kept a second time in oneDNN's layout. That copy is made at the first call, again whenever the
    weight has changed, and is neither saved nor copied nor moved. Everywhere else, compiled and exported code included,
    this is `mlpzoo.ops.linear`.

    Args:
        linear: whose weight and bias it takes.
        act: the activation after it; none if not given.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(self, linear: nn.Linear, act: nn.Module | None = None) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.act = nn.Identity() if act is None else act
        self._packing: Packing | None = None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """`(..., in_features)` to `(..., out_features)`; `residual`, if given, is added to the result."""
        if self._can_be_packed(x):
            return self._packed_forward(x, residual)
        y = self._plain_forward(x)
        return y if residual is None else residual + y

    def _plain_forward(self, x: Tensor) -> Tensor:
        form = FORMS.get(type(self.act))
        if form:
            return linear(x, self.weight, self.bias, form)
        return self.act(F.linear(x, self.weight, self.bias))

    def _can_be_packed(self, x: Tensor) -> bool:
        return (
            onednn_runs(x, self.weight, self.bias)
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and type(self.act) in FUSED
            and packing_works()
        )

    def _packed_forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        packing = self._packing
        if packing is None or not packing.is_of(self.weight):
            packing = self._packing = Packing(self.weight)
        attr, algorithm = FUSED[type(self.act)]
        y = torch.ops.mkldnn._linear_pointwise(x, packing.packed, self.bias, attr, [], algorithm)
        # oneDNN could add it too, and is slower for it than a pass over memory.
        return y if residual is None else y.add_(residual)

    def _apply(self, *args: Any, **kwargs: Any) -> "PackedLinear":
        self._packing = None
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packing": None}
