"""Compare a fast op with its reference twin by what the dtype itself costs, not by a tolerance picked by hand.

The truth is the reference in float64. The fast version may be at most twice as far from it as the reference is in
the same dtype, and three times for gradients.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Op = Callable[..., Tensor]
FORWARD, BACKWARD = 2.0, 3.0


def run(op: Op, inputs: Sequence[Tensor], dtype: torch.dtype, cotangent: Tensor) -> list[Tensor]:
    """The output and the gradient of every input, in float64."""
    leaves = [x.to(dtype).detach().as_strided(x.size(), x.stride()).requires_grad_() for x in inputs]
    output = op(*leaves)
    output.backward(cotangent.to(dtype))
    return [output.detach().double(), *(leaf.grad.double() for leaf in leaves)]


def distance(found: Tensor, truth: Tensor) -> float:
    """Root mean square of the difference."""
    assert torch.isfinite(found).all()
    return float((found - truth).square().mean().sqrt())


def assert_within_budget(fast: Op, reference: Op, inputs: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Check the output and every gradient; `inputs` are float64 and keep their strides."""
    shape = reference(*inputs).shape
    cotangent = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(inputs[0].device)
    truth = run(reference, inputs, torch.float64, cotangent)
    slow = run(reference, inputs, dtype, cotangent)
    quick = run(fast, inputs, dtype, cotangent)
    for i, (exact, found, peer) in enumerate(zip(truth, quick, slow, strict=True)):
        what = "output" if i == 0 else f"gradient of input {i - 1}"
        size = float(exact.square().mean().sqrt())
        assert size > 0, f"the {what} is zero: the comparison would be vacuous"
        # Where both round perfectly the budget would be zero; a tenth of a unit in the last place is always granted.
        budget = (FORWARD if i == 0 else BACKWARD) * distance(peer, exact) + 0.1 * torch.finfo(dtype).eps * size
        assert distance(found, exact) <= budget, f"{what}: {distance(found, exact):.3g} exceeds {budget:.3g}"
