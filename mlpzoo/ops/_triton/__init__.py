"""The kernels in Triton, behind functions that can be imported without it.

They stand together and not each beside its op because three of the four ops share one kernel, in `product.py`. Each
function checks what it got, then calls an operator of PyTorch, so that compilers and exporters see one node. They have
first gradients, no gradients of gradients.

Shape suffixes are those of the functions of the same name in `mlpzoo.ops`.
"""

import importlib.util

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@torch.compiler.assume_constant_result
def require_triton(device: str | None = None) -> None:
    """Import the kernels, or say why they cannot run.

    Triton's interpreter, which runs them anywhere and slowly, is switched on by the environment variable
    `TRITON_INTERPRET=1`, which Triton reads when it is first imported.

    Args:
        device: type of the device they should run on; None to ask whether there is one.

    Raises:
        ValueError: without Triton, or without a CUDA device or the interpreter.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError("impl 'triton' needs the package triton, which is not installed: pip install triton")
    from mlpzoo.ops._triton import _define

    runs = torch.cuda.is_available() if device is None else device in ("cuda", "meta")
    if not runs and not _define.INTERPRETED:
        found = "" if device is None else f"; got a tensor on '{device}'"
        raise ValueError(
            f"impl 'triton' needs a CUDA device, or TRITON_INTERPRET=1 in the environment before Python starts{found}"
        )
    from mlpzoo.ops._triton import operators, reweight  # noqa: F401 - importing them registers the operators


def token_linear_triton(x_BTC: Tensor, w_ST: Tensor, b_S: Tensor | None, act: str) -> Tensor:
    """`mlpzoo.ops.token_linear`, the activation in the same pass."""
    require_triton(x_BTC.device.type)
    x_BTC, w_ST, b_S = _of_one_dtype(x_BTC, w_ST, b_S)
    recorded = torch.is_grad_enabled() and (
        x_BTC.requires_grad or w_ST.requires_grad or (b_S is not None and b_S.requires_grad)
    )
    keep = recorded and act != "none"
    return torch.ops.mlpzoo.token_linear(x_BTC, w_ST, b_S, act, keep)[0]


def axis_linear_triton(x_BHWC: Tensor, w_CC: Tensor, b_C: Tensor | None, axis: int) -> Tensor:
    """`mlpzoo.ops.axis_linear` without a copy in memory."""
    require_triton(x_BHWC.device.type)
    x_BHWC, w_CC, b_C = _of_one_dtype(x_BHWC, w_CC, b_C)
    return torch.ops.mlpzoo.axis_linear(x_BHWC, w_CC, b_C, axis)


def cycle_fc_triton(
    x_BHWC: Tensor, w_OG: Tensor, b_O: Tensor | None, step: int, axis: int, dilation: int, offsets: list[int] | None
) -> Tensor:
    """`mlpzoo.ops.cycle_fc`, shifted while it is loaded; one group."""
    require_triton(x_BHWC.device.type)
    if w_OG.shape[1] != x_BHWC.shape[3]:
        raise ValueError(
            f"impl 'triton' of cycle_fc mixes all channels: got {x_BHWC.shape[3]} channels and a weight for groups of "
            f"{w_OG.shape[1]}, choose impl 'auto'"
        )
    if offsets is not None and len(offsets) != x_BHWC.shape[3]:
        raise ValueError(f"got {len(offsets)} offsets for a map of {x_BHWC.shape[3]} channels: give one a channel")
    x_BHWC, w_OG, b_O = _of_one_dtype(x_BHWC, w_OG, b_O)
    return torch.ops.mlpzoo.cycle_fc(x_BHWC, w_OG, b_O, step, axis, dilation, offsets)


def reweighted_sum_triton(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor) -> Tensor:
    """`mlpzoo.ops.reweighted_sum` in one pass; the logits may be of another dtype than the branches."""
    require_triton(h_BHWC.device.type)
    return torch.ops.mlpzoo.reweighted_sum(*_of_one_dtype(h_BHWC, w_BHWC, c_BHWC), logits)


def _of_one_dtype(x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast to autocast's dtype where it is on, as PyTorch's own products do; refuse what kernels do not take."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, w, b = x.to(dtype), w.to(dtype), None if b is None else b.to(dtype)
    if x.dtype not in DTYPES or w.dtype != x.dtype or (b is not None and b.dtype != x.dtype):
        given = ", ".join(str(t.dtype) for t in (x, w, b) if t is not None)
        raise ValueError(f"impl 'triton' takes tensors of one dtype, float32, float16 or bfloat16; got {given}")
    return x, w, b
