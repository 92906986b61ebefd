"""Every layout that is read: the authors' of every variant, in older and newer flax, timm's and torchvision's."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
import torchvision
from families import CASES
from families.resmlp import resmlp
from families.vit import vit, vit_today
from safetensors.torch import load_file
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.models import FAMILIES, families
from mlpzoo.weights.identify import identify

VARIANTS = [
    # One of each family in the default suite.
    pytest.param(family.name, name, id=name, marks=[pytest.mark.slow] * (i > 0))
    for family in families()
    for i, name in enumerate(family.variants)
]
CASES_WITH_LISTS = [name for name, case in CASES.items() if case.key_lists]


@dataclasses.dataclass
class NamesAndShapes:
    """A file of which nothing but names and shapes may be asked."""

    shapes: dict
    metadata: dict = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_authors_files_of_every_variant(family, name):
    """Every name is consumed, every parameter filled, in its shape, and no other variant fits."""
    config = FAMILIES[family].variants[name]
    assert CASES[family].key_lists
    for key_list in CASES[family].key_lists:
        found = identify(NamesAndShapes(key_list(config)))
        assert found.overrides == {}
        assert {found.name, *(each.name for each in found.alike)} == {name, *CASES[family].alike.get(name, ())}


@pytest.mark.parametrize("family", CASES_WITH_LISTS)
def test_authors_files_fill_every_parameter(family, tmp_path):
    case = CASES[family]
    model = case.create(**case.shallow)
    for i, key_list in enumerate(case.key_lists):
        arrays = {name: np.random.default_rng(1).normal(size=shape) for name, shape in key_list(model.config).items()}
        if any("/" in name for name in arrays):
            path = tmp_path / f"{i}.npz"
            np.savez(path, **arrays)
        else:
            path = tmp_path / f"{i}.pth"
            tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}
            torch.save({case.wrapper: tensors} if case.wrapper else tensors, path)
        for value in model.state_dict().values():
            value.fill_(float("nan") if value.is_floating_point() else -1)
        report = mlpzoo.load_checkpoint(model, path)
        assert (report.fresh, report.adapted, report.not_finite) == ((), (), ())


@pytest.mark.parametrize("options", [{"num_classes": 21843}, {"img_size": 384}, {"in_chans": 1}], ids=str)
def test_what_differs_from_the_variant_is_told(options):
    config = dataclasses.replace(FAMILIES["vit"].variants["vit_b32"], **options)
    shapes = vit(config)
    shapes["embedding/kernel"] = (32, 32, config.in_chans, 768)
    if "img_size" in options:
        options = {"img_size": (384, 384)}
    found = identify(NamesAndShapes(shapes))
    assert (found.name, found.overrides) == ("vit_b32", options)


def test_representation_layer_is_told():
    config = dataclasses.replace(FAMILIES["vit"].variants["vit_b16"], representation_size=768, num_classes=21843)
    found = identify(NamesAndShapes(vit(config)))
    assert found.overrides == {"representation_size": 768, "num_classes": 21843}


def test_nothing_is_made_up():
    shapes = resmlp(FAMILIES["resmlp"].variants["resmlp_s12"])
    assert identify(NamesAndShapes({**shapes, "surprise": (1,)})) is None
    assert identify(NamesAndShapes({name: shape for name, shape in shapes.items() if name != "norm.beta"})) is None
    assert identify(NamesAndShapes({**shapes, "norm.beta": (385,)})) is None
    assert identify(NamesAndShapes({**shapes, "patch_embed.proj.weight": ()})) is None
    assert identify(NamesAndShapes({})) is None


def random_model(name, **options):
    model = mlpzoo.create_model(name, **options).eval()
    return randomize(model)


def randomize(model):
    """Parameters of no particular kind, so that a swapped or missing one changes the logits."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


MIXER = {"embed_dim": 8, "depth": 3, "tokens_mlp_dim": 6, "channels_mlp_dim": 12, "img_size": 64, "num_classes": 5}
VIT = {"embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_dim": 20, "img_size": 64, "num_classes": 5}


