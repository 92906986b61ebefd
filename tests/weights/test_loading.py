"""Loading is strict, safe, and all or nothing."""

import argparse
import io
import logging
import pickle
import random
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError

SMALL = {"embed_dim": 8, "depth": 2, "tokens_mlp_dim": 6, "channels_mlp_dim": 12, "img_size": 64, "num_classes": 5}


def create(**options):
    model = mlpzoo.create_model("mixer_s16", **{**SMALL, **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval()


def flax_names(model) -> dict[str, np.ndarray]:
    """A model's parameters as the authors would save them."""
    state = model.state_dict()
    arrays = {}
    for block in range(len(model.blocks)):
        for ours, theirs in (("tokens", "token"), ("channels", "channel")):
            for i in (0, 1):
                dense = f"MixerBlock_{block}/{theirs}_mixing/Dense_{i}"
                arrays[f"{dense}/kernel"] = state[f"blocks.{block}.mlp_{ours}.fc{i + 1}.weight"].numpy().T
                arrays[f"{dense}/bias"] = state[f"blocks.{block}.mlp_{ours}.fc{i + 1}.bias"].numpy()
        for i in (0, 1):
            arrays[f"MixerBlock_{block}/LayerNorm_{i}/scale"] = state[f"blocks.{block}.norm{i + 1}.weight"].numpy()
            arrays[f"MixerBlock_{block}/LayerNorm_{i}/bias"] = state[f"blocks.{block}.norm{i + 1}.bias"].numpy()
    arrays["stem/kernel"] = state["stem.proj.weight"].numpy().transpose(2, 3, 1, 0)
    arrays["stem/bias"] = state["stem.proj.bias"].numpy()
    arrays["pre_head_layer_norm/scale"] = state["norm.weight"].numpy()
    arrays["pre_head_layer_norm/bias"] = state["norm.bias"].numpy()
    arrays["head/kernel"] = state["head.weight"].numpy().T
    arrays["head/bias"] = state["head.bias"].numpy()
    return arrays


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(11)
    return create()


@pytest.fixture(scope="module")
def npz(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "Mixer-small.npz"
    np.savez(path, **flax_names(trained))
    return path


def assert_equal_models(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def assert_refused(path, match, **options):
    """The file is refused in one line, and the model is as it was."""
    model = create(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=match) as caught:
        mlpzoo.load_checkpoint(model, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_flax_file(trained, npz, caplog):
    model = create()
    with caplog.at_level(logging.INFO, "mlpzoo"):
        report = mlpzoo.load_checkpoint(model, npz)
    assert_equal_models(model, trained)
    assert report.format == "the authors' flax .npz"
    assert (report.fresh, report.adapted, caplog.records) == ((), (), [])


def test_through_create_model_and_through_timm(trained, npz):
    import timm

    assert_equal_models(mlpzoo.create_model("mixer_s16", checkpoint_path=npz, **SMALL), trained)
    assert_equal_models(timm.create_model("mixer_s16", checkpoint_path=str(npz), **SMALL), trained)


@pytest.mark.parametrize("prefix", ["opt/target/", "params/"])
def test_prefixed_names_beside_an_optimizers_state(trained, tmp_path, prefix):
    path = tmp_path / "prefixed.npz"
    arrays = {prefix + name: value for name, value in flax_names(trained).items()}
    np.savez(path, **arrays, **{"opt/state/step": np.zeros(3, np.int32)})
    model = create()
    mlpzoo.load_checkpoint(model, path)
    assert_equal_models(model, trained)


def test_bfloat16_in_numpys_clothes(trained, tmp_path):
    arrays = {}
    for name, value in flax_names(trained).items():
        raw = torch.from_numpy(np.ascontiguousarray(value)).bfloat16().view(torch.int16).numpy()
        arrays[name] = raw.view(np.dtype("V2"))
    np.savez(tmp_path / "bf16.npz", **arrays)
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "bf16.npz")
    torch.testing.assert_close(model.head.weight, trained.head.weight.bfloat16().float())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_our_own_layout_from_a_pth(trained, tmp_path, wrap):
    path = tmp_path / "named_like_nothing"
    torch.save(wrap({f"module.{name}": value for name, value in trained.state_dict().items()}), path)
    model = create()
    assert mlpzoo.load_checkpoint(model, path).format == "our own layout"
    assert_equal_models(model, trained)


def test_our_own_layout_from_safetensors(trained, tmp_path):
    save_file(trained.state_dict(), tmp_path / "weights.bin")
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "weights.bin")
    assert_equal_models(model, trained)


def test_timm_state_dict(tmp_path):
    import timm

    theirs = timm.models.MlpMixer(img_size=64, embed_dim=8, num_blocks=2, num_classes=5, mlp_ratio=(0.75, 1.5)).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = create(act_layer="gelu")
    mlpzoo.load_checkpoint(ours, tmp_path / "timm.pth")
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_another_number_of_classes_leaves_the_head_fresh(npz, trained, caplog):
    model = create(num_classes=9)
    head = model.head.weight.clone()
    report = mlpzoo.load_checkpoint(model, npz)
    assert report.fresh == ("head.bias", "head.weight")
    assert "left as initialized" in caplog.text
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.norm.weight, trained.norm.weight)


def test_no_head_wanted(npz, trained, caplog):
    model = create(num_classes=0)
    assert mlpzoo.load_checkpoint(model, npz).fresh == ()
    assert torch.equal(model.norm.weight, trained.norm.weight)
    assert not caplog.records


def test_other_channels(npz, trained, caplog):
    model = create(in_chans=1)
    report = mlpzoo.load_checkpoint(model, npz)
    torch.testing.assert_close(model.stem.proj.weight, trained.stem.proj.weight.sum(1, keepdim=True))
    assert len(report.adapted) == 1
    assert "adapted from 3 to 1 image channels" in caplog.text


@pytest.mark.parametrize("img_size", [128, (64, 96)], ids=str)
def test_another_grid_is_what_set_input_size_would_give(npz, trained, img_size, caplog):
    import copy

    model = create(img_size=img_size)
    mlpzoo.load_checkpoint(model, npz)
    assert "token grid resized from 4×4" in caplog.text
    expected = copy.deepcopy(trained)
    expected.set_input_size(img_size)
    for (name, found), wanted in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)


def test_feature_backbone(npz, trained):
    model = mlpzoo.create_model("mixer_s16", features_only=True, out_indices=[0], checkpoint_path=npz, **SMALL).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = trained.forward_intermediates(x, indices=[0], intermediates_only=True)[0]
    torch.testing.assert_close(model(x)[0], expected)


def test_types_are_kept(npz):
    model = create(dtype=torch.float64)
    mlpzoo.load_checkpoint(model, npz)
    assert model.head.weight.dtype == torch.float64


def test_a_model_of_others_is_a_type_error(npz):
    with pytest.raises(TypeError, match="needs a model of mlpzoo, got Linear"):
        mlpzoo.load_checkpoint(nn.Linear(2, 2), npz)


def test_missing_file_and_folder(tmp_path):
    assert_refused(tmp_path / "nothing.npz", "no such file")
    assert_refused(tmp_path, "it is a folder")


@pytest.mark.parametrize("content", [b"", b"hello, I am a checkpoint", b"PK\x03\x04 not really a zip", bytes(64)])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    assert_refused(path, "neither a NumPy archive|damaged or cut short")


def test_another_family(tmp_path):
    state = {"blocks.0.attn.qkv.weight": torch.zeros(6, 2), "cls_token": torch.zeros(1, 1, 2)}
    torch.save(state, tmp_path / "vit.pth")
    assert_refused(tmp_path / "vit.pth", "no MLP-Mixer checkpoint in a known format, .*: 2 of 2 names are unknown")


def test_another_variant(npz):
    assert_refused(npz, "no value for 12 parameters.*another variant", depth=3)
    assert_refused(npz, "has 12 the model does not have.*another variant", depth=1)
    assert_refused(npz, "8×3×16×16 in the file and 16×3×16×16 in the model", embed_dim=16)


def test_missing_and_unknown_names(trained, tmp_path):
    arrays = flax_names(trained)
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays.items() if k != "stem/bias"})
    assert_refused(tmp_path / "a.npz", r"no value for 1 parameters \(stem.proj.bias\)")
    np.savez(tmp_path / "b.npz", **arrays, surprise=np.zeros(2))
    assert_refused(tmp_path / "b.npz", r"1 of 31 names are unknown \(surprise\)")


