"""A checkpoint of one image size in a model of another: what must stay the same, stays the same."""

import math

import pytest
import torch
import torch.nn.functional as F
from families import CASES, names
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.ops.resize import resize_input_tokens, resize_output_tokens

# Family to a name, the options that make it small, and its weights by what their last axis does with tokens.
SIZE_BOUND = {
    "mixer": (
        "mixer_s16",
        {"embed_dim": 16, "depth": 2, "tokens_mlp_dim": 24, "channels_mlp_dim": 24, "num_classes": 5},
        {"reads": ["mlp_tokens.fc1.weight"], "writes": ["mlp_tokens.fc2.weight", "mlp_tokens.fc2.bias"], "both": []},
    ),
    "resmlp": (
        "resmlp_s12",
        {"embed_dim": 16, "depth": 2, "num_classes": 5},
        {"reads": [], "writes": ["linear_tokens.bias"], "both": ["linear_tokens.weight"]},
    ),
    "gmlp": (
        "gmlp_s16",
        {"embed_dim": 16, "depth": 2, "mlp_dim": 32, "num_classes": 5},
        {"reads": [], "writes": ["mlp_channels.gate.proj.bias"], "both": ["mlp_channels.gate.proj.weight"]},
    ),
    "vit": (
        "vit_s16",
        {"embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_dim": 20, "num_classes": 5},
        {"reads": [], "writes": [], "both": []},
    ),
}
FAMILIES = pytest.mark.parametrize("family", SIZE_BOUND)


