"""The kernels: on a GPU where there is one, elsewhere by Triton's interpreter, which `conftest.py` switches on."""

import importlib.util
import os
import subprocess
import sys

import numpy
import pytest
import torch
from error_budget import assert_within_budget
from models import tiny
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mlpzoo
from mlpzoo.layers import CycleMLP, TokenMixing, WeightedPermuteMLP
from mlpzoo.ops import axis_linear, cycle_fc, reweighted_sum, spatial_gate, token_linear
from mlpzoo.ops._triton import require_triton
from mlpzoo.ops.axis_linear import axis_linear_reference
from mlpzoo.ops.cycle_fc import cycle_fc_reference
from mlpzoo.ops.reweight import reweighted_sum_reference
from mlpzoo.ops.token_linear import token_linear_reference

triton = pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for CUDA alone")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    # What Triton will do by default one day changes no product.
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset:UserWarning"),
    # The interpreter of Triton 3.6 counts by arrays of one element.
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning"),
]
AXES = pytest.mark.parametrize("axis", [1, 2])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    require_triton(DEVICE)
    old = [int(part) for part in triton.__version__.split(".")[:2]] < [3, 7]
    if DEVICE == "cpu" and old and numpy.lib.NumpyVersion(numpy.__version__) >= "2.4.0":
        pytest.skip("the interpreter of Triton 3.6 needs NumPy below 2.4")


