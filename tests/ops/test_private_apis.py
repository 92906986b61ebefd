"""What stands in for PyTorch's private APIs where they are missing or changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlpzoo.layers import MlpBlock
from mlpzoo.ops import _torch
from mlpzoo.ops.dispatch import fast_path

FORMS = pytest.mark.parametrize("form", ["none", "tanh"])


@pytest.fixture
def nothing_works(monkeypatch):
    monkeypatch.setattr(_torch, "_answers", dict.fromkeys(_torch.PROBES, False))


def test_each_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(_torch, "_answers", {})
    monkeypatch.setitem(_torch.PROBES, "own_hooks", lambda: tried.append(1) or True)
    assert _torch.works("own_hooks")
    assert _torch.works("own_hooks")
    assert tried == [1]


@pytest.mark.parametrize("error", [AttributeError, NotImplementedError, RuntimeError, TypeError])
def test_an_api_that_raises_does_not_work(monkeypatch, error):
    def probe():
        raise error("gone")

    monkeypatch.setattr(_torch, "_answers", {})
    monkeypatch.setitem(_torch.PROBES, "gelu_backward", probe)
    assert not _torch.works("gelu_backward")


def test_operators_that_changed_are_not_used(monkeypatch):
    class Changed:
        def _linear_pointwise(self, *args):
            return torch.zeros(2, 4)

    monkeypatch.setattr(_torch, "_answers", {})
    monkeypatch.setattr(torch.ops, "mkldnn", Changed())
    assert not _torch.works("onednn_linear")


@pytest.mark.parametrize("act", ["none", "gelu", "gelu_tanh"])
def test_linear_without_onednn(act, nothing_works):
    x, w, b = torch.randn(5, 3), torch.randn(4, 3), torch.randn(4)
    expected = F.linear(x, w, b)
    if act != "none":
        expected = F.gelu(expected, approximate="tanh" if act == "gelu_tanh" else "none")
    torch.testing.assert_close(_torch.onednn_linear(x, w, b, act), expected)


def test_product_with_gelu(nothing_works):
    x, w, b = torch.randn(5, 3), torch.randn(3, 4), torch.randn(4)
    torch.testing.assert_close(_torch.addmm_gelu(b, x, w), F.gelu(x @ w + b))


@FORMS
def test_gradient_of_gelu(form, nothing_works):
    x, grad = (torch.randn(100, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    (expected,) = torch.autograd.grad(F.gelu(x, approximate=form), x, grad)
    torch.testing.assert_close(_torch.gelu_backward(grad, x, form), expected)
    assert torch.autograd.gradcheck(lambda g, x: _torch.gelu_backward(g, x, form), (grad.requires_grad_(), x))
    overwritten = grad.detach().clone()
    assert _torch.gelu_backward(overwritten, x.detach(), form, in_place=True) is overwritten
    torch.testing.assert_close(overwritten, expected)


def test_what_cannot_be_asked_is_answered_with_care(nothing_works):
    assert _torch.transforms_active()
    assert _torch.is_batched_gradient(torch.zeros(1))
    assert _torch.dispatch_mode_active()
    assert _torch.global_hooks()
    assert _torch.own_hooks(nn.Identity())
    assert not _torch.is_tracing()
    assert not fast_path(torch.zeros(1))
    assert not fast_path(nn.Linear(1, 1))
    with _torch.fake_tensors():
        assert MlpBlock(3)(torch.zeros(1, 3)).shape == (1, 3)


def test_all_of_them_work_in_this_pytorch():
    missing = [name for name in _torch.PROBES if not _torch.works(name)]
    assert missing == [] or not torch.backends.mkldnn.is_available(), "a fast path is lost: see mlpzoo/ops/_torch.py"
