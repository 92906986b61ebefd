import pytest
import torch
from error_budget import assert_within_budget
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from mlpzoo.layers import MlpBlock
from mlpzoo.layers.linear import apply_linear
from mlpzoo.ops import _torch, linear, linear_halves
from mlpzoo.ops.linear import _epilogue, linear_halves_reference, linear_operator, linear_reference

ACTS = ("none", "gelu", "gelu_tanh")
SHAPES = [
    pytest.param(lead, i, o, id=f"{'x'.join(map(str, lead))}-I{i}-O{o}")
    for lead, i, o in [((2, 196), 384, 768), ((1, 221), 63, 65), ((3, 13, 17), 33, 5), ((31,), 7, 33), ((2, 49), 1, 9)]
]


DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")


def inputs(lead, i, o):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [draw(*lead, i), draw(o, i) / i**0.5, draw(o)]


def small():
    return [value.float() for value in inputs((3, 5), 6, 4)]


def forced(x, w, b, act="none"):
    """The fast path even for little work; the reference where it cannot run, as the budget's truth in float64."""
    return linear(x, w, b, act, "onednn" if x.dtype == torch.float32 else "auto")


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("lead", "i", "o"), SHAPES)
def test_within_error_budget(lead, i, o, act, poisoned_empty):
    assert_within_budget(
        lambda *a: forced(*a, act), lambda *a: linear_reference(*a, act), inputs(lead, i, o), torch.float32
    )


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("lead", "i", "o"), SHAPES)
def test_activation_inside_the_product(lead, i, o, act):
    """Without gradients: its error against float64 is at most twice the reference's own."""
    exact = linear_reference(*inputs(lead, i, o), act)
    single = [value.float() for value in inputs(lead, i, o)]
    with torch.no_grad():
        found, peer = forced(*single, act).double(), linear_reference(*single, act).double()
    budget = 2 * (peer - exact).square().mean().sqrt() + 0.1 * torch.finfo(torch.float32).eps * exact.abs().mean()
    assert (found - exact).square().mean().sqrt() <= budget


def test_without_bias_and_of_any_strides():
    x, w, _ = small()
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(forced(strided, w, None), linear_reference(x, w))
        torch.testing.assert_close(forced(x[..., ::2], w[:, ::2], None), linear_reference(x[..., ::2], w[:, ::2]))
        torch.testing.assert_close(forced(x[:1].expand(3, -1, -1), w, None)[2], linear_reference(x[0], w))
        torch.testing.assert_close(forced(x[:, ::2], w.t().contiguous().t(), None), linear_reference(x[:, ::2], w))


@pytest.mark.parametrize(
    "needed", [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
)
def test_gradients_of_what_is_asked_for_alone(needed):
    fast, slow = ([v.clone().requires_grad_(n) for v, n in zip(small(), needed, strict=True)] for _ in range(2))
    forced(*fast).square().sum().backward()
    linear_reference(*slow).square().sum().backward()
    for a, b in zip(fast, slow, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


def penalty_gradients(function, dtype):
    """The gradients of a gradient penalty for input and weight, in float64."""
    x, w, b = (value.to(dtype).requires_grad_() for value in inputs((3, 5), 6, 4))
    (gradient,) = torch.autograd.grad(function(x, w, b).square().sum(), x, create_graph=True)
    return [value.double() for value in torch.autograd.grad(gradient.square().sum(), [x, w])]


def test_gradients_of_gradients():
    """Their error against float64 is at most three times the reference's own."""
    exact = penalty_gradients(linear_reference, torch.float64)
    found, peers = (penalty_gradients(function, torch.float32) for function in (forced, linear_reference))
    for truth, value, peer in zip(exact, found, peers, strict=True):
        budget = 3 * (peer - truth).square().mean().sqrt() + 0.1 * torch.finfo(torch.float32).eps * truth.abs().mean()
        assert (value - truth).square().mean().sqrt() <= budget


@DEPRECATED
def test_forward_mode():
    x, w, b = small()
    tangents = tuple(torch.ones_like(value) for value in (x, w, b))
    found = torch.autograd.functional.jvp(forced, (x, w, b), tangents)[1]
    with torch.autograd.forward_ad.dual_level():
        pairs = zip((x, w, b), tangents, strict=True)
        duals = [torch.autograd.forward_ad.make_dual(value.requires_grad_(), tangent) for value, tangent in pairs]
        forward = torch.autograd.forward_ad.unpack_dual(forced(*duals)).tangent
    torch.testing.assert_close(forward, found)


def big_layer():
    """Enough work for the fast path to be chosen by itself."""
    torch.manual_seed(0)
    return Applied(), torch.randn(2, 64, 256)


class Applied(nn.Linear):
    """A linear layer that the op runs whatever its class."""

    def __init__(self, impl="auto"):
        super().__init__(256, 512)
        self.impl = impl

    def forward(self, x):
        return linear(x, self.weight, self.bias, impl=self.impl)


def names_run(function):
    with torch.profiler.profile(acc_events=True) as profile:
        function()
    return {event.key for event in profile.key_averages()}


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
def test_chosen_by_work_and_place():
    layer, x = big_layer()
    onednn = "mkldnn::_linear_pointwise"
    with torch.no_grad():
        assert onednn in names_run(lambda: layer(x))
        assert onednn not in names_run(lambda: layer(x[:1, :2]))
        assert onednn not in names_run(lambda: Applied("reference")(x))
        assert onednn not in names_run(lambda: layer.double()(x.double()))
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(x).dtype == torch.bfloat16
        with torch.backends.mkldnn.flags(enabled=False):
            assert onednn not in names_run(lambda: layer(x))
    assert onednn in names_run(lambda: layer(x).sum().backward())


def test_the_first_call_may_be_under_autocast():
    layer, x = big_layer()
    _torch._answers.pop("onednn_linear", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    _torch._answers.pop("onednn_linear", None)
    assert vmap(layer)(x[None]).shape == (1, *layer(x).shape)


@DEPRECATED
def test_tracers_and_compilers_see_torchs_own():
    layer, x = big_layer()
    with torch.no_grad():
        assert "mkldnn" not in str(torch.jit.trace(layer, x).graph)
        graph = torch.fx.symbolic_trace(layer)
        assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [linear]
        assert torch.equal(graph(x), layer(x)), "the same kernel"
        assert "mkldnn" not in str(torch.export.export(layer, (x,)).graph)
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), layer(x))


def test_function_transforms():
    layer, x = big_layer()
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,)).square().mean()

    per_sample = vmap(grad(loss), (None, 0))(parameters, x)
    layer(x[1]).square().mean().backward()
    torch.testing.assert_close(per_sample["weight"][1], layer.weight.grad)


