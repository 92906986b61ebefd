import pytest
import torch

from mlpzoo.ops.recompute import recomputing

# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")


def drawn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def steps(x, y):
    return (x.exp() * y).sin() * y


@DEPRECATED
def test_gradients_of_every_order():
    x, y = (drawn(3).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: recomputing(steps, x, y), (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x, y: recomputing(steps, x, y), (x, y))


def test_a_tensor_given_twice():
    x = drawn(3).requires_grad_()
    (found,) = torch.autograd.grad(recomputing(steps, x, x).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(steps(x, x).sum(), x, create_graph=True)
    torch.testing.assert_close(found, expected)
    for grad in (found, expected):
        grad.sum().backward()
    leaf = x.detach().requires_grad_()
    torch.autograd.grad(steps(leaf, leaf).sum(), leaf, create_graph=True)[0].sum().backward()
    torch.testing.assert_close(x.grad, 2 * leaf.grad)


def test_what_needs_no_gradient_gets_none():
    x, y = drawn(3).requires_grad_(), drawn(3)
    recomputing(steps, x, y).sum().backward()
    leaf = x.detach().requires_grad_()
    steps(leaf, y).sum().backward()
    torch.testing.assert_close(x.grad, leaf.grad)
    assert y.grad is None


def test_autocast_is_that_of_the_forward_pass():
    types = []

    def product(x, y):
        types.append((x @ y).dtype)
        return x @ y

    x, y = drawn(2, 2).float().requires_grad_(), drawn(2, 2).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        z = recomputing(product, x, y)
    z.sum().backward()
    assert types == [torch.bfloat16] * 2
    assert x.grad.dtype == torch.float32
