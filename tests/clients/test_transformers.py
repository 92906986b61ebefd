"""transformers needs no adapter, a registered name is a backbone: one step on random weights, save, reload."""

import copy

import pytest
import timm
import torch
from dense.networks import assert_features_are_the_authors, assert_learns, features_case

import mlpzoo
import mlpzoo.dense

transformers = pytest.importorskip("transformers", reason="transformers is not installed: run `make test-clients`")
pytestmark = pytest.mark.filterwarnings("default")

SIZE = 224
CHANNELS = {"cyclemlp_b1": [64, 128, 320, 512], "mixer_s32": [512] * 4, "mixer_s32_pyramid": [256] * 4}
OBJECTS = [
    {"class_labels": torch.tensor([1, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]])},
    {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
]
SMALL = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 6,
    "num_labels": 3,
}


def backbone(name, levels):
    """The last maps: of the 4 of a pyramid, or of the 8 blocks of a network without stages."""
    maps = 8 if name == "mixer_s32" else 4
    indices = tuple(range(maps - levels, maps))
    return transformers.TimmBackboneConfig(backbone=name, out_indices=indices, features_only=True)


def detr(name):
    return transformers.DetrForObjectDetection(transformers.DetrConfig(backbone_config=backbone(name, 1), **SMALL)), {
        "labels": OBJECTS
    }


def deformable_detr(name):
    config = transformers.DeformableDetrConfig(backbone_config=backbone(name, 3), num_feature_levels=3, **SMALL)
    return transformers.DeformableDetrForObjectDetection(config), {"labels": OBJECTS}


def rt_detr(name):
    config = transformers.RTDetrConfig(
        backbone_config=backbone(name, 3),
        encoder_in_channels=CHANNELS[name][1:],
        d_model=32,
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_in_channels=[32, 32, 32],
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        num_queries=6,
        num_denoising=2,
        num_labels=3,
    )
    return transformers.RTDetrForObjectDetection(config), {"labels": OBJECTS}


def upernet(name):
    config = transformers.UperNetConfig(
        backbone_config=backbone(name, 4),
        hidden_size=32,
        auxiliary_channels=32,
        auxiliary_in_channels=CHANNELS[name][2],
        num_labels=3,
    )
    return transformers.UperNetForSemanticSegmentation(config), {
        "labels": torch.arange(2 * SIZE * SIZE).reshape(2, SIZE, SIZE) % 3
    }


def mask2former(name):
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone(name, 4),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=6,
        num_labels=3,
        train_num_points=64,
    )
    masks = torch.zeros(2, SIZE, SIZE)
    masks[0, :100], masks[1, 100:] = 1, 1
    return transformers.Mask2FormerForUniversalSegmentation(config), {
        "mask_labels": [masks, masks],
        "class_labels": [torch.tensor([0, 1])] * 2,
    }


RUNS = [(build, name) for build in (detr, deformable_detr, upernet, mask2former) for name in CHANNELS]
# It joins three maps, each half as large as the one before.
RUNS += [(rt_detr, "cyclemlp_b1"), (rt_detr, "mixer_s32_pyramid")]


@pytest.mark.parametrize(("build", "name"), RUNS, ids=lambda v: getattr(v, "__name__", v))
def test_step_and_reload(build, name, tmp_path):
    assert timm.is_model(name)
    torch.manual_seed(0)
    model, labels = build(name)
    x = torch.randn(2, 3, SIZE, SIZE)
    loss = model.train()(pixel_values=x, **labels).loss
    assert loss.isfinite()
    loss.backward()
    networks = [module for module in model.modules() if isinstance(module, mlpzoo.models.Backbone)]
    assert len(networks) == 1
    assert_learns(networks[0])
    for pyramid in (module for module in model.modules() if isinstance(module, mlpzoo.dense.DenseBackbone)):
        assert_learns(pyramid)
    model.eval().save_pretrained(tmp_path)
    # Loaded weights lie in the mapped file, at any address, and kernels round by alignment: a copy lies as they did.
    restored = copy.deepcopy(type(model).from_pretrained(tmp_path)).eval()
    saved, loaded = model.state_dict(), restored.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in saved.items())
    with torch.no_grad():
        expected, found = (net(pixel_values=x).to_tuple() for net in (model, restored))
    compared = 0
    for a, b in zip(expected, found, strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
            compared += 1
    assert compared


def test_features_are_the_authors(tmp_path):
    name, options, x = features_case(tmp_path)
    path = options.pop("checkpoint_path")
    model = transformers.TimmBackbone(backbone(name, 4), **options).eval()
    mlpzoo.load_checkpoint(model._backbone, path)
    with torch.no_grad():
        assert_features_are_the_authors(list(model(x).feature_maps))


def test_a_pyramid_takes_images_of_any_size():
    """transformers hands no image size to timm, and a Mixer is trained at one."""
    model = transformers.TimmBackbone(backbone("mixer_s32_pyramid", 4)).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 130, 171)).feature_maps
    assert [tuple(y.shape[2:]) for y in maps] == [(33, 43), (17, 22), (9, 11), (5, 6)]
