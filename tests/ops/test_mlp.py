"""The ops that keep less for the backward pass than they work with: `mlp` and `linear_of`."""

import functools

import pytest
import torch
import torch.nn.functional as F
from error_budget import assert_within_budget
from torch.autograd import forward_ad
from torch.func import grad, vmap

from mlpzoo.ops import linear_of, mlp
from mlpzoo.ops.linear import linear_of_reference
from mlpzoo.ops.mlp import mlp_reference

SHAPES = [
    pytest.param(lead, sizes, id=f"{'x'.join(map(str, lead))}-{'-'.join(map(str, sizes))}")
    for lead, sizes in [
        ((2, 196), (64, 256, 64)),
        ((1, 13, 17), (63, 33, 65)),
        ((31,), (7, 33, 5)),
        ((2, 49), (9, 1, 3)),
    ]
]
# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
ACTS = pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])


def inputs(lead=(3, 5), sizes=(6, 8, 4), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)

    i, e, o = sizes
    return [draw(*lead, i), draw(e, i) / i**0.5, draw(e), draw(o, e) / e**0.5, draw(o)]


def onednn(dtype):
    """The fast path even for little work, where it exists."""
    return "onednn" if dtype == torch.float32 else "auto"


def fast_mlp(x, *weights, act="gelu"):
    return mlp(x, *weights, act, onednn(x.dtype))


def gated(x, shift):
    """Something that two tensors make, cheaply."""
    return F.gelu(x) * shift


def fast_linear_of(x, w1, b1, w2, b2):
    hidden = F.linear(x, w1, b1)
    return linear_of(gated, [hidden, b1], w2, b2, onednn(x.dtype))


def slow_linear_of(x, w1, b1, w2, b2):
    hidden = F.linear(x, w1, b1)
    return linear_of_reference(gated, [hidden, b1], w2, b2)


OPS = pytest.mark.parametrize(
    ("fast", "reference"),
    [
        pytest.param(fast_mlp, mlp_reference, id="mlp"),
        pytest.param(
            functools.partial(fast_mlp, act="gelu_tanh"), functools.partial(mlp_reference, act="gelu_tanh"), id="tanh"
        ),
        pytest.param(fast_linear_of, slow_linear_of, id="linear_of"),
    ],
)


@OPS
@pytest.mark.parametrize(("lead", "sizes"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(fast, reference, lead, sizes, dtype, poisoned_empty):
    assert_within_budget(fast, reference, inputs(lead, sizes), dtype)


@DEPRECATED
@OPS
def test_gradients_by_finite_differences(fast, reference):
    leaves = [value.requires_grad_() for value in inputs()]
    assert torch.autograd.gradcheck(fast, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(fast, leaves)


@OPS
def test_gradients_of_gradients_in_float32(fast, reference):
    """As a gradient penalty takes them."""
    penalties = []
    for function in (fast, reference):
        leaves = [value.requires_grad_() for value in inputs(dtype=torch.float32)]
        gradients = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        penalties.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), leaves))
    for a, b in zip(*penalties, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@OPS
@pytest.mark.parametrize("which", range(5))
def test_gradients_of_what_is_asked_for_alone(fast, reference, which):
    gradients = []
    for function in (fast, reference):
        leaves = inputs(dtype=torch.float32)
        leaf = leaves[which].requires_grad_()
        function(*leaves).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@ACTS
def test_without_biases(act):
    x, w1, _, w2, _ = inputs(dtype=torch.float32)
    outcomes = []
    for function in (functools.partial(mlp, act=act, impl="onednn"), functools.partial(mlp_reference, act=act)):
        leaves = [value.clone().requires_grad_() for value in (x, w1, w2)]
        y = function(leaves[0], leaves[1], None, leaves[2], None)
        outcomes.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b)


@DEPRECATED
@OPS
def test_forward_mode(fast, reference):
    outcomes = []
    for function in (fast, reference):
        values = [value.requires_grad_() for value in inputs(dtype=torch.float32)]
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(value, torch.ones_like(value)) for value in values]
            tangent = forward_ad.unpack_dual(function(*duals)).tangent
            outcomes.append((tangent, *torch.autograd.grad(tangent.square().sum(), values, materialize_grads=True)))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@OPS
def test_autocast_in_the_forward_pass_alone(fast, reference):
    outcomes = []
    for function in (fast, reference):
        leaves = [value.requires_grad_() for value in inputs((64,), dtype=torch.float32)]
        with torch.autocast("cpu", torch.bfloat16):
            y = function(*leaves) if function is not fast else _auto(function)(*leaves)
        assert y.dtype == torch.bfloat16
        y.square().sum().backward()
        assert all(leaf.grad.dtype == torch.float32 for leaf in leaves)
        outcomes.append((y, *(leaf.grad for leaf in leaves)))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2 * float(b.detach().abs().max()))