def test_operations_are_counted():
    layer, x = big_layer()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 128 * 256 * 512


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gradients", [True, False])
def test_halves(act, gradients):
    x, w, b = small()
    with torch.set_grad_enabled(gradients):
        found, expected = linear_halves(x, w, b, act), linear_halves_reference(x, w, b, act)
    torch.testing.assert_close(found, expected)
    assert all(half.is_contiguous() for half in found) != gradients


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
def test_gradients_after_onednn_is_switched_off():
    """The backward pass takes the products that it can have."""
    x, w, b = (value.requires_grad_() for value in small())
    y = linear(x, w, b, impl="onednn")
    with torch.backends.mkldnn.flags(enabled=False):
        found = torch.autograd.grad(y.square().sum(), (x, w, b))
    expected = torch.autograd.grad(linear_reference(x, w, b).square().sum(), (x, w, b))
    torch.testing.assert_close(found, expected)


def test_an_activation_somebody_watches_runs_by_itself():
    torch.manual_seed(0)
    block, x = MlpBlock(128, 512), torch.randn(4, 64, 128)
    with torch.no_grad():
        fused = block(x)
        seen = []
        handle = block.fc1.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
        torch.testing.assert_close(block(x), fused)
        torch.testing.assert_close(seen[0], nn.functional.linear(x, block.fc1.weight, block.fc1.bias))
        handle.remove()
        block.act.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
        block(x)
        torch.testing.assert_close(seen[1], nn.functional.gelu(seen[0]))
        other = nn.ReLU()
        torch.testing.assert_close(apply_linear(block.fc1, x, other), other(seen[0]))
        for act, form in ((nn.GELU(), "none"), (nn.GELU("tanh"), "tanh")):
            torch.testing.assert_close(apply_linear(block.fc1, x, act), nn.functional.gelu(seen[0], approximate=form))


def test_what_is_refused():
    x, w, b = small()
    with pytest.raises(ValueError, match="unknown impl 'mkl' of linear"):
        linear(x, w, b, impl="mkl")
    with pytest.raises(ValueError, match="unknown activation 'relu' of linear"):
        linear(x, w, b, "relu")
    with pytest.raises(ValueError, match="needs float32 tensors on a CPU"):
        linear(x.double(), w.double(), b.double(), impl="onednn")


@pytest.mark.parametrize(("lead", "i", "o"), SHAPES)
def test_the_epilogue_keeps_the_shape_of_what_it_gets(lead, i, o):
    """On a CPU, where the operator's GELU is the exact one."""
    x, w, b = inputs(lead, i, o)
    torch.testing.assert_close(_epilogue(x, w, b), linear_reference(x, w, b, "gelu"))
    strided = x.transpose(0, -2)
    torch.testing.assert_close(_epilogue(strided, w, b), linear_reference(strided, w, b, "gelu"))