def test_older_mixer(tmp_path):
    model = random_model("mixer_s16", **MIXER)
    state = model.state_dict()
    arrays = {
        "embedding/kernel": state["stem.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["stem.proj.bias"],
    }
    for i in range(3):
        block = f"Mixer/encoderblock_{i}"
        # The flax of that time counted the modules of a block all together.
        for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            arrays[f"{block}/{theirs}/scale"] = state[f"blocks.{i}.{ours}.weight"]
            arrays[f"{block}/{theirs}/bias"] = state[f"blocks.{i}.{ours}.bias"]
        for ours, theirs in (("mlp_tokens", "token_mixing_phase_1"), ("mlp_channels", "channel_mixing_phase_3")):
            for n in (1, 2):
                arrays[f"{block}/{theirs}/kernel{n}"] = state[f"blocks.{i}.{ours}.fc{n}.weight"].T[None]
                arrays[f"{block}/{theirs}/bias{n}"] = state[f"blocks.{i}.{ours}.fc{n}.bias"][None]
    arrays |= {"Mixer/encoder_norm/scale": state["norm.weight"], "Mixer/encoder_norm/bias": state["norm.bias"]}
    arrays |= {"head/kernel": state["head.weight"].T, "head/bias": state["head.bias"]}
    np.savez(tmp_path / "old.npz", **{name: value.numpy() for name, value in arrays.items()})

    loaded = mlpzoo.create_model("mixer_s16", checkpoint_path=tmp_path / "old.npz", **MIXER)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("kind", ["class token without a position", "class token with one", "no class token"])
@pytest.mark.parametrize("place", ["pos_embedding", "Transformer/pos_embedding", "params/pos_embedding"])
def test_big_vision(tmp_path, kind, place):
    class_token = kind != "no class token"
    options = {**VIT, "class_token": class_token, "global_pool": "token" if class_token else "avg"}
    model = random_model("vit_s16", **options)
    if kind == "class token without a position":
        nn.init.zeros_(model.pos_embed[:, :1])
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    prefix = "params/" if place.startswith("params/") else ""
    arrays = {}
    for theirs in vit_today(model.config):
        leaf = theirs.split("/")[-1]
        block = theirs.split("encoderblock_")[-1].split("/")[0]
        ours = {"scale": "weight", "kernel": "weight", "bias": "bias"}.get(leaf, leaf)
        if theirs.startswith("embedding"):
            value = state[f"stem.proj.{ours}"]
            value = value.transpose(2, 3, 1, 0) if leaf == "kernel" else value
        elif theirs == "cls":
            value = state["cls_token"]
        elif leaf == "pos_embedding":
            value = state["pos_embed"][:, 1:] if kind == "class token without a position" else state["pos_embed"]
            theirs = place.removeprefix("params/")
        elif "Attention" in theirs and "/out/" not in theirs:
            part = ("query", "key", "value").index(theirs.split("/")[-2])
            value = state[f"blocks.{block}.attn.qkv.{ours}"][12 * part : 12 * (part + 1)]
            value = value.T.reshape(12, 3, 4) if leaf == "kernel" else value.reshape(3, 4)
        elif "/out/" in theirs:
            value = state[f"blocks.{block}.attn.proj.{ours}"]
            value = value.T.reshape(3, 4, 12) if leaf == "kernel" else value
        elif "Dense" in theirs:
            value = state[f"blocks.{block}.mlp.fc{int(theirs.split('Dense_')[1][0]) + 1}.{ours}"]
            value = value.T if leaf == "kernel" else value
        elif "LayerNorm" in theirs:
            value = state[f"blocks.{block}.norm{int(theirs.split('LayerNorm_')[1][0]) + 1}.{ours}"]
        elif "encoder_norm" in theirs:
            value = state[f"norm.{ours}"]
        else:
            value = state[f"head.{ours}"].T if leaf == "kernel" else state[f"head.{ours}"]
        arrays[prefix + theirs] = value
    np.savez(tmp_path / "bv.npz", **arrays)

    loaded = mlpzoo.create_model("vit_s16", checkpoint_path=tmp_path / "bv.npz", **options)
    for name, value in loaded.state_dict().items():
        assert np.array_equal(value, state[name]), name


TWINS = pytest.mark.parametrize(
    "twin", [twin for case in CASES.values() for twin in case.twins], ids=lambda twin: twin.name
)


def test_every_layout_of_timms_is_tested():
    with_twins = {name for name, case in CASES.items() if case.twins}
    assert with_twins == {family.name for family in families() if family.to_timm}
    for family in families():
        assert set(family.timm_twins) <= set(family.variants)
        assert all(timm.is_model(theirs) for theirs in family.timm_twins.values())


@TWINS
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_from_timm(twin, suffix, tmp_path):
    theirs = randomize(twin.build()).eval()
    path = tmp_path / "timm.file"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(theirs.state_dict(), path)
    ours = mlpzoo.create_model(twin.model, checkpoint_path=path, **twin.options).eval()
    assert_same_logits(ours, theirs, twin.tolerance)


@TWINS
def test_to_timm_and_back(twin, tmp_path):
    theirs, ours = twin.build(), random_model(twin.model, **twin.options)
    state = mlpzoo.timm_state_dict(ours)
    theirs.load_state_dict(state, strict=True)
    assert_same_logits(theirs.eval(), ours, twin.tolerance)
    mlpzoo.weights.save_safetensors(ours, tmp_path / "timm.safetensors", layout="timm")
    written = load_file(tmp_path / "timm.safetensors")
    assert {name: value.shape for name, value in written.items()} == {name: v.shape for name, v in state.items()}
    back = mlpzoo.create_model(twin.model, checkpoint_path=tmp_path / "timm.safetensors", **twin.options)
    for name, value in back.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("mixer_b16_224", "mixer_b16"), ("resmlp_12_224", "resmlp_s12"), ("vit_base_patch16_224", "vit_b16")],
)
def test_timms_own_sizes(theirs, ours, tmp_path):
    """The names people know, at full size."""
    theirs = timm.create_model(theirs).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = mlpzoo.create_model(ours, checkpoint_path=tmp_path / "timm.pth", act_layer="gelu").eval()
    assert_same_logits(ours, theirs, 1e-5, size=224)


