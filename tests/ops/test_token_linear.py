import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import token_linear
from mlpzoo.ops.token_linear import token_linear_reference

SHAPES = [
    pytest.param(b, t, s, c, id=f"B{b}-T{t}-S{s}-C{c}")
    for b, t, s, c in [(2, 196, 384, 768), (1, 221, 63, 65), (3, 1, 5, 7), (2, 49, 1, 1), (5, 64, 64, 33)]
]


def inputs(b, t, s, c):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [draw(b, t, c), draw(s, t) / t**0.5, draw(s)]


@pytest.mark.parametrize(("b", "t", "s", "c"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(b, t, s, c, dtype, poisoned_empty):
    assert_within_budget(token_linear, token_linear_reference, inputs(b, t, s, c), dtype)


def test_without_bias():
    x, w, _ = inputs(2, 6, 5, 7)
    torch.testing.assert_close(token_linear(x, w), token_linear_reference(x, w))


def test_input_that_is_not_contiguous():
    x, w, b = inputs(2, 6, 5, 7)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    torch.testing.assert_close(token_linear(strided, w, b), token_linear_reference(x, w, b))


def test_result_is_dense():
    x, w, b = inputs(2, 6, 5, 7)
    for impl in ("auto", "bmm", "reference"):
        assert token_linear(x, w, b, impl=impl).is_contiguous()


def test_gradients_by_finite_differences():
    leaves = [value.requires_grad_() for value in inputs(2, 4, 3, 5)]
    assert torch.autograd.gradcheck(token_linear, leaves)


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        token_linear(*inputs(1, 2, 2, 2), impl="cuda")
