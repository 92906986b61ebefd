"""Networks under tools that watch, replace or transform what they compute: each sees what it expects."""

import copy

import pytest
import torch
from families import CASES, learning, sampled, size_for
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils import parametrizations, prune

import mlpzoo
from mlpzoo.deploy import fold
from mlpzoo.layers import AxisLinear, CycleFC, MlpBlock, TokenLinear
from mlpzoo.layers.spatial_gating import SpatialGatingMlp
from mlpzoo.ops import _torch

FAMILY = pytest.mark.parametrize("family", sampled())
LINEARS = (nn.Linear, TokenLinear, AxisLinear, CycleFC)
# What a release of PyTorch deprecates is not ours to change while it is there.
DEPRECATED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def create(family, **options):
    model = CASES[family].create(**options).eval()
    nn.init.normal_(model.head.weight)
    return model


def images(model, batch=2):
    size = getattr(model.config, "img_size", (64, 96))
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@FAMILY
def test_without_any_private_api(family, monkeypatch):
    """Forward, backward, folded, compiled, and at another size."""
    model = create(family)
    x = images(model).requires_grad_()
    expected = model(x)
    expected_grad = torch.autograd.grad(expected.square().mean(), [x, *learning(model).values()])
    folded = fold(model)(x.detach())
    monkeypatch.setattr(_torch, "_answers", dict.fromkeys(_torch.PROBES, False))
    found = model(x)
    assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().mean(), [x, *learning(model).values()]), expected_grad, strict=True
    ):
        assert_close(a, b)
    with torch.no_grad():
        assert_close(fold(model)(x), folded)
        torch.compiler.reset()
        assert_close(torch.compile(model, backend="eager")(x), expected)
        torch.compiler.reset()
        assert_close(torch.export.export(model, (x.detach(),)).module()(x), expected)
    if family in ("mixer", "resmlp", "gmlp", "vit"):
        other = create(family, dynamic_img_size=True)
        assert other(torch.randn(2, 3, 64, 96)).shape == expected.shape


def leaves(model):
    return {name: module for name, module in model.named_modules() if not list(module.children())}


@FAMILY
@pytest.mark.parametrize("gradients", [True, False])
def test_global_hooks_see_every_layer(family, gradients):
    model, seen = create(family), []
    x = images(model)
    expected = model(x)
    handles = [
        nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module)),
        nn.modules.module.register_module_forward_pre_hook(lambda *_: None),
    ]
    try:
        with torch.set_grad_enabled(gradients):
            assert_close(model(x), expected)
    finally:
        for handle in handles:
            handle.remove()
    unseen = [name for name, module in leaves(model).items() if list(module.parameters()) and module not in seen]
    assert not unseen


@FAMILY
@pytest.mark.parametrize("gradients", [True, False])
def test_every_linear_can_be_watched_or_replaced(family, gradients):
    """By hooks and by a `forward` of its own, one layer at a time, and each is called once."""
    model = create(family)
    x = images(model)
    for name, layer in model.named_modules():
        if not isinstance(layer, LINEARS):
            continue
        calls = []
        with torch.set_grad_enabled(gradients):
            handle = layer.register_forward_hook(lambda *arguments, calls=calls: calls.append(arguments[-1]))
            expected = model(x)
            handle.remove()
            assert len(calls) == 1, name
            original = layer.forward
            # Much more, for as networks are drawn, a gate between branches is hardly heard.
            layer.forward = lambda x, original=original: 1000 * original(x)
            assert not torch.equal(model(x), expected), name
            del layer.forward


@FAMILY
@DEPRECATED
@pytest.mark.parametrize(
    "change",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "old_weight_norm", "old_spectral_norm", "prune"],
)
def test_weights_computed_anew_at_every_call(family, change):
    """The network is that whose weights hold what the parametrization computes."""
    model = create(family)
    x = images(model)
    plain = copy.deepcopy(model)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LINEARS)}
    for layer in layers.values():
        change(layer)
    model.eval()
    model(x)
    with torch.no_grad():
        for name, layer in layers.items():
            plain.get_submodule(name).weight.copy_(layer.weight)
    assert_close(model(x), plain(x))
    assert_close(model(x), plain(x))


