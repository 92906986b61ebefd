"""Restoration networks by name, by task and from folders."""

import json

import numpy as np
import pytest
import timm
import torch
from families.maxim import TINY, as_released, tiny

import mlpzoo
from mlpzoo.models.maxim import FAMILY
from mlpzoo.restoration import _create, create_restorer, find_release, list_restorers, list_tasks, save_restorer
from mlpzoo.weights import CheckpointError, load_checkpoint


@pytest.fixture
def folder(tmp_path):
    save_restorer(tiny(num_stages=2), tmp_path / "run", architecture="maxim_s2", about={"note": "tiny"})
    return tmp_path / "run"


def change_config(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    config.update(entries)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_a_folder_rebuilds_the_network(tmp_path):
    model = tiny(num_stages=2)
    save_restorer(model, tmp_path / "run", architecture="maxim_s2", about={"note": "tiny"})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["about"] == {"note": "tiny"}
    again = create_restorer(f"local-dir:{tmp_path / 'run'}")
    assert again.config == model.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert load_checkpoint(tiny(num_stages=2), tmp_path / "run" / "model.safetensors").format == "our own layout"
    averaged = {name: value + 1 for name, value in model.state_dict().items()}
    save_restorer(model, tmp_path / "run", architecture="maxim_s2", weights=averaged)
    again = create_restorer(f"local-dir:{tmp_path / 'run'}")
    assert all(torch.equal(value, averaged[name]) for name, value in again.state_dict().items())


def test_a_folder_of_a_restorer_says_what_opens_it(folder):
    for task in ("restoration", None):
        change_config(folder, task=task)
        assert create_restorer(f"local-dir:{folder}").config.num_stages == 2
        with pytest.raises(
            CheckpointError,
            match=r"run holds a network for restoration \(maxim_s2\), which "
            "mlpzoo.restoration.create_restorer builds, not mlpzoo.create_model",
        ):
            mlpzoo.create_model(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        (
            {"architecture": "mixer_b16", "task": None},
            CheckpointError,
            "for classification .mixer_b16., which mlpzoo.create_model",
        ),
        (
            {"architecture": "mixer_b16", "task": "classification"},
            CheckpointError,
            "which mlpzoo.create_model builds, not mlpzoo.rest",
        ),
        (
            {"architecture": "fcos_mixer_b16", "task": "detection"},
            CheckpointError,
            "holds a network for detection .*which mlpzoo",
        ),
        (
            {"architecture": "resnet50", "task": "origami"},
            CheckpointError,
            r"holds a network for origami \(resnet50\)$",
        ),
        ({"architecture": "swinir", "task": "restoration"}, ValueError, "unknown model 'swinir'"),
        ({"model_args": ["x"]}, CheckpointError, "no table of options"),
        ({"model_args": {"features": 3}}, TypeError, "maxim_s2 has no option 'features'"),
        (
            {"model_args": {**TINY, "num_supervision_scales": 1}},
            CheckpointError,
            "no MAXIM checkpoint .* or one of a larger",
        ),
    ],
)
def test_folders_of_something_else(folder, entries, error, message):
    change_config(folder, **entries)
    with pytest.raises(error, match=message):
        create_restorer(f"local-dir:{folder}")


def test_a_restorers_name_says_what_builds_it():
    for call in (mlpzoo.create_model, mlpzoo.model_info):
        with pytest.raises(ValueError, match="maxim_s1 is a network for restoration, which mlpzoo.resto"):
            call("maxim_s1")
    assert not set(list_restorers()) & set(mlpzoo.list_models())
    assert not timm.is_model("maxim_s1")


