"""Files as training code leaves them, into models as people change and wrap them."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.deploy import fold

SMALL = {"embed_dim": 8, "depth": 2, "tokens_mlp_dim": 6, "channels_mlp_dim": 12, "img_size": 64, "num_classes": 5}


def create(seed=0, **options):
    torch.manual_seed(seed)
    return randomized(mlpzoo.create_model("mixer_s16", **{**SMALL, **options}).eval())


def randomized(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def trained():
    return create(1)


@pytest.fixture
def file(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    return tmp_path / "trained.pth"


def assert_loaded(model, state, *but):
    for name, value in model.state_dict().items():
        if not name.startswith(but):
            assert torch.equal(value, state[name]), name


def saved(model, path):
    torch.save(model.state_dict(), path)
    return path


HEADS = {
    "another width": lambda: nn.Linear(8, 7),
    "no bias": lambda: nn.Linear(8, 5, bias=False),
    "a hidden layer": lambda: nn.Sequential(nn.Linear(8, 4), nn.GELU(), nn.Linear(4, 7)),
    "a norm": lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5)),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_made_by_hand(trained, file, tmp_path, head):
    model, other = create(), create(2)
    model.head, other.head = HEADS[head](), HEADS[head]()
    randomized(other)
    report = mlpzoo.load_checkpoint(model, saved(other, tmp_path / "other.pth"))
    assert report.fresh == report.left_out == ()
    assert_loaded(model, other.state_dict())

    before = copy.deepcopy(model.head.state_dict())
    report = mlpzoo.load_checkpoint(model, file)
    assert_loaded(model, trained.state_dict(), "head.")
    if head == "no bias":
        # Some of it fits, and is reported as what it is: a head of another make.
        assert report.fresh == ("head.weight",)
    else:
        assert report.fresh == tuple(sorted(f"head.{name}" for name in before))
    assert_loaded(model.head, before)


@pytest.mark.parametrize("img_size", [64, 96])
def test_a_stem_made_by_hand(trained, file, tmp_path, img_size):
    model, other = create(img_size=img_size), create(2)
    model.stem.proj, other.stem.proj = nn.Conv2d(4, 8, 16, 16), nn.Conv2d(4, 8, 16, 16)
    report = mlpzoo.load_checkpoint(model, saved(other, tmp_path / "other.pth"))
    assert len(report.adapted) == (img_size == 96)
    assert torch.equal(model.stem.proj.weight, other.stem.proj.weight)
    report = mlpzoo.load_checkpoint(model, file)
    assert "stem.proj.weight adapted from 3 to 4 image channels" in report.adapted
    expected = timm.models.adapt_input_conv(4, trained.stem.proj.weight)
    assert torch.equal(model.stem.proj.weight, expected)
    assert model(torch.randn(1, 4, img_size, img_size)).shape == (1, 5)


def test_a_stem_of_another_make(file, tmp_path):
    model, other = create(), create(2)
    for network in (model, other):
        network.stem.proj = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.BatchNorm2d(8))
    mlpzoo.load_checkpoint(model, saved(other, tmp_path / "other.pth"))
    assert_loaded(model, other.state_dict())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=r"no value for 7 parameters \(stem.proj.0.bias"):
        mlpzoo.load_checkpoint(model, file)
    assert_loaded(model, before)


def test_what_the_model_has_no_more_is_named(trained, file, caplog):
    model = create()
    model.norm = nn.Identity()
    report = mlpzoo.load_checkpoint(model, file)
    assert report.left_out == ("norm.bias", "norm.weight")
    assert "left out, for lack of a match in the model: norm.bias, norm.weight" in caplog.text
    assert_loaded(model, trained.state_dict())


@pytest.mark.parametrize("img_size", [64, 96])
@pytest.mark.parametrize("indices", [[0], [0, 1]])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_features_into_features(tmp_path, img_size, indices, form):
    def features(img_size=64):
        options = {**SMALL, "features_only": True, "out_indices": indices, "img_size": img_size}
        return mlpzoo.create_model("mixer_s16", **options).eval()

    one, other = randomized(features()), features(img_size)
    path = tmp_path / f"features.{form}"
    torch.save(one.state_dict(), path) if form == "pth" else save_file(one.state_dict(), path)
    report = mlpzoo.load_checkpoint(other, path)
    assert report.fresh == report.left_out == report.notes == ()
    if img_size == 64:
        assert_loaded(other, one.state_dict())
    else:
        one.model.set_input_size(96)
        x = torch.randn(1, 3, 96, 96)
        for a, b in zip(one(x), other(x), strict=True):
            torch.testing.assert_close(a, b)


def prefixed(*prefixes):
    return lambda state: {f"{''.join(prefixes)}{name}": value for name, value in state.items()}


MOMENTS = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
NESTED = {
    "compiled in DDP": prefixed("module.", "_orig_mod."),
    "DDP compiled": prefixed("_orig_mod.", "module."),
    "three": prefixed("_orig_mod.", "module.", "model.", "_orig_mod."),
    "fsdp": prefixed("_forward_module.", "module."),
    "Lightning": lambda s: {"epoch": 1, "state_dict": prefixed("model.")(s), "optimizer_states": [MOMENTS]},
    "Lightning compiled": lambda s: {"state_dict": prefixed("model._orig_mod.")(s), "loops": {"a": {"b": 1}}},
    "accelerate": lambda s: {"model_state_dict": s, "optimizer_state_dict": MOMENTS, "loss": 0.5},
    "state_dict in model": lambda s: {"model": {"state_dict": s}},
    "model in state_dict": lambda s: {"state_dict": {"model": prefixed("module.")(s)}, "optimizer": MOMENTS},
    "deep": lambda s: {"checkpoint": {"model": {"model_state_dict": {"module": s}}}},
    "a name of their own": lambda s: {"my_net": s, "epoch": 3},
    "deepspeed": lambda s: {"module": s, "ds_version": "0.1", "global_steps": 4},
    "swa": lambda s: {"model": {"n_averaged": torch.tensor(3), **prefixed("module.")(s)}},
    "a detector's": lambda s: {"state_dict": prefixed("backbone.network.")(s)},
}


@pytest.mark.parametrize("nesting", NESTED)
def test_nested_in_any_order(trained, tmp_path, nesting):
    torch.save(NESTED[nesting](trained.state_dict()), tmp_path / "file")
    model = create()
    report = mlpzoo.load_checkpoint(model, tmp_path / "file")
    assert_loaded(model, trained.state_dict())
    assert report.fresh == ()
    assert report.notes == (("read what begins with 'module.', and left aside n_averaged",) if nesting == "swa" else ())


def test_what_stands_beside_the_network_is_named(trained, tmp_path):
    state = {**prefixed("model.")(trained.state_dict()), "criterion.weight": torch.ones(5)}
    torch.save({"state_dict": state}, tmp_path / "file")
    report = mlpzoo.load_checkpoint(create(), tmp_path / "file")
    assert report.notes == ("read what begins with 'model.', and left aside criterion.weight",)


BOTH = {
    ("state_dict", "state_dict_ema"): lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    ("model", "model_ema"): lambda raw, ema: {"model": raw, "model_ema": ema, "optimizer": MOMENTS},
    ("params", "params_ema"): lambda raw, ema: {"params": raw, "params_ema": ema},
    ("model", "ema"): lambda raw, ema: {"model": raw, "ema": {"decay": 0.9, "module": ema}},
    ("model.", "ema_model."): lambda raw, ema: {
        "state_dict": {**prefixed("model.")(raw), **prefixed("ema_model.", "module.")(ema)}
    },
}


@pytest.mark.parametrize("keys", BOTH)
def test_weights_and_their_moving_average(trained, tmp_path, keys, caplog):
    average = create(2)
    torch.save(BOTH[keys](trained.state_dict(), average.state_dict()), tmp_path / "file")
    for options, taken, other in (
        ({}, average, 0),
        ({"prefer_ema": True}, average, 0),
        ({"prefer_ema": False}, trained, 1),
    ):
        model = create()
        report = mlpzoo.load_checkpoint(model, tmp_path / "file", **options)
        assert_loaded(model, taken.state_dict())
        taken_key, left = keys[1 - other], keys[other]
        assert report.notes[0] == (
            f"it holds weights ('{keys[0]}') and their moving average ('{keys[1]}'); '{taken_key}' was taken, and "
            f"prefer_ema={bool(other)} takes '{left}'"
        )
        assert report.notes[0] in caplog.text


def test_a_moving_average_alone(trained, tmp_path):
    torch.save({"state_dict_ema": trained.state_dict(), "ema": {"decay": 0.9}}, tmp_path / "file")
    for prefer_ema in (True, False):
        model = create()
        assert mlpzoo.load_checkpoint(model, tmp_path / "file", prefer_ema=prefer_ema).notes == ()
        assert_loaded(model, trained.state_dict())


WRAPPERS = {
    "compiled": torch.compile,
    "DataParallel": nn.DataParallel,
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model)),
    "ModelEmaV2": ModelEmaV2,
    "ModelEmaV3": ModelEmaV3,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_into_wrapped_models(trained, file, wrapper):
    wrapped = WRAPPERS[wrapper](create())
    mlpzoo.load_checkpoint(wrapped, file)
    inside = next(module for module in wrapped.modules() if type(module) is type(trained))
    assert_loaded(inside, trained.state_dict())


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_into_folded_models(file, wrap):
    model = wrap(fold(create()))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TypeError, match="is folded, .*: load first, fold after"):
        mlpzoo.load_checkpoint(model, file)
    assert_loaded(model, before)
    # Folding goes on to work on what was loaded.
    plain = create()
    mlpzoo.load_checkpoint(plain, file)
    assert not plain.is_folded
    assert fold(plain).is_folded


def test_into_nothing(file):
    with pytest.raises(TypeError, match="on the meta device and holds no values"):
        mlpzoo.create_model("mixer_s16", checkpoint_path=file, device="meta", **SMALL)
    with pytest.raises(TypeError, match="needs a model of mlpzoo, got DataParallel"):
        mlpzoo.load_checkpoint(nn.DataParallel(nn.Linear(1, 1)), file)