def draw(*shapes):
    """Tensors in float64, weights scaled by what they sum over."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return [x / x.shape[1] ** 0.5 if x.ndim == 2 and i == 1 else x for i, x in enumerate(tensors)]


def within_budget(fast, reference, inputs, dtype):
    """Both run where the kernels do."""

    def on_device(op):
        return lambda *tensors: op(*(x.to(DEVICE) for x in tensors)).cpu()

    assert_within_budget(on_device(fast), on_device(reference), inputs, dtype)


def cycle_ops(step, axis, dtype=torch.float32, **options):
    """The kernel and its twin; deformable convolutions take no half precision, where the twin is the exact shift."""

    def fast(x, w, b):
        return cycle_fc(x, w, b, step, axis, impl="triton", **options)

    def reference(x, w, b):
        if dtype == torch.float32:
            return cycle_fc_reference(x, w, b, step, axis, **options)
        return cycle_fc(x, w, b, step, axis, impl="select", **options)

    return fast, reference


@pytest.mark.parametrize(
    ("shape", "out_channels"),
    [
        pytest.param((1, 13, 17, 63), 63, id="odd"),
        pytest.param((2, 7, 9, 32), 48, id="two-images"),
        pytest.param((3, 2, 5, 8), 70, id="shorter-than-the-step"),
    ],
)
@pytest.mark.parametrize("step", [3, 5, 7])
@AXES
def test_cycle_fc(shape, out_channels, step, axis, poisoned_empty):
    inputs = draw(shape, (out_channels, shape[3]), (out_channels,))
    within_budget(*cycle_ops(step, axis), inputs, torch.float32)


@AXES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cycle_fc_in_half_precision(axis, dtype, poisoned_empty):
    within_budget(*cycle_ops(3, axis, dtype), draw((1, 13, 17, 63), (40, 63), (40,)), dtype)


@pytest.mark.parametrize("options", [{"dilation": 2}, {"offsets": [0, 2, -2, 1, -1, 2, 2, 0, 1, -9]}], ids=str)
@AXES
def test_cycle_fc_with_other_offsets(options, axis, poisoned_empty):
    within_budget(*cycle_ops(5, axis, **options), draw((2, 6, 9, 10), (7, 10), (7,)), torch.float32)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 8, 8, 64), 1), ((2, 8, 8, 64), 2), ((1, 13, 17, 39), 1), ((1, 13, 17, 51), 2), ((3, 7, 1, 21), 1)],
    ids=str,
)
@DTYPES
def test_axis_linear(shape, axis, dtype, poisoned_empty):
    within_budget(
        lambda x, w, b: axis_linear(x, w, b, axis, "triton"),
        lambda x, w, b: axis_linear_reference(x, w, b, axis),
        draw(shape, (shape[3], shape[3]), (shape[3],)),
        dtype,
    )


@pytest.mark.parametrize(
    ("batch", "tokens", "out_tokens", "channels"), [(1, 221, 63, 65), (2, 49, 1, 130), (5, 64, 64, 33)]
)
@pytest.mark.parametrize("act", ["none", "gelu", "gelu_tanh"])
@DTYPES
def test_token_linear(batch, tokens, out_tokens, channels, act, dtype, poisoned_empty):
    within_budget(
        lambda x, w, b: token_linear(x, w, b, impl="triton", act=act),
        lambda x, w, b: token_linear_reference(x, w, b, act),
        draw((batch, tokens, channels), (out_tokens, tokens), (out_tokens,)),
        dtype,
    )


@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 17, 20, 130), (3, 4, 2, 64)], ids=str)
@DTYPES
def test_reweighted_sum(shape, dtype, poisoned_empty):
    def fast(h, w, c, logits):
        return reweighted_sum(h, w, c, logits, "triton")

    generator = torch.Generator().manual_seed(0)
    branches = [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(3)]
    logits = torch.randn(shape[0], 3 * shape[3], dtype=torch.float64, generator=generator)
    within_budget(fast, reweighted_sum_reference, [*branches, logits], dtype)


def test_weights_of_branches_far_apart():
    h, w, c = (torch.full((1, 2, 2, 3), value, device=DEVICE) for value in (1.0, 2.0, 4.0))
    logits = torch.tensor([[1e4, 0, 0, 0, 1e4, 0, -1e4, -1e4, 0]], device=DEVICE)
    y = reweighted_sum(h, w, c, logits, "triton")
    assert torch.equal(y, torch.tensor([1.0, 2.0, 4.0], device=DEVICE).expand(1, 2, 2, 3))


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[:, ::2, 1::2], id="every-second-position"),
        pytest.param(lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), id="channels-first"),
    ],
)
def test_inputs_that_are_not_contiguous(view):
    def check(fast, reference, *inputs):
        within_budget(fast, reference, inputs, torch.float32)

    x, w, b = draw((2, 12, 12, 24), (24, 24), (48,))
    assert not view(x).is_contiguous()
    fast, reference = cycle_ops(3, 1)
    check(lambda x, w, b: fast(view(x), w.t(), b[::2]), lambda x, w, b: reference(view(x), w.t(), b[::2]), x, w, b)
    check(
        lambda x, w, b: axis_linear(view(x), w.t(), b[::2], 2, "triton"),
        lambda x, w, b: axis_linear_reference(view(x), w.t(), b[::2], 2),
        x,
        w,
        b,
    )
    check(
        lambda x, w, b: token_linear(view(x)[:, 0], w[:, : view(x).shape[2]], b[::2], "triton", "gelu"),
        lambda x, w, b: token_linear_reference(view(x)[:, 0], w[:, : view(x).shape[2]], b[::2], "gelu"),
        x,
        w,
        b,
    )
    check(
        lambda h, x, logits: reweighted_sum(view(h), view(x), view(h), logits.t(), "triton"),
        lambda h, x, logits: reweighted_sum_reference(view(h), view(x), view(h), logits.t()),
        x.flip(3),
        x,
        torch.randn(72, 2, dtype=torch.float64),
    )


CALLS = {
    "cycle_fc": lambda x, w, b: cycle_fc(x, w, b, 3, 1, impl="triton"),
    "axis_linear": lambda x, w, b: axis_linear(x, w, b, 1, "triton"),
    "token_linear": lambda x, w, b: token_linear(x.flatten(1, 2), w, b, "triton", "gelu"),
    "reweighted_sum": lambda x, w, b: reweighted_sum(x, x @ w, x * b, x[:, 0, :3].flatten(1), "triton"),
}
every_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


def leaves(*, batch=2):
    return [x.float().to(DEVICE).requires_grad_() for x in draw((batch, 4, 4, 16), (16, 16), (16,))]


@every_call
def test_gradients_that_nobody_needs_are_not_computed(call):
    x, w, b = leaves()
    wanted = torch.autograd.grad(call(x, w, b).square().sum(), (x, w, b))
    for i in range(3):
        frozen = [leaf.detach().requires_grad_(i == j) for j, leaf in enumerate((x, w, b))]
        with Seen() as seen:
            (found,) = torch.autograd.grad(call(*frozen).square().sum(), frozen[i])
        torch.testing.assert_close(found, wanted[i])
        other = "input_gradient" if i else "weight_gradient"
        assert not any(name.endswith(other) for name in seen.names)


class Seen(TorchDispatchMode):
    """Remembers which of our operators were called."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "mlpzoo":
            self.names.append(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["cycle_fc", "axis_linear", "token_linear"])