def _auto(function):
    """The op as layers call it: it finds out by itself that oneDNN's product is not for autocast."""
    if function is fast_linear_of:
        return lambda x, w1, b1, w2, b2: linear_of(gated, [F.linear(x, w1, b1), b1], w2, b2)
    return lambda *a: mlp(*a, getattr(function, "keywords", {}).get("act", "gelu"))


@OPS
def test_twice_the_same_bit_by_bit(fast, reference):
    outcomes = []
    for _ in range(2):
        leaves = [value.requires_grad_() for value in inputs((2, 196), (64, 256, 64), torch.float32)]
        y = fast(*leaves)
        outcomes.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def _kept(function, leaves):
    """Bytes that a forward pass keeps for the backward pass, beside what it is given."""
    storages = {}

    def remember(value):
        storages[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda value: value):
        function(*leaves)
    given = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    return sum(value.untyped_storage().nbytes() for address, value in storages.items() if address not in given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_kept(dtype):
    leaves = [value.requires_grad_() for value in inputs((100,), (8, 32, 8), dtype)]
    hidden = 100 * 32 * leaves[0].element_size()
    assert _kept(mlp_reference, leaves) == 2 * hidden
    assert _kept(fast_mlp, leaves) == 0
    keeps_hidden = _kept(lambda x, w1, b1, w2, b2: linear_of(F.gelu, [F.linear(x, w1, b1)], w2, b2), leaves)
    assert keeps_hidden == hidden


def test_what_was_made_does_not_live_on():
    x, w, *_ = [value.requires_grad_() for value in inputs(sizes=(6, 8, 6))]
    made = []

    def make(value):
        made.append(torch.neg(value))
        return made[-1]

    y = linear_of(make, [x], w)
    storage = made.pop().untyped_storage()
    assert torch._C._storage_Use_Count(storage._cdata) <= 2, "ours here, and the one that asks"
    y.sum().backward()
    assert len(made) == 1, "made once more"


def test_a_changed_input_is_noticed():
    x, w, *_ = inputs()
    hidden = x.requires_grad_() * 2
    y = linear_of(torch.cos, [hidden], w.requires_grad_())
    hidden.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@OPS
def test_compilers_and_tracers_see_the_steps(fast, reference):
    leaves = [value.requires_grad_() for value in inputs(dtype=torch.float32)]
    op = _auto(fast)
    expected = reference(*leaves)
    gradients = torch.autograd.grad(expected.sum(), leaves)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")(*leaves)
    torch.testing.assert_close(compiled, expected)
    for a, b in zip(torch.autograd.grad(compiled.sum(), leaves), gradients, strict=True):
        torch.testing.assert_close(a, b)

    class Module(torch.nn.Module):
        def forward(self, *values):
            return op(*values)

    program = torch.export.export(Module(), tuple(leaves))
    assert "autograd" not in str(program.graph)
    torch.testing.assert_close(program.module()(*leaves), expected)


@OPS
def test_function_transforms(fast, reference):
    values = inputs((7, 3), dtype=torch.float32)
    op = _auto(fast)

    def loss(function, w1, x):
        return function(x, w1, *values[2:]).square().sum()

    found, expected = (
        vmap(grad(functools.partial(loss, function)), (None, 0))(values[1], values[0]) for function in (op, reference)
    )
    torch.testing.assert_close(found, expected)


def test_what_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'relu' of mlp: choose 'gelu', 'gelu_tanh'"):
        mlp(*inputs(), "relu")
    with pytest.raises(ValueError, match="unknown impl 'mkl' of linear"):
        mlp(*inputs(), impl="mkl")
    with pytest.raises(ValueError, match="needs float32 tensors on a CPU"):
        mlp(*inputs(), impl="onednn")
    x, _, _, w2, b2 = inputs(sizes=(8, 8, 4))
    with pytest.raises(ValueError, match="unknown impl 'mkl' of linear"):
        linear_of(F.gelu, [x], w2, b2, "mkl")


def test_the_reference_can_be_asked_for():
    leaves = [value.requires_grad_() for value in inputs((100,), (8, 32, 8))]
    assert _kept(functools.partial(mlp, impl="reference"), leaves) == _kept(mlp_reference, leaves)
    assert _kept(lambda x, w1, b1, w2, b2: linear_of(F.gelu, [F.linear(x, w1, b1)], w2, b2, "reference"), leaves) > 0