def assert_same_logits(a, b, tolerance, size=64):
    torch.manual_seed(5)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        found, expected = a(x), b(x)
    spread = expected.std()
    assert spread > 1e-3
    assert (found - expected).abs().max() <= tolerance * spread


def test_timm_has_no_such_family():
    with pytest.raises(ValueError, match="timm has no CycleMLP; it has ConvMixer, gMLP, "):
        mlpzoo.timm_state_dict(mlpzoo.create_model("cyclemlp_b1", device="meta"))
    with pytest.raises(TypeError, match="needs a model of mlpzoo, got Linear"):
        mlpzoo.timm_state_dict(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="timm's gMLP has nothing like blocks.0.mlp_channels.attn"):
        mlpzoo.timm_state_dict(mlpzoo.create_model("gmlp_ti16", attn_dim=64, device="meta"))


def test_torchvision(tmp_path):
    theirs = torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=20, num_classes=5
    )
    theirs = randomize(theirs).eval()
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    ours = mlpzoo.create_model("vit_s16", checkpoint_path=tmp_path / "tv.pth", act_layer="gelu", **VIT).eval()
    assert_same_logits(ours, theirs, 1e-5)


def test_a_file_of_another_variant_is_named(tmp_path):
    config = FAMILIES["resmlp"].variants["resmlp_s12"]
    state = {name: torch.zeros(shape) for name, shape in resmlp(config).items()}
    torch.save({"model": state}, tmp_path / "resmlp_12.pth")
    for wrong in ("resmlp_s24", "mixer_s16", "cyclemlp_b1"):
        with pytest.raises(CheckpointError, match=r"It fits create_model\('resmlp_s12'\)"):
            mlpzoo.create_model(wrong, checkpoint_path=tmp_path / "resmlp_12.pth")


def test_files_that_look_alike_are_told_apart_by_their_name(tmp_path):
    """IdentityFormer and PoolFormerV2 have the same tensors, for pooling has none."""
    key_list = CASES["metaformer"].key_lists[0]
    shapes = key_list(FAMILIES["metaformer"].variants["metaformer_poolv2_s12"])
    # One number stands for all, so that the file is small.
    state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    for stem, name in (
        ("poolformerv2_s12", "metaformer_poolv2_s12"),
        ("identityformer_s12", "metaformer_identity_s12"),
    ):
        torch.save(state, tmp_path / f"{stem}.pth")
        assert mlpzoo.identify_checkpoint(tmp_path / f"{stem}.pth").name == name
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(CheckpointError, match="metaformer_identity_s12 and metaformer_poolv2_s12 hold tensors of the"):
        mlpzoo.identify_checkpoint(tmp_path / "mine.pth")
    model = mlpzoo.create_model("metaformer_poolv2_s12", device="cpu")
    report = mlpzoo.load_checkpoint(model, tmp_path / "identityformer_s12.pth")
    assert "it is metaformer_identity_s12.sail_in1k, trained with token_mixers=['identity'," in report.notes[0]


