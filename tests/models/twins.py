"""A network and the same network on the reference twins of its ops."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def assert_twins_agree(create: Callable[..., nn.Module], x: Tensor) -> None:
    """Compare them with and without gradients, in which an op may run differently."""
    fast, reference = create(), create(impl="reference")
    reference.load_state_dict(fast.state_dict())
    expected = reference(x)
    assert float(expected.detach().std()) > 1e-3, "answers this small would make the comparison vacuous"
    torch.testing.assert_close(fast(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), expected)
    wanted = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))
    found = torch.autograd.grad(fast(x).square().sum(), list(fast.parameters()))
    for gradient, peer in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, peer, rtol=1e-3, atol=1e-5 * float(peer.abs().max()) + 1e-9)
