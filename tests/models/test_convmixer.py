import re

import pytest
import torch
from timm.models.convmixer import ConvMixer
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError

SMALL = {"embed_dim": 12, "depth": 3, "kernel_size": 5, "num_classes": 5}
PARAMETERS = {"convmixer_d1536_20": 51_625_960, "convmixer_d768_32": 21_110_248, "convmixer_d1024_20": 24_383_464}
PLACES = {"depthwise.proj": "0.fn.0", "depthwise.norm": "0.fn.2", "pointwise.proj": "1", "pointwise.norm": "3"}


def create(name="convmixer_d768_32", **options):
    """A network as if trained, with statistics that are no mere zeros and ones."""
    model = mlpzoo.create_model(name, **{**SMALL, **options}).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 2)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
        else:
            nn.init.normal_(value, std=0.3)
    return model


def timms_names(model) -> dict[str, torch.Tensor]:
    """The state dict under timm's names."""
    renamed = {}
    for name, value in model.state_dict().items():
        for ours, theirs in {"stem.proj": "stem.0", "stem.norm": "stem.2", **PLACES}.items():
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


def authors_names(model) -> dict[str, torch.Tensor]:
    """The state dict as places in the authors' one list: patches, activation, norm, blocks, pool, flatten, head."""
    depth = len(model.blocks)
    return {
        re.sub(r"^head", str(depth + 5), re.sub(r"^blocks\.(\d+)", lambda m: str(int(m[1]) + 3), name)).removeprefix(
            "stem."
        ): value
        for name, value in timms_names(model).items()
    }


def assert_equal_models(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def test_every_variant_is_listed():
    assert mlpzoo.list_models("convmixer_*") == list(PARAMETERS)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("act", [nn.GELU, nn.ReLU])
def test_same_function_as_timms(act):
    model = create(act_layer=act.__name__.lower())
    peer = ConvMixer(12, 3, kernel_size=5, patch_size=7, num_classes=5, act_layer=act).eval()
    peer.load_state_dict(timms_names(model))
    x = torch.randn(2, 3, 50, 64)
    torch.testing.assert_close(model(x), peer(x), rtol=1e-4, atol=1e-5)
    found, expected = (network.forward_intermediates(x, intermediates_only=True) for network in (model, peer))
    for y, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [authors_names, timms_names])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files(tmp_path, names, wrapped):
    trained, path = create(), tmp_path / "convmixer.pth.tar"
    state = names(trained)
    torch.save({"state_dict": state, "epoch": 150} if wrapped else state, path)
    loaded = mlpzoo.create_model("convmixer_d768_32", **SMALL, checkpoint_path=path)
    assert_equal_models(loaded, trained)
    assert int(loaded.stem.norm.num_batches_tracked) == 7


def test_format_is_named(tmp_path):
    model, path = create(), tmp_path / "convmixer.pth.tar"
    torch.save(authors_names(model), path)
    assert mlpzoo.load_checkpoint(model, path).format == "the authors' .pth.tar"
    torch.save(timms_names(model), path)
    assert mlpzoo.load_checkpoint(model, path).format == "timm's layout"


@pytest.mark.parametrize("state", ["running_mean", "num_batches_tracked"])
@pytest.mark.parametrize("names", [authors_names, timms_names])
def test_statistics_must_be_in_the_file(tmp_path, names, state):
    model, path = create(), tmp_path / "convmixer.pth.tar"
    tensors = names(model)
    del tensors[next(name for name in tensors if "fn.2" in name and name.endswith(state))]
    torch.save(tensors, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"no value for 1 parameters \(blocks\.0\.depthwise\.norm\.{state}\)"):
        mlpzoo.load_checkpoint(model, path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("depth", [2, 4])
def test_file_of_another_depth(tmp_path, depth):
    path = tmp_path / "convmixer.pth.tar"
    torch.save(authors_names(create(depth=depth)), path)
    with pytest.raises(CheckpointError, match="another variant"):
        create(checkpoint_path=path)


@pytest.mark.parametrize("extra", ["1.weight", "2.0.weight", "9.weight", "3.2.weight", "3.0.fn.1.weight"])
def test_names_that_are_no_convmixers(tmp_path, extra):
    path = tmp_path / "convmixer.pth.tar"
    torch.save({**authors_names(create()), extra: torch.zeros(12)}, path)
    with pytest.raises(CheckpointError, match=re.escape(extra)):
        create(checkpoint_path=path)


def test_released_files_say_their_activation():
    assert mlpzoo.list_pretrained("convmixer_*") == [
        "convmixer_d1536_20.in1k",
        "convmixer_d768_32.relu_in1k",
        "convmixer_d1024_20.in1k",
    ]
    relu = mlpzoo.create_model("convmixer_d768_32.relu_in1k", device="meta")
    gelu = mlpzoo.create_model("convmixer_d768_32", device="meta")
    for model, function in ((relu, nn.functional.relu), (gelu, nn.functional.gelu)):
        acts = [module for name, module in model.named_modules() if name.endswith(".act")]
        assert len(acts) == 65
        x = torch.linspace(-2, 2, 9)
        assert all(torch.equal(act(x), function(x)) for act in acts)
    cfg = relu.pretrained_cfg
    assert cfg["url"].endswith("/convmixer_768_32_ks7_p7_relu.pth.tar")
    assert (cfg["crop_pct"], cfg["interpolation"], cfg["mean"]) == (0.96, "bicubic", (0.485, 0.456, 0.406))
    with pytest.raises(ValueError, match=r"no released file fits.*choose one of convmixer_d768_32\.relu_in1k"):
        mlpzoo.create_model("convmixer_d768_32", pretrained=True)
    assert mlpzoo.model_info("convmixer_d1024_20").top1 == 76.94


@pytest.mark.parametrize(("name", "stride"), [("convmixer_d768_32", 7), ("convmixer_d1024_20", 14)])
@pytest.mark.parametrize("size", [(56, 84), (61, 29)])
def test_feature_maps_of_any_image(name, stride, size):
    model = mlpzoo.create_model(name, **SMALL, features_only=True).eval()
    assert model.feature_info.reduction() == [stride] * 3
    for y in model(torch.randn(1, 3, *size)):
        assert y.shape == (1, 12, size[0] // stride, size[1] // stride)


def test_checkpointing_counts_every_batch_once():
    x = torch.randn(4, 3, 28, 28)
    plain, checkpointed = create().train(), create().train()
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.set_grad_checkpointing()
    for model in (plain, checkpointed):
        model(x).square().mean().backward()
    assert_equal_models(checkpointed, plain)
    assert int(plain.blocks[0].depthwise.norm.num_batches_tracked) == 8
    for found, expected in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
    checkpointed(x)
    assert int(checkpointed.blocks[0].depthwise.norm.num_batches_tracked) == 9


def test_compiled_checkpointing_counts_every_batch_once_too():
    model = create().train()
    model.set_grad_checkpointing()
    torch.compile(model, backend="aot_eager", fullgraph=True)(torch.randn(4, 3, 28, 28)).sum().backward()
    assert int(model.blocks[0].depthwise.norm.num_batches_tracked) == 8


@pytest.mark.parametrize("field", ["embed_dim", "depth", "kernel_size", "patch_size"])
def test_unusable_values(field):
    with pytest.raises(ValueError, match=f"{field} must be 1 or more, got 0"):
        create(**{field: 0})