def test_without_bias_and_without_images(name):
    x, w, b = leaves()
    torch.testing.assert_close(CALLS[name](x, w, None), CALLS[name](x, w, torch.zeros_like(b)))
    x, w, b = leaves(batch=0)
    y = CALLS[name](x, w, b)
    assert y.shape[0] == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(y.sum(), (x, w, b)))


OPERATORS = {
    "token_linear": lambda x, w, b, _: (x.flatten(1, 2), w, b, "gelu", True),
    "token_linear_input_gradient": lambda x, w, *_: (x.flatten(1, 2), w),
    "token_linear_weight_gradient": lambda x, w, *_: (x.flatten(1, 2), x.flatten(1, 2), w),
    "axis_linear": lambda x, w, b, _: (x, w, b, 2),
    "axis_linear_input_gradient": lambda x, w, *_: (x, w, 2),
    "axis_linear_weight_gradient": lambda x, w, *_: (x, x, w, 2),
    "cycle_fc": lambda x, w, b, _: (x, w, b, 3, 2, 1, None),
    "cycle_fc_input_gradient": lambda x, w, *_: (x, w, 3, 2, 1, None),
    "cycle_fc_weight_gradient": lambda x, w, *_: (x, x, w, 3, 2, 1, None),
    "reweighted_sum": lambda x, w, b, logits: (x, x + 1, x - 1, logits),
    "reweighted_sum_gradients": lambda x, w, b, logits: (x, x, x + 1, x - 1, logits),
}


