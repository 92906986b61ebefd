"""A gate over tokens: one half of the channels times a linear map over the tokens of the other half.

Shape suffixes: B batch, T tokens, G channels of either half.
"""

import torch
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.token_linear import token_linear, token_linear_reference


def spatial_gate_reference(
    u_BTG: Tensor, v_BTG: Tensor, w_TT: Tensor, b_T: Tensor | None = None, shift_BTG: Tensor | None = None
) -> Tensor:
    """The same function as `spatial_gate`, written as the paper does: u · (W v + b)."""
    gate_BTG = token_linear_reference(v_BTG, w_TT, b_T)
    return u_BTG * (gate_BTG if shift_BTG is None else gate_BTG + shift_BTG)


@one_call
def spatial_gate(
    u_BTG: Tensor,
    v_BTG: Tensor,
    w_TT: Tensor,
    b_T: Tensor | None = None,
    shift_BTG: Tensor | None = None,
    impl: str = "auto",
) -> Tensor:
    """Gate one half of the channels by the other (gMLP, arXiv:2105.08050, equation 4).

    Where no gradient is recorded, the product takes the gate's memory: nobody else sees the gate, and a network of
    such gates waits for memory more than for arithmetic.

    Args:
        u_BTG: what is gated, `(batch, tokens, channels)`, of any strides.
        v_BTG: what the gate is made from, in the same shape.
        w_TT: weight of the gate, `(tokens, tokens)`.
        b_T: its bias, `(tokens,)`, or None.
        shift_BTG: what is added to the gate, such as the output of an attention, or None.
        impl: `"auto"` (the fastest known here), `"bmm"`, `"triton"`, or `"reference"`; see `token_linear`.

    Returns:
        `(batch, tokens, channels)`, contiguous.

    Raises:
        ValueError: for an unknown `impl`, or for `"triton"` where it cannot run.
    """
    if impl == "reference":
        return spatial_gate_reference(u_BTG, v_BTG, w_TT, b_T, shift_BTG)
    gate_BTG = token_linear(v_BTG, w_TT, b_T, impl)
    if torch.is_grad_enabled() or not fast_path(gate_BTG, u_BTG, shift_BTG):
        return u_BTG * (gate_BTG if shift_BTG is None else gate_BTG + shift_BTG)
    if shift_BTG is not None:
        gate_BTG = gate_BTG.add_(shift_BTG)
    return gate_BTG.mul_(u_BTG)