def test_pickles_are_refused_and_not_run(trained, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    objects = tmp_path / "objects.npz"
    np.savez(objects, **{**flax_names(trained), "head/bias": np.array([Harmful()], dtype=object)})
    assert_refused(objects, "pickled Python objects")
    torch_file = tmp_path / "harmful.pth"
    torch.save({"head.bias": Harmful()}, torch_file)
    assert_refused(torch_file, "pickled Python objects")
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickle.dumps(Harmful()))
    assert_refused(bare, "pickled Python objects|damaged")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_saved_beside_the_weights(trained, tmp_path, zipped):
    """As timm's training script saves them: a Namespace holds plain values and runs nothing."""
    args = argparse.Namespace(lr=0.1, model="mixer", img_size=[3, 64])
    saved = {"epoch": 3, "state_dict": trained.state_dict(), "args": args, "optimizer": {"state": {}}}
    torch.save(saved, tmp_path / "last.pth.tar", _use_new_zipfile_serialization=zipped)
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "last.pth.tar")
    assert_equal_models(model, trained)


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_of_yacs_saved_beside_the_weights(trained, tmp_path, zipped, monkeypatch):
    """As Swin's training script saves them; yacs need not be there, and nothing of it runs."""

    class CfgNode(dict):
        def __setstate__(self, state):
            raise AssertionError("ran")

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    config = CfgNode(MODEL=CfgNode(NAME="mixer", DEPTHS=[2, 2]))
    vars(config)["__immutable__"] = True
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", types.SimpleNamespace(CfgNode=CfgNode))
        saved = {"model": trained.state_dict(), "config": config, "optimizer": {"state": {}}}
        torch.save(saved, tmp_path / "ckpt.pth", _use_new_zipfile_serialization=zipped)
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "ckpt.pth")
    assert_equal_models(model, trained)