# The check looks at gradients of tensors that are no leaves, and PyTorch warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_what_pytorch_expects(name):
    tensors = [x.detach() for x in (*leaves(), torch.randn(2, 48, device=DEVICE))]
    arguments = OPERATORS[name](*tensors)
    if name in CALLS:
        # The gradients' operators have none of their own.
        arguments = [x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
    torch.library.opcheck(getattr(torch.ops.mlpzoo, name).default, arguments)


class Mixing(nn.Module):
    """Every op once."""

    def __init__(self, impl):
        super().__init__()
        self.cycle = CycleMLP(16, impl=impl)
        self.permute = WeightedPermuteMLP(16, 4, impl=impl)
        self.tokens = TokenMixing(16, 8, impl=impl)

    def forward(self, x):
        return self.tokens(self.permute(self.cycle(x)).flatten(1, 2))


@pytest.fixture
def twins():
    fast, plain = Mixing("triton").to(DEVICE), Mixing("auto").to(DEVICE)
    plain.load_state_dict(fast.state_dict())
    return fast, plain


KERNELS = [
    "cycle_fc",
    "cycle_fc",
    "reweighted_sum",
    "axis_linear",
    "axis_linear",
    "reweighted_sum",
    "token_linear",
    "token_linear",
]


def assert_same_step(fast, plain, x):
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [network(leaf) for network, leaf in zip((fast, plain), inputs, strict=True)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    for y in outputs:
        y.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_layers_run_their_kernels(twins):
    fast, plain = twins
    x = torch.randn(2, 4, 4, 16, device=DEVICE)
    with Seen() as seen:
        fast(x)
    assert seen.names == KERNELS
    with Seen() as seen:
        plain(x)
    assert seen.names == [], "kernels are for those who ask"
    assert_same_step(fast, plain, x)


def test_one_graph_for_compilers_and_exporters(twins):
    fast, plain = twins
    torch.compiler.reset()
    compiled = torch.compile(fast, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (2, 3):
            fast.zero_grad(), plain.zero_grad()
            assert_same_step(compiled, plain, torch.randn(batch, 4, 4, 16, device=DEVICE))
    torch.compiler.reset()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(fast, (torch.randn(2, 4, 4, 16, device=DEVICE),), dynamic_shapes=({0: batch},))
    called = [node.target._opname for node in exported.graph.nodes if getattr(node.target, "namespace", "") == "mlpzoo"]
    assert called == KERNELS
    x = torch.randn(5, 4, 4, 16, device=DEVICE)
    torch.testing.assert_close(exported.module()(x), plain(x), rtol=1e-4, atol=1e-5)


def test_a_hook_on_the_activation_is_called(twins):
    fast, plain = twins
    x = torch.randn(2, 16, 16, device=DEVICE)
    for mixing in (fast.tokens, plain.tokens):
        mixing.act.register_forward_hook(lambda module, inputs, output: output * 2)
    torch.testing.assert_close(fast.tokens(x), plain.tokens(x), rtol=1e-4, atol=1e-5)


def test_autocast_is_followed(twins):
    fast, plain = twins
    x = torch.randn(2, 4, 4, 16, device=DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = cycle_fc(x, fast.cycle.sfc_h.weight.flatten(1), None, 3, 1, impl="triton")
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(fast(x).float(), plain(x).float(), rtol=0.05, atol=0.02)


def test_multiplications_are_counted():
    x, w, b = leaves()
    for name in ("cycle_fc", "axis_linear", "token_linear"):
        with FlopCounterMode(display=False) as counter:
            y = CALLS[name](x, w, b)
        assert counter.get_total_flops() == 2 * x.numel() * 16
        with FlopCounterMode(display=False) as counter:
            y.sum().backward()
        assert counter.get_total_flops() == 2 * 2 * x.numel() * 16


@pytest.mark.parametrize("family", ["mixer", "resmlp", "gmlp"])
def test_networks(family):
    fast = tiny.create(family, depth=1, impl="triton").to(DEVICE).eval()
    plain = tiny.create(family, depth=1).to(DEVICE).eval()
    for i, parameter in enumerate(fast.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator(DEVICE).manual_seed(i))
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 3, 48, 64, device=DEVICE)
    with Seen() as seen:
        found = fast(x)
    assert set(seen.names) == {"token_linear"}
    torch.testing.assert_close(found, plain(x), rtol=1e-3, atol=1e-4)


def test_spatial_gate():
    u, v, w = torch.randn(2, 9, 6), torch.randn(2, 9, 6), torch.randn(9, 9)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), Seen() as seen:
            found = spatial_gate(u.to(DEVICE), v.to(DEVICE), w.to(DEVICE), impl="triton")
        assert seen.names == ["token_linear"]
        torch.testing.assert_close(found.cpu(), spatial_gate(u, v, w))


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ((torch.float64, torch.float64), "one dtype, float32, float16 or bfloat16; got torch.float64"),
        ((torch.float16, torch.float32), "got torch.float16, torch.float32"),
    ],
)
def test_dtypes_that_kernels_do_not_take(dtypes, message):
    x, w = torch.randn(1, 2, 2, 4, device=DEVICE), torch.randn(4, 4, device=DEVICE)
    with pytest.raises(ValueError, match=message):
        cycle_fc(x.to(dtypes[0]), w.to(dtypes[1]), None, 3, 1, impl="triton")


def test_shapes_that_do_not_fit():
    x, w, b = leaves()
    with pytest.raises(ValueError, match=r"weight of \(16, 15\) and a bias of \(16,\) do not map the 16 numbers"):
        token_linear(x.flatten(1, 2), w[:, 1:], b, "triton")
    with pytest.raises(ValueError, match="bias of"):
        axis_linear(x, w, b[1:], 1, "triton")
    with pytest.raises(ValueError, match="got 3 offsets for a map of 16 channels"):
        cycle_fc(x, w, b, 3, 1, offsets=[0, 1, -1], impl="triton")
    with pytest.raises(ValueError, match=r"got \(2, 4, 4, 16\), .* \(2, 47\)"):
        reweighted_sum(x, x, x, torch.zeros(2, 47, device=DEVICE), "triton")


def test_groups_are_refused():
    x, w, b = leaves()
    with pytest.raises(ValueError, match="16 channels and a weight for groups of 4, choose impl 'auto'"):
        cycle_fc(x, w[:, :4], b, 3, 1, impl="triton")