@FAMILY
@DEPRECATED
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions:UserWarning")
def test_dynamic_quantization_finds_every_linear(family):
    model = create(family)
    count = sum(isinstance(layer, nn.Linear) for layer in model.modules())
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    found = [layer for layer in quantized.modules() if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(found) == count > 0
    assert torch.isfinite(quantized(images(model))).all()


@FAMILY
@DEPRECATED  # PyTorch scripts its own formulas of forward mode.
def test_function_transforms(family):
    """`vmap`, gradients of each sample, and an ensemble of networks."""
    model = create(family)
    x = images(model, 3)
    assert_close(vmap(model)(x[:, None])[:, 0], model(x))
    state = learning(model), {name: value for name, value in model.state_dict().items() if name not in learning(model)}

    def loss(parameters, image):
        return functional_call(model, (parameters, state[1]), (image[None],)).square().mean()

    per_sample = vmap(grad(loss), (None, 0))(state[0], x)
    expected = torch.autograd.grad(model(x[1:2]).square().mean(), list(state[0].values()))
    for found, gradient in zip(per_sample.values(), expected, strict=True):
        assert_close(found[1], gradient)
    models = [model, create(family)]
    stacked = stack_module_state(models)
    answers = vmap(lambda p, b: functional_call(model, (p, b), (x,)))(*stacked)
    assert_close(answers, torch.stack([m(x) for m in models]))
    tangent = torch.func.jvp(model, (x,), (torch.ones_like(x),))[1]
    assert tangent.shape == (3, 7)


@FAMILY
@DEPRECATED
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("gradients", [True, False])
def test_traced(family, gradients):
    """PyTorch checks a trace against a second one, made without gradients."""
    model = create(family)
    x = images(model)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(model, x)
        assert_close(traced(x), model(x))


WIDE = {
    "cyclemlp": {"embed_dims": (64, 64, 64, 64), "depths": (1, 1, 1, 1)},
    "vip": {"embed_dims": (128, 128, 128, 128), "depths": (1, 1, 1, 1), "img_size": 224},
    "convmixer": {"embed_dim": 128, "depth": 1},
}


@FAMILY
@pytest.mark.parametrize("recorded_with_gradients", [True, False])
def test_graphs_of_fx_run_the_same_kernels(family, recorded_with_gradients):
    """Bit by bit, for enough work that fast paths are chosen; as timm's own tests ask."""
    wide = {"embed_dim": 256, "depth": 1, "img_size": 224}
    if family == "vit":
        wide["mlp_dim"] = 1024
    if family == "mixer":
        wide["channels_mlp_dim"] = 1024
    if family not in WIDE and create(family, device="meta").config.has_stages:
        depth = min(CASES[family].shallow.get("depths", (1,)))
        model = mlpzoo.create_model(CASES[family].model, depths=(depth,) * 4, num_classes=7).eval()
    else:
        model = create(family, **WIDE.get(family, wide))
    x = torch.randn(2, 3, *size_for(model, (224, 224)))
    with torch.set_grad_enabled(recorded_with_gradients):
        graph = torch.fx.symbolic_trace(model)
    with torch.no_grad():
        assert torch.equal(graph(x), model(x))
    assert torch.equal(graph(x), model(x))


@FAMILY
@pytest.mark.parametrize("how", ["data", "inference", "numpy"])
def test_folded_networks_never_answer_with_old_weights(family, how):
    model = create(family)
    x = images(model)
    folded = fold(model)
    with torch.inference_mode(how == "inference"):
        before = folded(x)
        for layer in folded.modules():
            if isinstance(layer, LINEARS):
                if how == "data":
                    layer.weight.data.mul_(2)
                elif how == "numpy":
                    layer.weight.numpy()[:] *= 2
                else:
                    layer.weight.mul_(2)
        after = folded(x)
        assert not torch.allclose(before, after)
        assert torch.equal(copy.deepcopy(folded)(x), after)


def test_a_dropout_at_work_is_not_left_out():
    x = torch.randn(2, 9, 8)
    for block in (MlpBlock(8, drop=0.5), SpatialGatingMlp(8, 16, 9, drop=0.5)):
        assert not torch.equal(block(x), block(x))
        assert torch.equal(block.eval()(x), block(x))
