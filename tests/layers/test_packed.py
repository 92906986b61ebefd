"""The packed linear layer: within the error of the plain one, used where it may be, never with an old weight."""

import copy

import pytest
import torch
import torch.nn.functional as F
from error_budget import FORWARD, distance
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlpzoo.layers import create_activation, packed
from mlpzoo.layers.packed import FUSED, PackedLinear

pytestmark = pytest.mark.skipif(not packed.packing_works(), reason="this PyTorch was built without oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """How often the packed path ran."""
    counted = []
    original = PackedLinear._packed_forward
    monkeypatch.setattr(PackedLinear, "_packed_forward", lambda *args: counted.append(1) or original(*args))
    return counted


@settings(max_examples=40, deadline=None)
@given(
    leading=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    act=st.sampled_from(["none", "gelu", "gelu_tanh", "relu", "silu"]),
    bias=st.booleans(),
    residual=st.booleans(),
    strided=st.booleans(),
)
def test_error_is_within_budget(leading, sizes, act, bias, residual, strided):
    linear = nn.Linear(*sizes, bias=bias)
    layer = PackedLinear(linear, None if act == "none" else create_activation(act)).requires_grad_(False)
    x = torch.randn(*leading, sizes[0])
    r = torch.randn(*leading, sizes[1]) if residual else None
    if strided:
        x = x.transpose(0, -2)
        r = r.transpose(0, -2) if residual else None
    wide = copy.deepcopy(layer).double()
    exact = wide(x.double(), None if r is None else r.double())
    with torch.inference_mode():
        found = layer(x, r)
    plain = layer.act(F.linear(x, layer.weight, layer.bias))
    plain = plain if r is None else r + plain
    size = float(exact.square().mean().sqrt())
    assert found.shape == exact.shape
    # On a handful of numbers the plain layer may be right by luck; one unit in the last place is granted.
    assert distance(found.double(), exact) <= FORWARD * distance(plain.double(), exact) + 1.2e-7 * (size + 1)


def test_where_it_is_used(calls):
    layer = PackedLinear(nn.Linear(5, 7), nn.ReLU())
    x = torch.randn(3, 5)
    layer(x)
    assert not calls, "a gradient may be wanted"
    with torch.no_grad():
        layer(x)
        assert len(calls) == 1
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        copy.deepcopy(layer).double()(x.double())
        copy.deepcopy(layer).bfloat16()(x.bfloat16())
        layer(x[0])
        assert layer(x[:0]).shape == (0, 7)
        torch.compile(layer, backend="eager", fullgraph=True)(x)
        assert len(calls) == 1
    layer.requires_grad_(False)
    layer(x)
    assert len(calls) == 2
    layer(x.requires_grad_())
    assert len(calls) == 2
    torch.compiler.reset()


def test_a_changed_weight_is_noticed(calls):
    layer = PackedLinear(nn.Linear(5, 7)).requires_grad_(False)
    x = torch.randn(3, 5)

    def agrees():
        count = len(calls)
        found = layer(x)
        assert len(calls) == count + 1
        torch.testing.assert_close(found, F.linear(x, layer.weight, layer.bias))

    agrees()
    layer.weight.mul_(2)
    agrees()
    layer.load_state_dict(nn.Linear(5, 7).state_dict())
    agrees()
    layer.load_state_dict(nn.Linear(5, 7).state_dict(), assign=True)
    layer.requires_grad_(False)
    agrees()
    layer.weight = nn.Parameter(torch.randn(7, 5), requires_grad=False)
    agrees()
    layer.weight.data = torch.randn(7, 5)
    agrees()
    layer.bfloat16().float()
    agrees()
    with torch.inference_mode():
        layer.weight = nn.Parameter(torch.randn(7, 5), requires_grad=False)
        agrees()


def test_it_is_packed_once(monkeypatch):
    layer = PackedLinear(nn.Linear(5, 7)).requires_grad_(False)
    x = torch.randn(3, 5)
    layer(x)
    monkeypatch.setattr(packed, "Packing", None)
    layer(x)
    with torch.inference_mode():
        layer(x)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert copy.deepcopy(layer)._packing is None


def test_without_onednn_it_is_a_linear_layer(monkeypatch, calls):
    monkeypatch.setattr(packed, "packing_works", lambda: False)
    layer = PackedLinear(nn.Linear(5, 7), nn.ReLU()).requires_grad_(False)
    x = torch.randn(3, 5)
    assert torch.equal(layer(x), F.relu(F.linear(x, layer.weight, layer.bias)))
    assert not calls


def test_operators_that_changed_are_not_used(monkeypatch):
    class Changed:
        def _reorder_linear_weight(self, weight):
            return weight

        def _linear_pointwise(self, *args):
            return torch.zeros(2, 4)

    assert packed.packing_works.__wrapped__()
    monkeypatch.setattr(torch.ops, "mkldnn", Changed())
    assert not packed.packing_works.__wrapped__()
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not packed.packing_works.__wrapped__()


def test_the_activations_the_networks_have_are_fused():
    assert {type(create_activation(name)) for name in ("gelu", "gelu_tanh", "relu")} <= set(FUSED)


@pytest.mark.parametrize("act", ["none", "gelu", "gelu_tanh"])
def test_compiled_it_sees_to_the_activation_too(act):
    layer = PackedLinear(nn.Linear(6, 8), None if act == "none" else create_activation(act)).requires_grad_(False)
    x = torch.randn(3, 6)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)
        graph = torch.fx.symbolic_trace(layer, concrete_args={"residual": None})
        torch.testing.assert_close(graph(x), layer(x), rtol=1e-5, atol=1e-6)
    torch.compiler.reset()
