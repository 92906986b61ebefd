"""Folded networks: equal in everything a user can see, sharing nothing, and usable wherever the plain ones are."""

import copy
import pickle
import warnings

import pytest
import timm
import torch
from error_budget import distance
from models import tiny
from timm.layers import DropPath
from timm.models._features import FeatureGetterNet
from torch import nn

import mlpzoo
from mlpzoo.deploy import fold
from mlpzoo.deploy.folded import ChannelScale
from mlpzoo.deploy.packed import PackedLinear
from mlpzoo.layers import Affine, ConvMixerBlock, ResMLPBlock, StdConv
from mlpzoo.models import FAMILIES, MapBackbone

FAMILY_NAMES = [*FAMILIES, "test_pyramid"]
DROPS = {"drop_rate": 0.5, "proj_drop_rate": 0.5, "drop_path_rate": 0.5}
OPTIONS = [
    *((family, options) for family in FAMILY_NAMES for options in ({}, {"num_classes": 0, "in_chans": 5})),
    *((family, {"global_pool": "", **DROPS}) for family in FAMILY_NAMES),
    *((family, {"act_layer": "relu"}) for family in FAMILIES),
    ("mixer", {"act_layer": "silu", "impl": "reference"}),
    ("resmlp", {"img_size": (16, 80), "embed_dim": 23, "mlp_ratio": 1.3, "impl": "reference"}),
    ("cyclemlp", {"sampling": "random", "feature_norms": True, "embed_dims": (9, 13, 17, 23)}),
    ("cyclemlp", {"sampling": "dense"}),
    ("gmlp", {"attn_dim": 0}),
    ("vit", {"representation_size": 5, "attn_drop_rate": 0.5, "pos_drop_rate": 0.5}),
    ("vit", {"resnet_depths": (1, 1), "resnet_width": 32, "img_size": (64, 96)}),
    ("vit", {"class_token": False, "global_pool": "avg", "patch_size": (12, 16)}),
]


def create(family, *, dtype=torch.float64, **options):
    """A network in which no parameter and no statistic has a value that would hide it."""
    model = tiny.create(family, dtype=dtype, **options).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 9
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((noise * fan_in**-0.5).to(dtype))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64).to(dtype))
    return model


def image_of(model, batch=3):
    size = getattr(model.config, "img_size", (69, 101))
    size = (size, size) if isinstance(size, int) else size
    dtype = next(model.parameters()).dtype
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, model.in_chans, *size, generator=generator, dtype=torch.float64).to(dtype)


def assert_equal(found, expected, limit=1e-10):
    size = float(expected.detach().std())
    assert size > 1e-3
    assert found.shape == expected.shape
    assert float((found - expected).detach().abs().max()) <= limit * size


@pytest.fixture
def _fresh_compiler():
    # Every network here goes through the same `forward`, and compiled forms of one function are few.
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=FAMILY_NAMES)
def model(request):
    return create(request.param)


@pytest.mark.parametrize(("family", "options"), OPTIONS, ids=str)
def test_all_outputs_are_equal(family, options):
    plain = create(family, **options)
    x = image_of(plain)
    folded = fold(plain)
    assert_equal(folded(x), plain(x))
    features = plain.forward_features(x)
    assert_equal(folded.forward_features(x), features)
    assert_equal(folded.forward_head(features, pre_logits=True), plain.forward_head(features, pre_logits=True))
    for norm in (False, True):
        expected = plain.forward_intermediates(x, norm=norm, intermediates_only=True)
        found = folded.forward_intermediates(x, norm=norm, intermediates_only=True)
        for y, wanted in zip(found, expected, strict=True):
            assert_equal(y, wanted)
    twice = fold(folded)
    assert torch.equal(twice(x), folded(x))
    assert list(twice.state_dict()) == list(folded.state_dict())
    folded.train()
    assert_equal(folded(x), plain(x))


@pytest.mark.parametrize(("family", "options"), OPTIONS, ids=str)
def test_what_can_be_folded_is_gone(family, options):
    folded = fold(create(family, **options))
    gone = ResMLPBlock | ConvMixerBlock | StdConv | nn.BatchNorm2d | nn.Dropout | DropPath
    assert not [name for name, module in folded.named_modules() if isinstance(module, gone)]
    assert all(isinstance(module, PackedLinear) for module in folded.modules() if isinstance(module, nn.Linear))
    assert sum(isinstance(module, Affine) for module in folded.modules()) == (family == "resmlp")
    scales = sum(isinstance(module, ChannelScale) for module in folded.modules())
    assert scales == (len(folded.blocks) + 1 if family == "convmixer" else 0)


def test_a_folded_model_shares_nothing(model):
    x = image_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(x).detach()
    folded = fold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not any(module.training for module in folded.modules())
    assert folded is not model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    assert_equal(folded(x), expected)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.fill_(7.0)
    assert all(parameter.isnan().all() for parameter in model.parameters())


def test_half_folded_models_are_still_right():
    for part in ("blocks.1.mlp_channels.fc1", "blocks.1.norm1"):
        model = create("resmlp")
        plain = model.get_submodule(part)

        class Adapted(type(plain)):
            def forward(self, x):
                return 2 * super().forward(x)

        plain.__class__ = Adapted
        folded = fold(model)
        assert isinstance(folded.blocks[1], ResMLPBlock), "what an adapter changed is not what the parameters say"
        assert not isinstance(folded.blocks[0], ResMLPBlock)
        x = image_of(model)
        assert_equal(folded(x), model(x))
    shared = create("resmlp")
    shared.blocks[1].mlp_channels = shared.blocks[0].mlp_channels
    shared.blocks[3] = shared.blocks[2]
    assert_equal(fold(shared)(x), shared(x))