def test_tasks():
    assert list_tasks() == ["denoising", "deblurring", "deraining", "dehazing", "enhancement"]
    assert len({file.url for file in FAMILY.weights.values()}) == len(FAMILY.weights) == 11
    for tagged, file in FAMILY.weights.items():
        assert file.url.startswith("https://storage.googleapis.com/gresearch/maxim/ckpt/")
        variant, _, tag = tagged.partition(".")
        assert variant == ("maxim_s3" if tag.partition("_")[0] in ("denoising", "deblurring") else "maxim_s2")
        assert all(20 < score["psnr"] < 41 and 0.8 < score["ssim"] < 1 for score in file.scores.values())
    assert FAMILY.weights["maxim_s3.deblurring_gopro"].scores["HIDE"] == {"psnr": 32.83, "ssim": 0.956}
    assert find_release("dehazing") == "maxim_s2.dehazing_sots_indoor"
    assert find_release("deblurring", "realblur_r") == "maxim_s3.deblurring_realblur_r"
    model = create_restorer(task="dehazing", device="meta")
    assert model.config == FAMILY.variants["maxim_s2"]
    for name in (None, "maxim_s3", "maxim_s3.denoising_sidd"):
        model = create_restorer(name, task="denoising", dataset="sidd", device="meta")
        assert model.config == FAMILY.variants["maxim_s3"]


@pytest.mark.parametrize("how", [{"task": "deblurring", "dataset": "reds"}, {"name": "maxim_s3.deblurring_reds"}])
def test_pretrained_asks_for_the_tasks_file(tmp_path, monkeypatch, how):
    asked = []

    def downloaded(name, weights, *, cache_dir):
        asked.append((name, weights.url, cache_dir))
        return tmp_path / "file.npz"

    monkeypatch.setattr(_create, "released_file", downloaded)
    options = {**TINY, "num_supervision_scales": 2}
    released = as_released(create_restorer(task="deblurring", **options))
    np.savez(tmp_path / "file.npz", **{f"opt/target/{name}": value for name, value in released.items()})
    loaded = create_restorer(**how, pretrained=True, cache_dir=tmp_path, **options)
    url = "https://storage.googleapis.com/gresearch/maxim/ckpt/Deblurring/REDS/checkpoint.npz"
    assert asked == [("maxim_s3.deblurring_reds", url, tmp_path)]
    bias = loaded.state_dict()["stages.0.input_convs.0.bias"].numpy()
    assert np.array_equal(bias, released["stage_0_input_conv_0/bias"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "give a name .maxim_s1, .* or a task"),
        (("maxim_s4",), {}, "unknown model 'maxim_s4'. The nearest: maxim_s.*list_models.task='restoration'"),
        ((), {"task": "upscaling"}, "unknown task 'upscaling': there is denoising, deblurring"),
        ((), {"task": "denoising", "dataset": "gopro"}, "no checkpoint for denoising .* there is sidd"),
        (("maxim_s2",), {"task": "denoising"}, "is maxim_s3.denoising_sidd, a maxim_s3 and not a maxim_s2"),
        (
            ("maxim_s3.denoising_gopro",),
            {},
            "unknown weights .*: it has maxim_s3.denoising_sidd, ",
        ),
        (("maxim_s3.deblurring_reds",), {"task": "denoising"}, "is maxim_s3.denoising_sidd"),
        (("mixer_b16",), {}, "which mlpzoo.create_model builds, not mlpzoo.restoration.create_restorer"),
        (("local-dir:x",), {"task": "denoising"}, "local-dir:x has weights of its own"),
        (("maxim_s3",), {"pretrained": True}, "pretrained=True needs a task.* or a tag after the name maxim_s3"),
        (("maxim_s3",), {"dataset": "sidd"}, "dataset needs a task"),
        ((), {"task": "denoising", "pretrained": True, "checkpoint_path": "x"}, "either pretrained=True or"),
        (("maxim_s1",), {"depth": 0}, "depth must be an integer of 1 or more, got 0"),
        (("maxim_s1",), {"embed_dim": 1.5}, "embed_dim must be an integer of 1 or more, got 1.5"),
        (("maxim_s1",), {"num_supervision_scales": 4}, "at most depth, got 4 of 3"),
    ],
)
def test_mistakes(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        create_restorer(*arguments, **options)


def test_unknown_options():
    with pytest.raises(TypeError, match="has no option 'features'.*embed_dim.* also takes device, dtype, cache_dir$"):
        create_restorer("maxim_s1", features=32)
