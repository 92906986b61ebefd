"""The names that make a network without stages a pyramid for clients that know timm alone."""

import subprocess
import sys

import pytest
import timm
import torch
from dense.networks import COLUMNAR, assert_learns, image, small

import mlpzoo
from mlpzoo._names import family_of
from mlpzoo.dense import DenseBackbone

NAMES = timm.list_models("*_pyramid")


def create(family, **options):
    name, options = small(family, **options)
    return timm.create_model(f"{name}_pyramid", features_only=True, pyramid_channels=8, **options)


def test_which_networks_have_one():
    configs = {name: family_of(name).variants[name] for name in mlpzoo.list_models()}
    isotropic = [name for name, config in configs.items() if config.has_positions and not config.has_stages]
    without = {name for name in isotropic if f"{name}_pyramid" not in NAMES}
    assert without == {"mixer_h14", "vit_h14"} | {name for name in isotropic if name.startswith("convmixer")}
    assert len(NAMES) == len(isotropic) - len(without)
    assert not set(NAMES) & set(mlpzoo.list_models())


@pytest.mark.parametrize("name", NAMES)
def test_every_name_builds(name):
    net = timm.create_model(name, features_only=True, device="meta")
    assert net.feature_info.reduction() == [4, 8, 16, 32]
    assert [tuple(y.shape[1:]) for y in net(torch.empty(1, 3, 96, 64, device="meta"))] == [
        (256, 24, 16),
        (256, 12, 8),
        (256, 6, 4),
        (256, 3, 2),
    ]


@pytest.mark.parametrize("family", COLUMNAR)
def test_it_is_a_dense_backbone(family):
    net = create(family, out_indices=(1, 3)).eval()
    assert (net.feature_info.channels(), net.feature_info.reduction()) == ([8, 8], [8, 32])
    assert [net.get_submodule(name) for name in net.feature_info.module_name()] == list(net.pyramid.levels)
    assert timm.data.resolve_data_config(model=net)["mean"] == net.network.pretrained_cfg["mean"]
    name, options = small(family)
    twin = DenseBackbone(name, out_indices=(1, 3), pyramid_channels=8, **options).eval()
    twin.load_state_dict(net.state_dict())
    maps = net(image(100, 130))
    assert all(torch.equal(a, b) for a, b in zip(maps, twin(image(100, 130)), strict=True))
    sum((y * torch.randn_like(y)).mean() for y in maps).backward()
    assert_learns(net)


@pytest.mark.parametrize(("stride", "strides"), [(8, [4, 8, 8, 8]), (16, [4, 8, 16, 16]), (32, [4, 8, 16, 32])])
def test_output_stride(stride, strides):
    net = create("mixer", output_stride=stride)
    assert net.feature_info.reduction() == strides
    assert [y.shape[2:] for y in net(image(96, 128))] == [(96 // s, 128 // s) for s in strides]


def test_a_tag_chooses_the_networks_weights(monkeypatch):
    asked = []

    def released_file(tagged, *_, **__):
        asked.append(tagged)
        raise mlpzoo.CheckpointError("offline")

    monkeypatch.setattr("mlpzoo._registration.released_file", released_file)
    for tag in ("", ".miil_in21k"):
        with pytest.raises(mlpzoo.CheckpointError, match="offline"):
            timm.create_model(f"mixer_b16_pyramid{tag}", pretrained=True, features_only=True)
    assert asked == ["mixer_b16.goog_in1k", "mixer_b16.miil_in21k"]


def test_refusals():
    with pytest.raises(ValueError, match="mixer_s16_pyramid gives feature maps alone: pass features_only"):
        timm.create_model("mixer_s16_pyramid")
    with pytest.raises(ValueError, match="output_stride must be one of 4, 8, 16, 32, got 12"):
        create("mixer", output_stride=12)
    with pytest.raises(TypeError, match="mixer_s16 has no option 'embed_dims'"):
        create("mixer", embed_dims=8)
    with pytest.raises(ValueError, match="unknown weights 'mixer_b16.goog_in2k': it has mixer_b16.goog_in1k"):
        timm.create_model("mixer_b16_pyramid.goog_in2k", features_only=True)


def test_only_asking_for_them_registers_them():
    code = (
        "import timm, mlpzoo\n"
        "assert not timm.list_models('*_pyramid')\n"
        "import mlpzoo.dense\n"
        "assert 'mixer_b16_pyramid' in timm.list_models('*_pyramid')\n"
        "assert 'mixer_b16_pyramid' not in mlpzoo.dense.__all__\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
