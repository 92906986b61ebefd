import dataclasses
import importlib
import json
import subprocess
import sys

import pytest
import timm
import torch
from families import CASES, names

import mlpzoo
from mlpzoo.models import FAMILIES, families
from mlpzoo.registry import CREATED_BY, register

PARAMETERS = {name: number for case in CASES.values() for name, number in case.parameters.items()}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_importing_is_silent_and_changes_nothing_of_timms():
    done = run(
        "import timm, timm.models._registry as r\n"
        "before = dict(r._model_entrypoints); cfgs = dict(r._model_pretrained_cfgs)\n"
        "import mlpzoo\n"
        "assert all(r._model_entrypoints[k] is v for k, v in before.items())\n"
        "assert all(r._model_pretrained_cfgs[k] is v for k, v in cfgs.items())\n"
        "new = set(r._model_entrypoints) - set(before)\n"
        "assert new == set(mlpzoo.list_models()), new\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_adds_little_to_timm():
    done = run(
        "import sys, timm\n"
        "before = set(sys.modules)\n"
        "import mlpzoo\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "assert new <= {'mlpzoo', 'einops', 'torch'}, new\n"
        "slow = {'torch._dynamo', 'torch._inductor', 'torch._export', 'torch.distributed.checkpoint'}\n"
        "assert not slow & (set(sys.modules) - before)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_family_modules_export_what_they_name():
    done = run(
        "import mlpzoo, sys\n"
        "for family in mlpzoo.models.families():\n"
        "    module = sys.modules[family.model.__module__]\n"
        "    exec(f'from {module.__name__} import *')\n"
        "    assert all(name in globals() for name in family.variants)\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    assert mlpzoo.model_info(name).parameters == PARAMETERS[name]


def test_every_family_has_its_test_data():
    assert set(names()) == {family.name for family in families()}


def test_every_variant_is_registered_and_described():
    assert len(mlpzoo.list_models()) == sum(len(family.variants) for family in families())
    for name in mlpzoo.list_models():
        assert timm.is_model(name)
        info = mlpzoo.model_info(name)
        assert info.gmacs > 0
        assert info.paper.startswith("https://")
        assert info.code.startswith("https://")
        assert info.license
        assert bool(info.top1_source) == (info.top1 is not None)


def test_info_of_the_base_mixer():
    info = mlpzoo.model_info("mixer_b16")
    assert (info.family, info.top1, info.license) == ("MLP-Mixer", 76.44, "Apache-2.0")
    assert info.gmacs == pytest.approx(12.6, abs=0.1)
    assert info.input_size == (3, 224, 224)
    assert (info.file.rsplit("/", 1)[-1], info.mean, info.crop_pct) == ("Mixer-B_16.npz", (0.5, 0.5, 0.5), 0.875)
    assert mlpzoo.model_info("mixer_b16.goog_in21k").num_classes == 21843
    miil = mlpzoo.model_info("mixer_b16.miil_in21k")
    assert (miil.file, miil.interpolation) == ("hf-hub:timm/mixer_b16_224.miil_in21k", "bilinear")
    assert mlpzoo.model_info("mixer_s16").file == ""


def test_lists():
    assert mlpzoo.list_models("mixer_s*") == ["mixer_s32", "mixer_s16"]
    assert mlpzoo.list_models(["mixer_s32", "mixer_h*"]) == ["mixer_s32", "mixer_h14"]
    assert mlpzoo.list_models("no_such*") == []
    assert mlpzoo.list_models("mixer_*", pretrained=True) == ["mixer_b32", "mixer_b16", "mixer_l16"]
    assert "mixer_l16.goog_in1k" in mlpzoo.list_pretrained("mixer_*")
    assert all(timm.models.is_model_pretrained(name) for name in mlpzoo.list_pretrained("mixer_*"))


def test_timm_builds_the_same_network():
    options = {"depth": 2, "num_classes": 5, "img_size": (64, 96)}
    torch.manual_seed(3)
    ours = mlpzoo.create_model("mixer_s32", **options)
    torch.manual_seed(3)
    theirs = timm.create_model("mixer_s32", **options)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_options_reach_the_model_and_its_data_config():
    model = mlpzoo.create_model(
        "mixer_s32", img_size=(64, 96), in_chans=4, depth=1, device="meta", dtype=torch.bfloat16, act_layer="gelu"
    )
    assert model.stem.grid_size == (2, 3)
    assert model.pretrained_cfg["input_size"] == model.default_cfg["input_size"] == (4, 64, 96)
    assert timm.data.resolve_data_config(model=model)["input_size"] == (4, 64, 96)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).is_meta


def test_tag_chooses_the_head():
    assert mlpzoo.create_model("mixer_b16.goog_in21k", device="meta").num_classes == 21843


def test_features_only():
    model = mlpzoo.create_model("mixer_s32", depth=4, features_only=True, out_indices=(1, 3), img_size=64)
    assert model.feature_info.channels() == [512, 512]
    assert model.feature_info.reduction() == [32, 32]
    assert [tuple(y.shape) for y in model(torch.randn(1, 3, 64, 64))] == [(1, 512, 2, 2)] * 2
    assert (
        len(mlpzoo.create_model("mixer_s32", depth=4, features_only=True, device="meta").feature_info.channels()) == 3
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixer_b17", r"unknown model 'mixer_b17'\. The nearest: mixer_b16"),
        ("resnet50", r"unknown model 'resnet50'"),
        ("mixer_b16.imagenet", r"unknown weights 'mixer_b16.imagenet': it has mixer_b16.goog_in1k"),
        ("mixer_s16.goog_in1k", r"unknown weights 'mixer_s16.goog_in1k': none are released for it"),
    ],
)
def test_unknown_names(name, message):
    for call in (mlpzoo.create_model, mlpzoo.model_info):
        with pytest.raises(ValueError, match=message):
            call(name)


@pytest.mark.parametrize("create", [mlpzoo.create_model, timm.create_model])
def test_unknown_options(create):
    with pytest.raises(
        TypeError, match=r"mixer_s16 has no option 'embed_dims' \(did you mean 'embed_dim'\?\).*patch_size"
    ):
        create("mixer_s16", embed_dims=3)


def test_image_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"225×225.*\(224, 224\) or \(240, 240\)"):
        mlpzoo.create_model("mixer_s16", img_size=225)
    model = mlpzoo.create_model("mixer_s32", depth=1)
    with pytest.raises(ValueError, match=r"got an image of 256×224.*bound to 224×224.*img_size=.*set_input_size"):
        model(torch.randn(1, 3, 256, 224))


