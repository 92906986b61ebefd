import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import spatial_gate
from mlpzoo.ops.spatial_gate import spatial_gate_reference

SHAPES = [
    pytest.param(b, t, g, id=f"B{b}-T{t}-G{g}") for b, t, g in [(2, 196, 384), (1, 221, 63), (3, 1, 5), (2, 49, 1)]
]


def inputs(b, t, g):
    """The two halves as the views a layer has of them, weight, bias, and what is added to the gate."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    u, v = draw(b, t, 2 * g).chunk(2, dim=-1)
    return [u, v, draw(t, t) / t**0.5, draw(t), draw(b, t, g)]


@pytest.mark.parametrize(("b", "t", "g"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shifted", [False, True])
def test_within_error_budget(b, t, g, dtype, shifted, poisoned_empty):
    u, v, *others = inputs(b, t, g)
    both = torch.cat([u, v], dim=-1)

    def halved(op):
        return lambda x, *rest: op(*x.chunk(2, dim=-1), *rest)

    values = [both, *(others if shifted else others[:2])]
    assert_within_budget(halved(spatial_gate), halved(spatial_gate_reference), values, dtype)


@pytest.mark.parametrize("impl", ["auto", "bmm", "reference"])
@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_same_without_gradients_and_inputs_stay_as_they_were(impl, count, mode):
    values = inputs(2, 6, 7)[:count]
    before = [value.clone() for value in values]
    expected = spatial_gate_reference(*values)
    with mode():
        found = spatial_gate(*values, impl=impl)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(spatial_gate(*values, impl=impl), expected)
    assert found.is_contiguous()
    assert all(torch.equal(value, old) for value, old in zip(values, before, strict=True))


def test_gradients_by_finite_differences():
    leaves = [value.clone().requires_grad_() for value in inputs(2, 4, 3)]
    assert torch.autograd.gradcheck(spatial_gate, leaves)


def test_graph_recorded_without_gradients_learns_all_the_same():
    values = inputs(2, 5, 3)
    with torch.no_grad():
        graph = torch.fx.symbolic_trace(lambda u, v, w, b, shift: spatial_gate(u, v, w, b, shift))
    assert [node.target for node in graph.graph.nodes if node.op.startswith("call")] == [spatial_gate]
    leaves = [value.clone().requires_grad_() for value in values]
    found = torch.autograd.grad(graph(*leaves).sum(), leaves)
    for gradient, peer in zip(found, torch.autograd.grad(spatial_gate(*leaves).sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, peer)


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'"):
        spatial_gate(*inputs(1, 2, 2), impl="cuda")
