"""Folded networks: equal in everything a user can see, sharing nothing, and usable wherever the plain ones are."""

import copy
import pickle
import warnings
from typing import ClassVar

import families
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
from mlpzoo.layers import Affine, ConvMixerBlock, ResMLPBlock, StdConv
from mlpzoo.layers.folding import ChannelScale, may_merge, scale_and_shift, with_map_before

DROPS = {"drop_rate": 0.5, "proj_drop_rate": 0.5, "drop_path_rate": 0.5}
OPTIONS = [
    *((family, {}) for family in tiny.NAMES),
    *(
        pytest.param(family, options, marks=families.marks_of(family))
        for family in families.names()
        for options in ({"num_classes": 0, "in_chans": 5}, {"global_pool": "", **DROPS}, {"act_layer": "relu"})
    ),
    *((family, options) for family in families.names() for options in families.CASES[family].settings),
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
    size = families.size_for(model, (69, 101))
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


@pytest.fixture(params=tiny.NAMES)
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
    gone = nn.Dropout | DropPath
    kinds = {type(module) for module in folded.modules()}
    assert not [kind for kind in kinds if issubclass(kind, gone)]
    if family in GONE:
        absent, present = GONE[family]
        assert not kinds & absent
        assert {kind: sum(type(module) is kind for module in folded.modules()) for kind in present} == present


GONE = {
    "resmlp": ({ResMLPBlock}, {Affine: 1}),
    "convmixer": ({ConvMixerBlock, nn.BatchNorm2d}, {ChannelScale: 5}),
    "vit": ({StdConv}, {}),
}
"""Family to classes that must not be left in its small network, and how many must be of others."""


def test_a_folded_model_shares_nothing(model):
    x = image_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(x).detach()
    learning = set(families.learning(model))
    folded = fold(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(families.learning(model)) == learning
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


class LinearNorm(nn.Module):
    """A layer that names the norm after its linear map, as a family's own would."""

    norm_after: ClassVar = {"fc": "norm"}

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5, bias=False)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.fc(x))


class Doubled(LinearNorm):
    def forward(self, x):
        return self.norm(2 * self.fc(x))


class Gate(nn.Module):
    """A layer that says what it becomes, and takes a layer of its own kind apart."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.proj = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.proj(self.norm(x))

    def folded(self):
        if not may_merge(self.norm, self.proj):
            return self
        return with_map_before(self.proj, *scale_and_shift(self.norm))


def seasoned(module, *shape):
    """In float64, with statistics of no particular kind; and an input."""
    module.double()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                if value is not None:
                    nn.init.uniform_(value, 0.5, 2)
    return module.eval(), torch.randn(*shape, dtype=torch.float64)


def batch_norms(module):
    return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())


def test_batch_norms_go_into_the_layers_before():
    grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
    plain, x = seasoned(nn.Sequential(grouped, nn.BatchNorm2d(6, affine=False), nn.GELU(), Gate()), 2, 6, 5, 7)
    folded = fold(plain)
    assert batch_norms(folded) == 0
    assert len(folded) == len(plain)
    assert_equal(folded(x), plain(x))
    plain, x = seasoned(LinearNorm(), 3, 6)
    assert batch_norms(fold(plain)) == 0
    assert_equal(fold(plain)(x), plain(x))


def test_batch_norms_stay_where_they_are_not_fixed_or_not_alone():
    conv = nn.Conv2d(6, 6, 1)
    kept = {
        "no statistics": nn.Sequential(conv, nn.BatchNorm2d(6, track_running_stats=False)),
        "a step between, which stands elsewhere too": nn.Sequential(act := nn.GELU(), conv, act, nn.BatchNorm2d(6)),
        "tokens are not channels": nn.Sequential(nn.Flatten(2), nn.Linear(35, 6), nn.BatchNorm1d(6)),
        "a subclass computes something else": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Doubled()),
    }
    for reason, module in kept.items():
        plain, x = seasoned(module, 2, 6, 5, 7)
        assert batch_norms(fold(plain)) == 1, reason
        assert_equal(fold(plain)(x), plain(x))


@pytest.mark.parametrize("watched", [0, 1, 3])
def test_hooks_are_still_called(watched):
    """On a convolution, on the norm after it, and on a layer that folds itself."""
    plain, x = seasoned(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.GELU(), Gate()), 2, 6, 5, 7)
    seen = []
    plain[watched].register_forward_hook(lambda module, args, y: seen.append(y))
    expected = plain(x)
    assert_equal(fold(plain)(x), expected)
    assert len(seen) == 2
    assert_equal(seen[1], seen[0])


@pytest.mark.parametrize(
    ("family", "part"),
    [("resmlp", "mlp_channels.act"), ("gmlp", "mlp_channels.gate"), ("convmixer", "depthwise.act")],
)
def test_hooks_inside_blocks_are_still_called(family, part):
    plain = create(family)
    seen = []
    plain.blocks[1].get_submodule(part).register_forward_hook(lambda module, args, y: seen.append(y))
    x = image_of(plain)
    expected = plain(x)
    assert_equal(fold(plain)(x), expected)
    assert len(seen) == 2
    assert_equal(seen[1], seen[0])


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


@pytest.mark.parametrize("family", families.names())
def test_another_input_size(family):
    plain = create(family)
    folded = fold(plain)
    size = families.CASES[family].another_size
    for network in (plain, folded):
        network.set_input_size(size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    assert_equal(folded(x), plain(x))
    assert_equal(fold(plain)(x), plain(x))


@pytest.mark.parametrize("family", tiny.NAMES)
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


@pytest.mark.parametrize("family", tiny.NAMES)
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


def shallow(family, **options):
    """One block of each kind: compilers take their time."""
    return fold(create(family, dtype=torch.float32, **{**tiny.case(family).shallow, **options}))


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * tiny.case(name).slow_to_compile) for name in tiny.NAMES]
)
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
    if model.config.image_size is None:
        folded = fold(model)
        for size in ((33, 101), (64, 47)):
            x = torch.randn(1, 3, *families.size_for(model, size), dtype=torch.float64)
            assert_equal(folded(x), model(x))