def test_the_epilogue_by_name_needs_a_gpu():
    with pytest.raises(ValueError, match="'epilogue' of linear needs .* on a GPU"):
        linear(*small(), "gelu_tanh", impl="epilogue")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("lead", "i", "o"), SHAPES)
def test_the_epilogue_on_a_gpu(lead, i, o, dtype):
    """Its error against float64 is at most twice the reference's own."""
    exact = linear_reference(*inputs(lead, i, o), "gelu_tanh")
    half = [value.cuda().to(dtype) for value in inputs(lead, i, o)]
    with torch.no_grad():
        found = linear(*half, "gelu_tanh", impl="epilogue").double().cpu()
        peer = linear_reference(*half, "gelu_tanh").double().cpu()
    budget = 2 * (peer - exact).square().mean().sqrt() + 0.1 * torch.finfo(dtype).eps * exact.abs().mean()
    assert (found - exact).square().mean().sqrt() <= budget


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_the_operator_is_registered_in_full(act, bias):
    x, w, b = inputs((2, 196), 384, 768) if act == "gelu" else inputs((2, 3), 6, 4)
    arguments = (x.float(), w.float(), b.float() if bias else None, act)
    tests = ("test_schema", "test_faketensor")
    assert torch.library.opcheck(linear_operator, arguments, test_utils=tests) == dict.fromkeys(tests, "SUCCESS")
    assert_close_to_reference(linear_operator(*arguments), arguments)


def assert_close_to_reference(found, arguments):
    expected = linear_reference(*arguments)
    assert (found.shape, found.stride()) == (expected.shape, expected.stride())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strided", [lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:0]], ids=range(3))
def test_the_operator_gives_dense_memory(strided):
    x, w, b = small()
    assert_close_to_reference(linear_operator(strided(x), w, b, "gelu"), (strided(x).contiguous(), w, b, "gelu"))


class Graphs:
    """A backend that keeps the graphs it gets and runs them as they are."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, example):
        self.graphs.append(graph)
        return graph

    def calls(self):
        return [str(node.target) for graph in self.graphs for node in graph.graph.nodes if node.op == "call_function"]


@pytest.fixture
def graphs():
    torch.compiler.reset()
    yield Graphs()
    torch.compiler.reset()


def seems_to_export():
    """What PyTorch tells a function that it compiles."""
    compiled = torch.compile(lambda x: x + torch.compiler.is_exporting(), backend="eager")
    return bool(compiled(torch.zeros(1)))


def test_compiled_inference_calls_the_operator_whatever_the_number_of_rows(graphs):
    if seems_to_export():
        pytest.skip("this PyTorch takes compiling for exporting, as 2.11 does, and then the operator is not called")
    block = MlpBlock(48, 96)
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=graphs)
    with torch.no_grad():
        for rows in (2, 5, 4000):
            x = torch.randn(rows, 48)
            torch.testing.assert_close(compiled(x), block(x), rtol=1e-5, atol=1e-5)
    assert [call for call in graphs.calls() if "linear" in call] == ["mlpzoo.linear.default"] * 2
    assert not [call for call in graphs.calls() if "gelu" in call], "it is part of the operator"


@pytest.mark.parametrize(
    ("impl", "dtype", "grad"),
    [
        pytest.param("reference", torch.float32, False, id="reference"),
        pytest.param("auto", torch.bfloat16, False, id="bfloat16"),
        pytest.param("auto", torch.float32, True, id="training"),
    ],
)
def test_all_else_that_is_compiled_calls_what_everybody_knows(impl, dtype, grad, graphs):
    block = MlpBlock(8, 16, impl=impl, dtype=dtype)
    with torch.set_grad_enabled(grad):
        torch.compile(block, fullgraph=True, backend=graphs)(torch.randn(3, 8, dtype=dtype))
    assert graphs.graphs
    assert not [call for call in graphs.calls() if "mlpzoo" in call]


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not-strict"])
def test_exported_programs_call_what_everybody_knows(strict):
    with torch.no_grad():
        program = torch.export.export(MlpBlock(8, 16), (torch.randn(3, 8),), strict=strict)
    assert not [node for node in program.graph.nodes if "mlpzoo" in str(node.target)]


def test_many_compiled_at_once(graphs):
    x, w, b = small()
    weights = torch.stack([w, 2 * w])
    with torch.no_grad():
        compiled = torch.compile(vmap(lambda w: linear(x, w, b, "gelu")), fullgraph=True, backend="eager")
        expected = torch.stack([linear_reference(x, v, b, "gelu") for v in weights])
        torch.testing.assert_close(compiled(weights), expected)
