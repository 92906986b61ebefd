import pytest
import torch
from models.twins import assert_twins_agree
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.layers import Downsample, WeightedPermuteMLP

# Grids of 16×16 and 8×8 from images of 112×112.
SMALL = {"embed_dims": (16, 32, 32, 32), "depths": (1, 2, 1, 1), "img_size": 112, "num_classes": 5}
PARAMETERS = {"vip_s14": 29_892_904, "vip_s7": 25_114_984, "vip_m7": 55_272_488, "vip_l7": 87_784_936}
REDUCTIONS = {"vip_s14": [14] * 4, "vip_s7": [7, 14, 14, 14], "vip_m7": [7, 7, 14, 14], "vip_l7": [7, 14, 14, 14]}
# Where the authors' list of modules has its convolution, and where it has stages.
PLACES = {"vip_s14": (None, "0123"), "vip_s7": (1, "0234"), "vip_m7": (2, "0134"), "vip_l7": (1, "0234")}


def create(name="vip_s7", **options):
    return mlpzoo.create_model(name, **{**SMALL, **options}).eval()


def image(*size, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


def authors_names(model, name) -> dict[str, torch.Tensor]:
    convolution, places = PLACES[name]
    renamed = {}
    for ours, value in model.state_dict().items():
        kind, _, rest = ours.partition(".")
        if kind == "stem":
            ours = f"patch_embed.{rest}"
        elif kind == "stages":
            stage, part, rest = rest.split(".", 2)
            ours = f"network.{places[int(stage)] if part == 'blocks' else convolution}.{rest}"
        renamed[ours] = value
    return renamed


def test_every_variant_is_listed():
    assert mlpzoo.list_models("vip_*") == list(PARAMETERS)
    assert mlpzoo.list_pretrained("vip_*") == ["vip_s7.in1k", "vip_m7.in1k", "vip_l7.in1k"]


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert [info["reduction"] for info in model.feature_info] == REDUCTIONS[name]
    assert model.norm.eps == 1e-5
    cfg = model.pretrained_cfg
    assert (cfg["pool_size"], cfg["fixed_input_size"], cfg["input_size"]) == ((16, 16), True, (3, 224, 224))
    assert cfg["crop_pct"] == (0.875 if name == "vip_l7" else 0.9)
    assert cfg["license"] == "mit (the readme adds: non-commercial use)"


def test_weights_no_program_can_fetch():
    with pytest.raises(ValueError, match=r"Google Drive.*github.com/houqb/VisionPermutator.*checkpoint_path="):
        mlpzoo.create_model("vip_s7", pretrained=True)


@pytest.mark.parametrize("name", PARAMETERS)
def test_authors_file(name, tmp_path):
    options = {"embed_dims": (16, 16, 32, 32)} if name == "vip_m7" else {}
    options |= {"embed_dims": (32,) * 4} if name == "vip_s14" else {}
    model = create(name, **options)
    assert sum(isinstance(module, Downsample) for module in model.modules()) == (name != "vip_s14")
    torch.save({"state_dict": authors_names(model, name)}, tmp_path / "weights.pth")
    restored = create(name, checkpoint_path=tmp_path / "weights.pth", **options)
    x = image(112, 112)
    assert torch.equal(restored(x), model(x))


def test_file_of_another_variant(tmp_path):
    model = create("vip_m7", embed_dims=(16, 16, 32, 32))
    torch.save(authors_names(model, "vip_m7"), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="Is it of another variant"):
        create(checkpoint_path=tmp_path / "weights.pth")


def test_features():
    model = mlpzoo.create_model("vip_s7", **SMALL, features_only=True).eval()
    assert [tuple(y.shape) for y in model(image(112, 112))] == [(2, 16, 16, 16)] + 3 * [(2, 32, 8, 8)]
    assert model.feature_info.reduction() == [7, 14, 14, 14]
    assert model.feature_info.channels() == [16, 32, 32, 32]


def test_agrees_with_its_reference():
    assert_twins_agree(create, image(112, 112))


@pytest.mark.parametrize("size", [56, (56, 112), (28, 14)], ids=str)
def test_other_image_sizes(size):
    model = create(img_size=size)
    height, width = (size, size) if isinstance(size, int) else size
    grids = [module.grid for module in model.modules() if isinstance(module, WeightedPermuteMLP)]
    assert grids == [(height // 7, width // 7)] + 4 * [(height // 14, width // 14)]
    assert model(image(height, width)).shape == (2, 5)
    assert model.pretrained_cfg["input_size"] == (3, height, width)


def test_sizes_of_the_papers_networks():
    sides = "14, 28, 42, 56, 84, 112, 168, 224, 336, 448, 672, 1344 pixels"
    for size in (256, 230, (224, 225), 0):
        with pytest.raises(ValueError, match=f"may each be {sides}"):
            mlpzoo.create_model("vip_s7", img_size=size, device="meta")
    assert mlpzoo.create_model("vip_s7", img_size=(448, 336), device="meta").config.image_size == (448, 336)


def test_images_of_another_size():
    model = create()
    for size in ((56, 56), (112, 119), (224, 224)):
        with pytest.raises(ValueError, match=r"bound to 112×112.*may each be 14, 28, 56, 112 pixels"):
            model(image(*size))
        with pytest.raises(ValueError, match="bound to 112×112"):
            model.forward_intermediates(image(*size))


def test_set_input_size_on_a_backbone():
    model = create()
    parameters = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_input_size((56, 112))
    x = image(56, 112)
    built = create(img_size=(56, 112))
    built.load_state_dict(parameters)
    assert torch.equal(model(x), built(x))
    with pytest.raises(ValueError, match="cannot be built for images of 60×60"):
        model.set_input_size(60)
    model.set_input_size()
    assert torch.equal(model(x), built(x))


def test_image_channels_and_patches():
    assert create(in_chans=1)(image(112, 112, channels=1)).shape == (2, 5)
    model = create(patch_size=14)
    assert [info["reduction"] for info in model.feature_info] == [14, 28, 28, 28]
    assert model(image(112, 112)).shape == (2, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (2, 1, 1, 1)}, "strides must be 1 for the first stage"),
        ({"strides": (1, 2)}, "strides must be a number of 1 or more for each stage"),
        ({"embed_dims": (15, 32, 32, 32)}, "height and width may each be"),
        ({"patch_size": 0}, "patch_size must be 1 or more"),
    ],
    ids=str,
)
def test_unusable_values(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)


def test_initial_values_are_the_authors():
    model = create()
    for name, parameter in model.named_parameters():
        if name.endswith(("mlp_h.weight", "mlp_c.weight", "reweight.fc2.weight", "mlp.fc1.weight")):
            assert 0.015 < float(parameter.detach().std()) < 0.025, name
    assert not model.head.bias.any()
    assert isinstance(model.stages[0].downsample, nn.Identity)


def test_dynamic_img_size():
    """Images are padded to the next size that works, and the channels cut anew."""
    model = create(dynamic_img_size=True).eval()
    fixed = create(img_size=(56, 28))
    fixed.load_state_dict(model.state_dict())
    fixed.eval()
    x = image(50, 28)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 6))
    torch.testing.assert_close(model(x), fixed(padded))
    assert model.stages[0].blocks[0].attn.grid == (16, 16)
    with pytest.raises(ValueError, match=r"got an image of 120×28 pixels.*may each be 14, 28, 56, 112 pixels"):
        model(image(120, 28))