@pytest.mark.parametrize(("plain", "averaged"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_averaged_weights_are_preferred(trained, tmp_path, plain, averaged):
    last = {name: torch.zeros_like(value) for name, value in trained.state_dict().items()}
    torch.save({plain: last, averaged: trained.state_dict()}, tmp_path / "last.pth")
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "last.pth")
    assert_equal_models(model, trained)


def test_an_archive_that_unpacks_to_more_than_it_says(trained, tmp_path):
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (5,)})
    np.savez(path, **{k: v for k, v in flax_names(trained).items() if k != "head/bias"})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head/bias.npy", header.getvalue() + bytes(50_000_000))
    assert_refused(path, "'head/bias' takes 50000128 bytes where its header says 148")


def test_a_tensor_far_larger_than_the_models(trained, tmp_path):
    path = tmp_path / "large.npz"
    np.savez_compressed(path, **{**flax_names(trained), "stem/bias": np.zeros(20_000_000, np.float32)})
    assert_refused(path, "stem.proj.bias is 20000000 in the file and 8 in the model")


def test_names_held_twice(trained, tmp_path):
    path = tmp_path / "twice.npz"
    np.savez(path, **flax_names(trained))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("head/bias.npy", archive.read("head/bias.npy"))
    assert_refused(path, "'head/bias' twice")


def write(form, model, path):
    """A model's parameters in one of the forms files come in."""
    state = model.state_dict()
    if "npz" in form:
        with path.open("wb") as stream:
            (np.savez if form == "npz" else np.savez_compressed)(stream, **flax_names(model))
    elif form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization=form == "pth")
    return path