def test_a_name_of_another_task_says_which_function_builds_it(monkeypatch, tmp_path):
    other = dataclasses.replace(FAMILIES["mixer"], name="other", variants={"other_s1": None}, task="restoration")
    monkeypatch.setitem(FAMILIES, "other", other)
    assert mlpzoo.list_models("other*") == []
    assert mlpzoo.list_models("other*", task="restoration") == ["other_s1"]
    with pytest.raises(ValueError, match=r"other_s1 is a network for restoration, which mlpzoo\.restoration\."):
        mlpzoo.create_model("other_s1")
    for task, creator in CREATED_BY.items():
        module, _, function = creator.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))
        if task != "classification":
            (tmp_path / "config.json").write_text(json.dumps({"architecture": "other_s1", "task": task}))
            with pytest.raises(mlpzoo.CheckpointError, match=rf"a network for {task} \(other_s1\), which {creator}"):
                mlpzoo.create_model(f"local-dir:{tmp_path}")


def test_what_is_taken_is_not_registered_again():
    mixer = FAMILIES["mixer"]
    with pytest.raises(ValueError, match=r"names already, here or in timm: mixer_s32, mixer_s16"):
        register(mixer)
    with pytest.raises(ValueError, match="there is a family named 'mixer' already: MLP-Mixer"):
        register(dataclasses.replace(mixer))
    with pytest.raises(ValueError, match="must have that name in `family`, not 'mixer'"):
        register(dataclasses.replace(mixer, name="blender"))
    assert "blender" not in FAMILIES