def test_unknown_activation():
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        token_linear(*leaves(), act="relu")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package triton, which is not installed: pip install triton"):
        mlpzoo.create_model("mixer_s16", impl="triton")
    mlpzoo.create_model("mixer_s16", device="meta")


WITHOUT_DEVICE = """
import sys
import mlpzoo, torch
from mlpzoo.ops import token_linear

assert not any(name.startswith("mlpzoo.ops._triton.") for name in sys.modules), "kernels are imported when asked for"
for ask in (
    lambda: mlpzoo.create_model("mixer_s16", impl="triton", device="meta"),
    lambda: token_linear(torch.zeros(1, 2, 3), torch.zeros(2, 2), impl="triton"),
):
    try:
        ask()
    except ValueError as error:
        print(error)
"""


def test_without_a_device():
    environment = {**os.environ, "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEVICE], env=environment, capture_output=True, text=True, check=True
    )
    message = "impl 'triton' needs a CUDA device, or TRITON_INTERPRET=1 in the environment before Python starts"
    assert done.stdout.splitlines() == [message, f"{message}; got a tensor on 'cpu'"]


REAL = {
    "cyclemlp_b2, first stage": ((64, 56, 56, 64), (64, 64), lambda x, w, b, impl: cycle_fc(x, w, b, 3, 1, impl=impl)),
    "cyclemlp_b2, last stage": ((64, 7, 7, 512), (512, 512), lambda x, w, b, impl: cycle_fc(x, w, b, 3, 2, impl=impl)),
    "vip_s7, height": ((64, 32, 32, 192), (192, 192), lambda x, w, b, impl: axis_linear(x, w, b, 1, impl)),
    "vip_s7, width": ((64, 16, 16, 384), (384, 384), lambda x, w, b, impl: axis_linear(x, w, b, 2, impl)),
    "mixer_b16": ((64, 196, 768), (384, 196), lambda x, w, b, impl: token_linear(x, w, b, impl, "gelu_tanh")),
}


@pytest.fixture(params=REAL)
def real(request):
    """Inputs in float64; an op as a function of them and of the implementation."""
    shape, weight, call = REAL[request.param]
    return draw(shape, weight, (weight[0],)), call


@pytest.mark.gpu
@DTYPES
def test_real_shapes(real, dtype):
    inputs, call = real
    within_budget(lambda *args: call(*args, "triton"), lambda *args: call(*args, "auto"), inputs, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(64, 56, 56, 64), (64, 7, 7, 512), (64, 32, 32, 192)], ids=str)
@DTYPES
def test_reweighted_sum_at_real_shapes(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    branches = [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(3)]
    logits = torch.randn(shape[0], 3 * shape[3], dtype=torch.float64, generator=generator)
    within_budget(
        lambda *inputs: reweighted_sum(*inputs, "triton"), reweighted_sum_reference, [*branches, logits], dtype
    )


@pytest.mark.gpu
def test_gradients_are_the_same_every_time(real):
    inputs, call = real
    inputs = [x.to(DEVICE, torch.bfloat16).requires_grad_() for x in inputs]
    first, second = (torch.autograd.grad(call(*inputs, "triton").float().square().sum(), inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
def test_a_compiled_step(real):
    inputs, call = real
    inputs = [x.to(DEVICE, torch.bfloat16).requires_grad_() for x in inputs]
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True)
    y, expected = (run(*inputs, "triton") for run in (compiled, call))
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.02)
    cotangent = torch.randn_like(y)
    found, wanted = (torch.autograd.grad(value, inputs, cotangent) for value in (y, expected))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * float(b.abs().max()))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cyclemlp_b2", "vip_s7", "mixer_b16", "resmlp_s24", "gmlp_s16"])
def test_networks_at_real_shapes(name):
    fast = mlpzoo.create_model(name, impl="triton", device=DEVICE).eval()
    plain = mlpzoo.create_model(name, device=DEVICE).eval()
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(8, 3, 224, 224, device=DEVICE)
    with torch.no_grad():
        found, expected = fast.forward_features(x), plain.forward_features(x)
    assert float((found - expected).square().mean().sqrt()) < 1e-4 * float(expected.std())