FORMS = ("npz", "compressed npz", "pth", "older pth", "safetensors")
# Only these carry checksums: in the others, an overwritten value is a value like any other.
CHECKED = ("npz", "compressed npz")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_corruption_crashes_or_half_loads(form, trained, tmp_path, data):
    """Cut the file anywhere, or overwrite bytes anywhere: it is refused whole, or read whole."""
    content = bytearray(write(form, trained, tmp_path / "whole").read_bytes())
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    cut = data.draw(st.booleans())
    if cut:
        content = content[: rng.randrange(len(content))]
    else:
        for _ in range(data.draw(st.integers(1, 30))):
            content[rng.randrange(len(content))] = rng.randrange(256)
    path = tmp_path / "corrupt"
    path.write_bytes(content)
    model = create()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        mlpzoo.load_checkpoint(model, path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    else:
        assert not cut or form in CHECKED
        if form in CHECKED:
            assert_equal_models(model, trained)
        else:
            assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("form", FORMS)
def test_cut_short_anywhere(form, trained, tmp_path):
    content = write(form, trained, tmp_path / "whole").read_bytes()
    for length in {0, 1, 7, 8, 9, 100, *range(0, len(content), len(content) // 20), len(content) - 1}:
        path = tmp_path / f"cut{length}"
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged|neither|no archive|holds"):
            mlpzoo.load_checkpoint(create(), path)


@pytest.mark.parametrize("form", FORMS)
def test_values_that_are_not_finite_are_named(form, tmp_path, caplog):
    model = create()
    with torch.no_grad():
        model.blocks[1].norm2.bias[3] = torch.nan
        model.head.weight[0, 0] = torch.inf
    report = mlpzoo.load_checkpoint(create(), write(form, model, tmp_path / "file"))
    assert report.not_finite == ("blocks.1.norm2.bias", "head.weight")
    assert "NaN or infinity in blocks.1.norm2.bias, head.weight" in caplog.text


def test_a_checkpoint_without_a_head(trained, tmp_path, caplog):
    """As those that were trained without labels: the head is fresh, like one of another width."""
    body = {name: value for name, value in trained.state_dict().items() if not name.startswith("head")}
    torch.save(body, tmp_path / "body.pth")
    model = create()
    assert mlpzoo.load_checkpoint(model, tmp_path / "body.pth").fresh == ("head.bias", "head.weight")
    assert torch.equal(model.norm.weight, trained.norm.weight)
    body["head.weight"] = trained.head.weight
    torch.save(body, tmp_path / "half.pth")
    assert_refused(tmp_path / "half.pth", r"no value for 1 parameters \(head.bias\)")


@pytest.mark.parametrize(
    "odd",
    [
        lambda value: value.to_sparse(),
        lambda value: value.to(torch.complex64),
        lambda value: value.to("meta"),
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "complex", "meta", "quantized"],
)
@pytest.mark.filterwarnings("ignore:.*quantiz:DeprecationWarning", "ignore:.*quantiz:UserWarning")
def test_tensors_of_other_kinds(odd, trained, tmp_path):
    torch.save({**trained.state_dict(), "norm.bias": odd(trained.norm.bias.detach())}, tmp_path / "odd.pth")
    assert_refused(tmp_path / "odd.pth", "'norm.bias' is no plain tensor of real numbers|damaged|besides tensors")


def test_eight_bits(trained, tmp_path):
    state = {name: value.to(torch.float8_e4m3fn) for name, value in trained.state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    model = create()
    mlpzoo.load_checkpoint(model, tmp_path / "small.safetensors")
    assert torch.equal(model.head.bias, trained.head.bias.to(torch.float8_e4m3fn).float())


def test_a_safetensors_header_of_nonsense(tmp_path):
    for size in (2**63, 2**40, 10):
        path = tmp_path / f"{size}"
        path.write_bytes(size.to_bytes(8, "little") + b'{"a":1}xxx' + bytes(50))
        assert_refused(path, "damaged or cut short")