def test_a_file_written_here_says_what_it_is_of(tmp_path):
    """What its tensors do not tell: a token mixer without parameters, where partitions go, the family."""
    identity = mlpzoo.create_model("metaformer_identity_s12")
    mlpzoo.weights.save_safetensors(identity, tmp_path / "identity.safetensors")
    found = mlpzoo.identify_checkpoint(tmp_path / "identity.safetensors")
    assert (found.name, found.overrides) == ("metaformer_identity_s12", {})
    pool = mlpzoo.create_model("metaformer_poolv2_s12")
    (note,) = mlpzoo.load_checkpoint(pool, tmp_path / "identity.safetensors").notes
    assert "saved from a network that runs token_mixers=['identity'," in note

    small = CASES["repmlpnet"].small
    moved = mlpzoo.create_model("repmlpnet_t224", exact=False, **small)
    mlpzoo.weights.save_safetensors(moved, tmp_path / "moved.safetensors")
    (note,) = mlpzoo.load_checkpoint(
        mlpzoo.create_model("repmlpnet_t224", **small), tmp_path / "moved.safetensors"
    ).notes
    assert "runs exact=False, and the model runs True" in note


def test_networks_of_two_families_that_look_alike(tmp_path):
    """A PoolFormer without its pooling, which has no parameters, is a RIFormer in deploy form."""
    riformer = mlpzoo.create_model("riformer_s12", deploy=True)
    torch.save(riformer.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(CheckpointError, match="metaformer_pool_s12 and riformer_s12 hold tensors of the same names"):
        mlpzoo.identify_checkpoint(tmp_path / "mine.pth")
    with pytest.raises(CheckpointError, match="is of metaformer_pool_s12 or riformer_s12, not of mixer_b16"):
        mlpzoo.identify_checkpoint(tmp_path / "mine.pth", name="mixer_b16")
    done = mlpzoo.convert(tmp_path / "mine.pth", tmp_path / "mine.safetensors", model="riformer_s12")
    assert (done.name, done.options) == ("riformer_s12", {"deploy": True})
    assert mlpzoo.identify_checkpoint(tmp_path / "mine.safetensors").name == "riformer_s12"
    report = mlpzoo.load_checkpoint(mlpzoo.create_model("metaformer_pool_s12"), tmp_path / "mine.safetensors")
    assert "it was saved from a network of the family 'riformer'" in report.notes


def test_counts_of_operations_are_left_aside(tmp_path):
    model = CASES["riformer"].create()
    counted = {**model.state_dict(), "total_ops": torch.zeros(1), "stages.0.blocks.0.total_params": torch.zeros(1)}
    torch.save(counted, tmp_path / "counted.pth")
    assert mlpzoo.load_checkpoint(CASES["riformer"].create(), tmp_path / "counted.pth").left_out == ()


@pytest.mark.parametrize("family", ["cyclemlp", "asmlp", "hire_mlp", "riformer", "ramlp"])
def test_a_file_of_dense_prediction_in_a_classifier(family, tmp_path):
    """Its norms are of feature maps, so the final norm starts anew, and the report says so."""
    dense = randomize(CASES[family].create(features_only=True, feature_norms=True).model)
    torch.save(dense.state_dict(), tmp_path / "dense.pth")
    model = CASES[family].create()
    report = mlpzoo.load_checkpoint(model, tmp_path / "dense.pth")
    anew = tuple(name for name in model.state_dict() if name.startswith(("norm.", "pre_logits.", "head.")))
    assert report.fresh == tuple(sorted(anew))
    assert all(name.startswith("feature_norms.") for name in report.left_out)
    assert "it is of dense prediction: its norms of feature maps were left out" in report.notes[-1]
    loaded = {name: value for name, value in model.state_dict().items() if name not in anew}
    assert all(torch.equal(value, dense.state_dict()[name]) for name, value in loaded.items())
