"""What timm, detection codebases and compilers ask of a model, for every family and for a pyramid made for this."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from families import learning, size_for
from models import tiny
from timm.models import group_parameters
from timm.models._features import FeatureGetterNet
from torch import nn

from mlpzoo.models import IsotropicBackbone

pytestmark = pytest.mark.parametrize("family", tiny.NAMES)


@pytest.fixture
def model(family):
    return awake(tiny.create(family))


def awake(model: nn.Module) -> nn.Module:
    """Give a head of zeros a value, and BatchNorms statistics, or comparisons would be of numbers near zero."""
    backbone = getattr(model, "model", model)
    if isinstance(backbone.head, nn.Linear):
        nn.init.normal_(backbone.head.weight, generator=torch.Generator().manual_seed(1))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(image_of(model))
    return model.eval()


def image_of(model: nn.Module, batch: int = 2) -> torch.Tensor:
    backbone = getattr(model, "model", model)
    return torch.randn(batch, backbone.in_chans, *size_for(backbone), generator=torch.Generator().manual_seed(2))


def assert_same(found, expected):
    assert float(expected.detach().abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_forward_is_head_after_features(model):
    x = image_of(model)
    features = model.forward_features(x)
    assert features.shape[-1] == model.num_features
    hidden = model.forward_head(features, pre_logits=True)
    assert hidden.shape == (2, model.head_hidden_size)
    assert_same(model(x), model.head(hidden))
    assert model(x).shape == (2, 7)


def test_every_block_input_is_contiguous(model):
    seen = []
    blocks = [b for stage in getattr(model, "stages", [model]) for b in stage.blocks]
    for block in blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous()))
    model(image_of(model))
    model(image_of(model).contiguous(memory_format=torch.channels_last))
    assert len(seen) == 2 * len(blocks)
    assert all(seen)


def test_intermediates(model):
    x = image_of(model)
    count = len(model.feature_info)
    final, maps = model.forward_intermediates(x)
    assert_same(final, model.forward_features(x))
    assert len(maps) == count
    for info, y in zip(model.feature_info, maps, strict=True):
        assert y.shape[:2] == (2, info["num_chs"])
        assert y.is_contiguous()
        assert max(abs(s / info["reduction"] - side) for s, side in zip(x.shape[2:], y.shape[2:], strict=True)) <= 1
        assert isinstance(model.get_submodule(info["module"]), nn.Module)
    assert_same(model.forward_intermediates(x, indices=[-1, 0], intermediates_only=True)[0], maps[-1])
    assert_same(model.forward_intermediates(x, indices=[-1, 0], intermediates_only=True)[1], maps[0])
    assert len(model.forward_intermediates(x, indices=2, intermediates_only=True)) == 2
    early = model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)
    assert_same(early[0], maps[0])


def test_the_config_knows_the_features(model):
    reductions = [info["reduction"] for info in model.feature_info]
    assert list(model.config.feature_strides) == reductions
    assert model.get_parameter(f"{model.config.first_conv}.weight").shape[:2] == (model.config.stem_width, 3)


def test_intermediates_without_reshaping(model):
    x = image_of(model)
    flat = "NLC" if isinstance(model, IsotropicBackbone) else "NHWC"
    maps = model.forward_intermediates(x, intermediates_only=True)
    last = model.forward_intermediates(x, output_fmt=flat, intermediates_only=True)[-1]
    assert_same(last.reshape(2, -1, last.shape[-1]), maps[-1].flatten(2).transpose(1, 2))
    normed = model.forward_intermediates(x, output_fmt=flat, norm=True, intermediates_only=True)[-1]
    # A norm that follows the pool normalizes vectors, no map.
    assert_same(normed, last if model.norm_after_pool else model.norm(last))


def test_intermediates_refuse_what_is_not_there(model):
    x, count = image_of(model), len(model.feature_info)
    with pytest.raises(ValueError, match=rf"\[{count}\] are out of range: this model has features 0 to {count - 1}"):
        model.forward_intermediates(x, indices=[count])
    with pytest.raises(ValueError, match="asked for the last 99 features"):
        model.forward_intermediates(x, indices=99)
    with pytest.raises(ValueError, match="unknown output_fmt 'NCWH'"):
        model.forward_intermediates(x, output_fmt="NCWH")


def test_features_only_wrapper(family, model):
    x = image_of(model)
    wrapped = FeatureGetterNet(copy.deepcopy(model), out_indices=[0, 1])
    expected = model.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
    for found, y in zip(wrapped(x), expected, strict=True):
        assert_same(found, y)
    kept = sum(parameter.numel() for parameter in wrapped.parameters())
    assert kept < sum(parameter.numel() for parameter in model.parameters()), "what is not needed should be gone"


def test_pruning(model):
    x = image_of(model)
    expected = model.forward_intermediates(x, indices=[1], intermediates_only=True)[0]
    assert model.prune_intermediate_layers([1], prune_norm=True) == [1]
    assert isinstance(model.norm, nn.Identity)
    assert isinstance(model.head, nn.Identity)
    assert_same(model.forward_intermediates(x, indices=[1], intermediates_only=True)[0], expected)


def test_classifier(model):
    x = image_of(model)
    assert model.get_classifier() is model.head
    hidden = model.forward_head(model.forward_features(x), pre_logits=True)
    model.double()
    model.reset_classifier(3)
    assert model.head.weight.dtype == torch.float64
    assert model.head.training == model.training
    model.float()
    assert model(x).shape == (2, 3)
    model.reset_classifier(0)
    assert_same(model(x), hidden)
    model.reset_classifier(0, "")
    features = model.forward_features(x)
    assert_same(model(x), model.pre_logits(model.norm(features) if model.norm_after_pool else features))
    with pytest.raises(ValueError, match="unknown global_pool 'median'.*'avg'"):
        model.reset_classifier(2, "median")


def test_construction_options(family):
    x = image_of(tiny.create(family))
    bare = tiny.create(family, num_classes=0)
    assert bare(x).shape == (2, bare.head_hidden_size)
    assert tiny.create(family, num_classes=0, global_pool="")(x).ndim in (3, 4)
    assert tiny.create(family, in_chans=5)(torch.randn(1, 5, *x.shape[2:])).shape == (1, 7)
    relu = tiny.create(family, act_layer="relu")
    assert family == "test_pyramid" or any(isinstance(module, nn.ReLU) for module in relu.modules())
    dropping = tiny.create(family, drop_path_rate=0.5, proj_drop_rate=0.1, drop_rate=0.2).train()
    nn.init.normal_(dropping.head.weight)
    assert not torch.equal(dropping(x), dropping(x))
    assert torch.equal(dropping.eval()(x), dropping(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_classes": -1}, ValueError, "num_classes must be 0 or more, got -1"),
        ({"in_chans": 0}, ValueError, "in_chans must be 1 or more"),
        ({"drop_path_rate": 1.0}, ValueError, r"drop_path_rate must be in \[0, 1\)"),
        ({"global_pool": "median"}, ValueError, "unknown global_pool"),
    ],
    ids=str,
)
def test_unusable_values(family, options, error, message):
    with pytest.raises(error, match=message):
        tiny.create(family, **options)


def test_every_parameter_learns(family):
    model = awake(tiny.create(family)).train()
    model(image_of(model)).square().mean().backward()
    for name, parameter in learning(model).items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_batch_is_learned_by_heart(family):
    torch.manual_seed(0)
    model = tiny.create(family).train()
    x, labels = image_of(model, 7), torch.arange(7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_checkpointing_changes_nothing_but_memory(model):
    x = image_of(model)
    expected = torch.autograd.grad(model(x).sum(), list(learning(model).values()))
    final = model.forward_features(x)
    model.set_grad_checkpointing()
    found = torch.autograd.grad(model(x).sum(), list(learning(model).values()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert_same(model.forward_intermediates(x)[0], final)


@pytest.mark.parametrize("coarse", [False, True])
def test_parameters_are_grouped_by_depth(model, coarse):
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    assert groups[f"{model.config.first_conv}.weight"] == 0
    assert groups["head.weight"] == max(groups.values())
    assert len(set(groups.values())) >= 4
    assert model.no_weight_decay() <= set(dict(model.named_parameters()))


def test_device_and_dtype(family):
    half = tiny.create(family, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in half.parameters()} == {("meta", torch.bfloat16)}
    real = tiny.create(family, dtype=torch.bfloat16)
    assert real(image_of(real).bfloat16()).dtype == torch.bfloat16


def test_meta_model_can_be_given_memory(family):
    expected = tiny.create(family)
    torch.manual_seed(0)
    expected.reset_parameters()
    model = tiny.create(family, device="meta").to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, float("nan"))
    torch.manual_seed(0)
    model.reset_parameters()
    for (name, found), wanted in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(found, wanted), name
    assert not list(model.buffers()) or all(name in model.state_dict() for name, _ in model.named_buffers())


def test_copies(model):
    x = image_of(model)
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = tiny.create(model.family).eval()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(fresh(x), expected)


def test_traced(model):
    x = image_of(model)
    with warnings.catch_warnings():
        # PyTorch deprecated TorchScript; its tracer is still what some exporters call.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(model, x, check_trace=False)
    with torch.no_grad():
        assert_same(traced(x), model(x))


def test_fx(model):
    x = image_of(model)
    assert_same(torch.fx.symbolic_trace(model)(x), model(x))


def test_export_with_any_batch(model):
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (image_of(model, 2),), dynamic_shapes={"x": {0: batch}})
    x = image_of(model, 5)
    assert_same(program.module()(x), model(x))


def test_another_input_size(family, model):
    x = image_of(model)
    expected = model(x)
    model.set_input_size(tuple(x.shape[2:]))
    assert torch.equal(model(x), expected), "the same size must change nothing"
    size = tiny.case(family).another_size
    y = torch.randn(1, 3, *size)
    if model.config.image_size is None:
        model.set_input_size(size)
        assert model(y).shape == (1, 7)
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="bound to"):
        model(y)
    if model.size_multiple != (1, 1):
        with pytest.raises(ValueError, match=r"1×1"):
            model.set_input_size(1)
    assert torch.equal(model(x), expected), "a refused size must change nothing"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    following = tiny.create(family, dynamic_img_size=True).eval()
    following.load_state_dict(before)
    model.set_input_size(size)
    assert model.config.image_size == size
    with torch.no_grad():
        assert_same(following(y), model(y))
        maps = model.forward_intermediates(y, intermediates_only=True)
    for stride, found in zip(model.config.feature_strides, maps, strict=True):
        assert max(abs(side / stride - length) for side, length in zip(size, found.shape[2:], strict=True)) <= 1


def test_a_new_head_is_in_the_config(family, model):
    """The config is what gets saved."""
    model.reset_classifier(3, "avg")
    assert (model.config.num_classes, model.config.global_pool) == (3, "avg")
    again = type(model)(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(image_of(model)), model.eval()(image_of(model)))
    with pytest.raises(ValueError, match="unknown global_pool 'most'"):
        model.reset_classifier(5, "most")
    assert (model.num_classes, model.config.num_classes) == (3, 3)


def test_no_features_are_asked_for(model):
    for ask in (
        lambda: model.forward_intermediates(image_of(model), indices=[], stop_early=True),
        lambda: model.forward_intermediates(image_of(model), indices=[]),
        lambda: model.prune_intermediate_layers([]),
    ):
        with pytest.raises(ValueError, match="asked for no features: choose among 0 to"):
            ask()