def test_training_mode_is_refused(model):
    model.train()
    with pytest.raises(ValueError, match=r"training mode .*call model\.eval\(\)"):
        fold(model)
    model.eval()
    model.head.train()
    with pytest.raises(ValueError, match=r"training mode \(head\)"):
        fold(model)
    assert model.head.training


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="fold takes a model, got str"):
        fold("resmlp_s24")
    with pytest.raises(TypeError, match="fold first, compile after"):
        fold(torch.compile(create("resmlp"), backend="eager"))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_another_input_size(family):
    plain = create(family)
    folded = fold(plain)
    size = (112, 56) if family == "vip" else (80, 48)
    for network in (plain, folded):
        network.set_input_size(size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    assert_equal(folded(x), plain(x))
    assert_equal(fold(plain)(x), plain(x))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_features_only(family):
    wrapped = FeatureGetterNet(create(family), out_indices=[0, 1]).eval()
    x = image_of(wrapped.model)
    for found, expected in zip(fold(wrapped)(x), wrapped(x), strict=True):
        assert_equal(found, expected)


def test_a_model_of_timms_is_folded_where_we_know_its_layers():
    plain = timm.create_model("test_vit", num_classes=3).eval().double()
    x = torch.randn(2, 3, 160, 160, dtype=torch.float64)
    assert_equal(fold(plain)(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_that_of_the_plain_model(model, dtype):
    x = image_of(model, 8)
    exact = model(x)
    plain = copy.deepcopy(model).to(dtype)
    folded = fold(plain)
    # The plain model in this type is the truth that its folding must meet, its weights being rounded already.
    exact = copy.deepcopy(plain).double()(x.to(dtype).double()).detach()
    with torch.inference_mode():
        allowed = 2 * distance(plain(x.to(dtype)).double(), exact)
        # Each rounds the weights it has: a folded one rounds products of weights once more.
        allowed += torch.finfo(dtype).eps * float(exact.std())
        assert distance(folded(x.to(dtype)).double(), exact) <= allowed


def test_types_and_autocast(model):
    x = image_of(model).float()
    expected = model(x.double()).detach()
    folded = fold(model).float()
    assert_equal(folded(x), expected.float(), 1e-3)
    assert folded.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    folded = fold(model).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert_equal(folded(x).float(), expected.float(), 0.3)


def test_gradients_reach_the_image(model):
    x = image_of(model).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(fold(model)(x).square().sum(), x)
    assert_equal(found, expected)
    y = x.detach().float().requires_grad_()
    (found,) = torch.autograd.grad(fold(model.float())(y).square().sum(), y)
    assert_equal(found, expected.float(), 1e-2)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_copies_and_saved_weights(family):
    plain = create(family, dtype=torch.float32)
    x = image_of(plain)
    folded = fold(plain)
    expected = folded(x)
    assert torch.equal(copy.deepcopy(folded)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(folded))(x), expected)
    other = fold(tiny.create(family).eval())
    assert not torch.equal(other(x), expected)
    other.load_state_dict(folded.state_dict())
    assert torch.equal(other(x), expected)


SHALLOW = {
    "cyclemlp": {"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 2)},
    "vip": {"embed_dims": (16, 32), "depths": (1, 1), "mlp_ratios": (1, 2), "strides": (1, 2)},
    "test_pyramid": {"embed_dims": (8, 12), "depths": (1, 1), "mlp_ratios": (1, 1)},
}


def slow_for(*slow):
    """Every family, those that compilers take long for marked."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in FAMILY_NAMES]


def shallow(family, **options):
    """One block of each kind: compilers take their time."""
    return fold(create(family, dtype=torch.float32, **SHALLOW.get(family, {"depth": 1}), **options))


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("family", slow_for("cyclemlp", "vip"))
def test_compile_and_export(family):
    folded = shallow(family)
    x = image_of(folded)
    with torch.no_grad():
        expected = folded(x)
        compiled = torch.compile(folded, fullgraph=True, dynamic=True, backend="aot_eager")
        assert_equal(compiled(x), expected, 1e-4)
        assert_equal(compiled(x[:2]), expected[:2], 1e-4)
        program = torch.export.export(folded, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
        assert_equal(program.module()(x[:2]), expected[:2], 1e-4)


HYBRID = {"resnet_depths": (1, 1), "resnet_width": 32, "img_size": (64, 96)}


@pytest.mark.parametrize(
    ("family", "options"), [("resmlp", {}), ("gmlp", {}), ("convmixer", {}), ("vit", HYBRID)], ids=str
)
def test_traced(family, options):
    folded = shallow(family, **options)
    x = image_of(folded)
    with torch.no_grad(), warnings.catch_warnings():
        expected = folded(x)
        assert_equal(torch.fx.symbolic_trace(folded)(x), expected, 1e-4)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        assert_equal(torch.jit.trace(folded, x)(x), expected, 1e-4)


def test_meta_models_are_folded_without_memory():
    folded = fold(mlpzoo.create_model("resmlp_s24", device="meta").eval())
    assert folded(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_maps_take_any_size(model):
    if isinstance(model, MapBackbone) and not hasattr(model.config, "img_size"):
        folded = fold(model)
        for size in ((33, 101), (64, 47)):
            x = torch.randn(1, 3, *size, dtype=torch.float64)
            assert_equal(folded(x), model(x))