def trained(family, **options):
    """A network at 224 pixels with weights of no particular kind."""
    name, small, _ = SIZE_BOUND[family]
    torch.manual_seed(2)
    model = mlpzoo.create_model(name, **small, **options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A file a family, saved at 224 pixels."""
    folder = tmp_path_factory.mktemp("sizes")
    paths = {}
    for family in SIZE_BOUND:
        paths[family] = folder / f"{family}.pth"
        torch.save({"model": trained(family).state_dict()}, paths[family])
    return paths


def at(family, checkpoints, img_size):
    name, small, _ = SIZE_BOUND[family]
    return mlpzoo.create_model(name, checkpoint_path=checkpoints[family], img_size=img_size, **small).eval()


def token_weights(model, family, kind):
    _, _, weights = SIZE_BOUND[family]
    return {f"blocks.{i}.{leaf}": model.get_parameter(f"blocks.{i}.{leaf}") for i in (0, 1) for leaf in weights[kind]}


def as_output_maps(weight):
    """One map over the tokens a row: of a weight whose first axis is the tokens, or of a bias."""
    return weight[None] if weight.ndim == 1 else weight.T


@FAMILIES
def test_another_size_runs_and_keeps_what_it_should(family, checkpoints):
    """The 224 checkpoint in a model of 160×256, a grid of 10×16 in place of 14×14."""
    model, original = at(family, checkpoints, (160, 256)), trained(family)
    assert model.stem.grid_size == (10, 16)
    assert torch.isfinite(model(torch.randn(2, 3, 160, 256))).all()
    for name, weight in token_weights(model, family, "reads").items():
        torch.testing.assert_close(weight.sum(-1), original.get_parameter(name).sum(-1), rtol=1e-5, atol=1e-5)
    for name, weight in token_weights(model, family, "writes").items():
        assert_same_maps(as_output_maps(weight), as_output_maps(original.get_parameter(name)), (14, 14), (10, 16))
    for name, weight in token_weights(model, family, "both").items():
        # Summed over what it reads, a weight that reads and writes is one map over what it writes.
        found, expected = weight.sum(-1)[None], original.get_parameter(name).sum(-1)[None]
        assert_same_maps(found, expected, (14, 14), (10, 16))
    if family == "vit":
        assert torch.equal(model.pos_embed[:, 0], original.pos_embed[:, 0])
        assert_same_maps(model.pos_embed[0, 1:].T, original.pos_embed[0, 1:].T, (14, 14), (10, 16))


def assert_same_maps(found, expected, old, new):
    """The same maps, seen at another resolution: bicubic interpolation in float64 says which."""
    maps = expected.detach().double().reshape(1, -1, *old)
    wanted = F.interpolate(maps, size=new, mode="bicubic", antialias=True).reshape(found.shape)
    torch.testing.assert_close(found.detach().double(), wanted, rtol=1e-4, atol=1e-4)


@FAMILIES
@pytest.mark.parametrize("img_size", [224, (160, 256), (448, 96)], ids=str)
def test_loading_equals_set_input_size(family, checkpoints, img_size):
    model, told = at(family, checkpoints, img_size), trained(family)
    told.set_input_size(img_size)
    for (name, found), wanted in zip(model.state_dict().items(), told.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", [name for name in names() if CASES[name].create(device="meta").config.image_size])
def test_small_networks_of_every_family_load_files_of_another_size(family, tmp_path):
    case = CASES[family]
    told = case.create()
    for parameter in told.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.save(told.state_dict(), tmp_path / "file.pth")
    loaded = case.create(img_size=case.another_size)
    mlpzoo.load_checkpoint(loaded, tmp_path / "file.pth", img_size=told.config.image_size)
    told.set_input_size(case.another_size)
    for (name, found), wanted in zip(loaded.state_dict().items(), told.state_dict().values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)


@FAMILIES
def test_the_same_size_is_the_identity(family, checkpoints):
    original = trained(family).state_dict()
    for name, value in at(family, checkpoints, 224).state_dict().items():
        assert torch.equal(value, original[name]), name


def test_a_constant_image_excites_the_same_units_at_every_size(checkpoints):
    """Hidden activations of the token mixing, for tokens that are all alike."""
    token = torch.randn(1, 1, 16)
    original = trained("mixer")
    for img_size in (112, (160, 256), 448):
        model = at("mixer", checkpoints, img_size)
        for ours, theirs in zip(model.blocks, original.blocks, strict=True):
            found = ours.mlp_tokens.fc1(token.expand(1, model.stem.num_patches, -1))
            expected = theirs.mlp_tokens.fc1(token.expand(1, 196, -1))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_vip_takes_the_sizes_whose_grids_divide_its_channels(tmp_path):
    """Its axis linears are channels × channels at every such size, so their values, sums included, stay as they are."""
    small = {"embed_dims": (16, 32, 32, 48), "depths": (1, 1, 1, 1)}
    original = mlpzoo.create_model("vip_s7", img_size=112, **small).eval()
    torch.save(original.state_dict(), tmp_path / "vip.pth")
    model = mlpzoo.create_model("vip_s7", img_size=(56, 112), checkpoint_path=tmp_path / "vip.pth", **small).eval()
    for name, value in model.state_dict().items():
        assert torch.equal(value, original.state_dict()[name]), name
    assert torch.isfinite(model(torch.randn(1, 3, 56, 112))).all()
    with pytest.raises(ValueError, match="cannot be built for images of 160×256.*may each be 14, 28, 56, 112 pixels"):
        mlpzoo.create_model("vip_s7", img_size=(160, 256), **small)


def smooth(model):
    """Give every token weight smooth maps: low-frequency cosines over the grid of 14×14."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 14), torch.linspace(0, 1, 14), indexing="ij")
    waves = [torch.cos(math.pi * (a * y + b * x)) for a in range(3) for b in range(3)]
    basis = torch.stack(waves).flatten(1)

    def maps(number):
        return torch.randn(number, len(basis)) @ basis / 3

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "mlp_tokens.fc1.weight" in name:
                parameter.copy_(maps(len(parameter)) / 196)
            elif "mlp_tokens.fc2.weight" in name:
                parameter.copy_(maps(parameter.shape[1]).T / parameter.shape[1])
            elif name.endswith(("mlp_tokens.fc2.bias", "linear_tokens.bias", "gate.proj.bias")):
                parameter.copy_(maps(1)[0])
            elif name.endswith(("linear_tokens.weight", "gate.proj.weight")):
                parameter.copy_(basis.T @ torch.randn(9, 9) @ basis / 196)
            elif name == "pos_embed":
                parameter[0, 1:] = maps(parameter.shape[-1]).T
    return model


@FAMILIES
def test_smooth_weights_answer_alike_at_twice_the_size(family, tmp_path):
    """Logits for a smooth image and for the same image at twice the resolution: docs/weights.md quotes the bound."""
    model = smooth(trained(family))
    torch.save(model.state_dict(), tmp_path / "smooth.pth")
    large = at(family, {family: tmp_path / "smooth.pth"}, 448)
    y, x = torch.meshgrid(torch.linspace(0, 1, 448), torch.linspace(0, 1, 448), indexing="ij")
    phases = torch.tensor([0.3, 1.1, 2.0])
    image = torch.stack([torch.sin(3 * y + phase) * torch.cos(2 * x + phase) for phase in phases])[None]
    half = F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        small_logits, large_logits = model(half), large(image)
    assert small_logits.std() > 1e-2
    assert (small_logits - large_logits).abs().max() < 0.15 * small_logits.std()


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    new=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_sums_are_kept_exactly(old, new, seed):
    torch.manual_seed(seed)
    weight = torch.randn(5, old[0] * old[1], dtype=torch.float64)
    resized = resize_input_tokens(weight, old, new)
    torch.testing.assert_close(resized.sum(-1), weight.sum(-1), rtol=1e-12, atol=1e-12)
    constant = torch.full((2, old[0] * old[1]), 1.5, dtype=torch.float64)
    torch.testing.assert_close(resize_output_tokens(constant, old, new), constant[:, :1].expand(2, new[0] * new[1]))


@settings(max_examples=30, deadline=None)
@given(side=st.integers(6, 12), factor=st.integers(2, 3), seed=st.integers(0, 1000))
def test_there_and_back_is_close_on_smooth_maps(side, factor, seed):
    torch.manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    a, b, c = torch.randn(3).double()
    weight = (a * torch.cos(math.pi * y) + b * torch.cos(math.pi * x) + c).double().reshape(1, -1)
    for resize in (resize_input_tokens, resize_output_tokens):
        there = resize(weight, (side, side), (side * factor, side * factor))
        back = resize(there, (side * factor, side * factor), (side, side))
        assert (back - weight).abs().max() < 0.05 * (weight.abs().max() + 1e-6)


@FAMILIES
def test_grids_that_are_not_square(family, tmp_path):
    """A file saved at 96×160: the file of ours says so itself, any other needs to be told."""
    model = trained(family, img_size=(96, 160))
    name, small, _ = SIZE_BOUND[family]
    mlpzoo.weights.save_safetensors(model, tmp_path / "own.safetensors")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    expected = trained(family, img_size=(96, 160))
    expected.set_input_size((128, 64))

    def assert_resized(loaded):
        for (key, found), wanted in zip(loaded.state_dict().items(), expected.state_dict().values(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=key)

    assert_resized(mlpzoo.create_model(name, checkpoint_path=tmp_path / "own.safetensors", img_size=(128, 64), **small))
    other = mlpzoo.create_model(name, img_size=(128, 64), **small)
    with pytest.raises(CheckpointError, match=r"bound to 60 tokens and the model to 32 \(8×4\).*img_size="):
        mlpzoo.load_checkpoint(other, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="bound to 60 tokens, but images of 96×96 pixels have 6×6"):
        mlpzoo.load_checkpoint(other, tmp_path / "bare.pth", img_size=96)
    mlpzoo.load_checkpoint(other, tmp_path / "bare.pth", img_size=(96, 160))
    assert_resized(other)


@FAMILIES
def test_as_many_tokens_in_another_shape(family, checkpoints, tmp_path):
    """14×14 tokens are 7×28 as well. A state dict of ours is taken for what the model is, unless it says otherwise."""
    name, small, _ = SIZE_BOUND[family]
    wide = {**small, "img_size": (112, 448)}
    model = mlpzoo.create_model(name, checkpoint_path=checkpoints[family], **wide)
    original = trained(family)
    for key, value in model.state_dict().items():
        assert torch.equal(value, original.state_dict()[key]), key
    mlpzoo.weights.save_safetensors(original, tmp_path / "square.safetensors")
    model = mlpzoo.create_model(name, checkpoint_path=tmp_path / "square.safetensors", **wide)
    original.set_input_size((112, 448))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, original.state_dict()[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("stated", ["[0, 16]", "[16]", '"large"', "{", "[1.5, 2]", "[[1], 2]"])
def test_sizes_that_are_none(stated, tmp_path):
    from safetensors.torch import save_file

    model = trained("mixer")
    save_file(model.state_dict(), tmp_path / "file.safetensors", metadata={"img_size": stated})
    with pytest.raises(CheckpointError, match="image size"):
        mlpzoo.load_checkpoint(model, tmp_path / "file.safetensors")


def test_raftmlp_by_resized_weights_loads_a_file_of_another_size(tmp_path):
    """Hidden units do not follow the image, so the file fits; it is as if the network were resized afterwards."""
    small = {key: value for key, value in CASES["raftmlp"].small.items() if key != "img_size"}
    options = {**small, "token_resize": "weights", "num_classes": 7}
    trained = mlpzoo.create_model("raftmlp_s", img_size=64, **options).eval()
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    loaded = mlpzoo.create_model("raftmlp_s", img_size=96, checkpoint_path=tmp_path / "trained.pth", **options).eval()
    trained.set_input_size(96)
    x = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(loaded(x), trained(x))
