import pytest
import torch
from models.twins import assert_twins_agree
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.layers import CycleFC

SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 2, 1), "num_classes": 5}
PARAMETERS = {
    "cyclemlp_b1": 15_155_400,
    "cyclemlp_b2": 26_802_504,
    "cyclemlp_b3": 38_385_720,
    "cyclemlp_b4": 51_796_552,
    "cyclemlp_b5": 75_747_280,
}


def create(**options):
    return mlpzoo.create_model("cyclemlp_b1", **{**SMALL, **options}).eval()


def image(*size, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


def authors_names(model, *, fork_feat=False) -> dict[str, torch.Tensor]:
    """The state dict under the names the authors save, with the offsets that they keep."""
    renamed = {}
    for name, value in model.state_dict().items():
        kind, _, rest = name.partition(".")
        if kind == "stem":
            name = f"patch_embed.{rest}"
        elif kind == "stages":
            stage, part, rest = rest.split(".", 2)
            name = f"network.{2 * int(stage)}.{rest}" if part == "blocks" else f"network.{2 * int(stage) - 1}.{rest}"
        elif kind == "feature_norms":
            stage, rest = rest.split(".")
            name = f"norm{2 * int(stage)}.{rest}"
        if name.endswith(("sfc_h.weight", "sfc_w.weight")):
            renamed[name.replace("weight", "offset")] = torch.zeros(1, 2 * value.shape[1], 1, 1)
        if not (fork_feat and kind in ("norm", "head")):
            renamed[name] = value
    return renamed


def test_every_variant_is_listed():
    assert mlpzoo.list_models("cyclemlp_*") == list(PARAMETERS)
    assert mlpzoo.list_pretrained("cyclemlp_*") == [f"{name}.in1k" for name in PARAMETERS]


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert not list(model.buffers()), "offsets are computed where they are needed"
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32]
    assert model.norm.eps == 1e-5
    assert model.pretrained_cfg["pool_size"] == (7, 7)
    assert model.pretrained_cfg["crop_pct"] == (0.9 if name < "cyclemlp_b4" else 0.875)


def test_initial_values_are_the_authors():
    model = create()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
        elif ".proj." not in name or ".attn." in name:
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif parameter.numel() > 100:
                assert 0.015 < float(parameter.detach().std()) < 0.025, name


@pytest.mark.parametrize("size", [(64, 64), (33, 101), (130, 171), (32, 256)], ids=str)
def test_any_image_size(size):
    model = create()
    x = image(*size)
    assert model(x).shape == (2, 5)
    features = mlpzoo.create_model("cyclemlp_b1", **SMALL, features_only=True).eval()
    maps = features(x)
    assert [y.shape[1] for y in maps] == list(SMALL["embed_dims"])
    assert features.feature_info.reduction() == [4, 8, 16, 32]
    height, width = maps[0].shape[2:]
    assert (height, width) == ((size[0] + 1) // 4, (size[1] + 1) // 4), "as a 7×7 convolution padded by 2 makes them"
    for y in maps[1:]:
        height, width = (height + 1) // 2, (width + 1) // 2
        assert y.shape[2:] == (height, width)


def test_agrees_with_its_reference():
    assert_twins_agree(create, image(50, 70))


def test_image_channels_and_patches():
    assert create(in_chans=1)(image(64, 64, channels=1)).shape == (2, 5)
    fine = create(patch_size=3, patch_stride=2)
    assert fine.stem.proj.weight.shape == (8, 3, 3, 3)
    assert [info["reduction"] for info in fine.feature_info] == [2, 4, 8, 16]
    maps = fine.forward_intermediates(image(64, 48), intermediates_only=True)
    assert [tuple(y.shape[2:]) for y in maps] == [(32, 24), (16, 12), (8, 6), (4, 3)]
    plain = create(patch_size=4)
    assert plain.forward_intermediates(image(64, 48), intermediates_only=True)[0].shape[2:] == (16, 12)


@pytest.mark.parametrize(
    "options",
    [
        {"step_size": 7},
        {"sampling": "random", "seed": 1},
        {"sampling": "dilated"},
        {"sampling": "dilated", "dilation": 3},
        {"sampling": "dense"},
    ],
    ids=str,
)
def test_ablations_of_the_paper(options):
    plain, changed = create(), create(**options)
    dense = options.get("sampling") == "dense"
    if not dense:
        changed.load_state_dict(plain.state_dict())
    layers = [module for module in changed.modules() if isinstance(module, CycleFC)]
    assert len(layers) == 2 * sum(SMALL["depths"])
    assert {layer.step for layer in layers} == {options.get("step_size", 3)}
    x = image(64, 64)
    assert changed(x).shape == (2, 5)
    assert not torch.allclose(changed(x), plain(x))
    torch.testing.assert_close(changed(x), changed(x))


def test_every_layer_draws_its_own_offsets():
    layers = [module for module in create(sampling="random").modules() if isinstance(module, CycleFC)]
    drawn = [tuple(layer.random_offsets[:8]) for layer in layers]
    assert len(set(drawn)) == len(drawn)
    again = [module for module in create(sampling="random").modules() if isinstance(module, CycleFC)]
    assert [layer.random_offsets for layer in again] == [layer.random_offsets for layer in layers]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 4}, "step size must be odd"),
        ({"sampling": "sparse"}, "unknown sampling 'sparse'"),
        ({"patch_size": 2}, "patch_size must be patch_stride 4 or more, got 2"),
        ({"patch_stride": 0}, "patch_stride must be 1 or more"),
        ({"mlp_ratios": (4, 4)}, "mlp_ratios must be a number of 1 or more for each stage"),
        ({"depths": (1, 0, 1, 1)}, "depths must be a number of 1 or more for each stage"),
    ],
    ids=str,
)
def test_unusable_values(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)


def test_image_size_is_no_option():
    with pytest.raises(TypeError, match="no option 'img_size'"):
        create(img_size=256)


def test_authors_file(tmp_path):
    model = create()
    torch.save({"model": authors_names(model)}, tmp_path / "CycleMLP_B1.pth")
    restored = create(checkpoint_path=tmp_path / "CycleMLP_B1.pth")
    x = image(64, 64)
    assert torch.equal(restored(x), model(x))


def test_authors_backbone_file(tmp_path):
    """What the authors' code saves with `fork_feat=True`: norms of the maps, no norm and no head."""
    model = mlpzoo.create_model("cyclemlp_b1", **SMALL, features_only=True, feature_norms=True).eval()
    for norm in model.model.feature_norms:
        nn.init.normal_(norm.weight)
    torch.save(authors_names(model.model, fork_feat=True), tmp_path / "backbone.pth")
    restored = mlpzoo.create_model(
        "cyclemlp_b1", **SMALL, features_only=True, feature_norms=True, checkpoint_path=tmp_path / "backbone.pth"
    ).eval()
    x = image(64, 64)
    for found, expected in zip(restored(x), model(x), strict=True):
        assert torch.equal(found, expected)


def test_classification_file_in_a_backbone_with_norms(tmp_path):
    torch.save(authors_names(create()), tmp_path / "weights.pth")
    model = create(feature_norms=True)
    report = mlpzoo.load_checkpoint(model, tmp_path / "weights.pth")
    assert report.fresh == tuple(f"feature_norms.{i}.{name}" for i in range(4) for name in ("bias", "weight"))


def test_file_with_a_stage_too_many(tmp_path):
    names = authors_names(create())
    names["network.7.proj.weight"] = torch.zeros(4, 4, 3, 3)
    torch.save(names, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="network.7.proj.weight"):
        create(checkpoint_path=tmp_path / "weights.pth")
