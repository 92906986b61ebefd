"""Weights bound to the grids of a pyramid's stages: any size, by the mechanism that isotropic networks use."""

import copy

import pytest
import torch
import torch.nn.functional as F
from models.grid_pyramid import FAMILY, AxisMixing, FullMixing, create, image
from timm.models._features import FeatureGetterNet

import mlpzoo
from mlpzoo import CheckpointError
from mlpzoo.models import FAMILIES
from mlpzoo.ops.resize import resize_input_tokens, resize_output_tokens

SIZES = [(48, 64), (64, 64), (16, 96), (80, 48)]


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(FAMILIES, "grid_pyramid", FAMILY)


def resized(model, size):
    """The same network told its size, its weights resized here by hand."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, AxisMixing):
            new = size[0] // 8, size[1] // 8
            for leaf, old_side, new_side in (("down", module.grid[0], new[0]), ("across", module.grid[1], new[1])):
                weight = resize_input_tokens(state[f"{name}.{leaf}.weight"], (1, old_side), (1, new_side))
                state[f"{name}.{leaf}.weight"] = resize_output_tokens(weight.T, (1, old_side), (1, new_side)).T
                bias = resize_output_tokens(state[f"{name}.{leaf}.bias"][None], (1, old_side), (1, new_side))
                state[f"{name}.{leaf}.bias"] = bias[0]
        if isinstance(module, FullMixing):
            new = size[0] // 16, size[1] // 16
            weight = resize_input_tokens(state[f"{name}.tokens.weight"], module.grid, new)
            state[f"{name}.tokens.weight"] = resize_output_tokens(weight.T, module.grid, new).T
    fixed = create(img_size=size)
    fixed.load_state_dict(state)
    return fixed


def test_grids():
    model = create()
    assert model.stage_grids == ((12, 16), (6, 8), (3, 4))
    grids = model.grids_at((64, 32))
    assert grids == {
        "stages.1.blocks.0.attn": (8, 4),
        "stages.1.blocks.1.attn": (8, 4),
        "stages.2.blocks.0.attn": (4, 2),
    }
    assert model.size_multiple == (16, 16)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_set_input_size(size):
    model, x = create(), image(*size)
    wanted = resized(model, size)
    frozen = model.stages[1].blocks[0].attn.down.weight.requires_grad_(False)
    model.set_input_size(size)
    assert model.config.image_size == size
    assert frozen is model.stages[1].blocks[0].attn.down.weight or size != (48, 64)
    assert not model.stages[1].blocks[0].attn.down.weight.requires_grad
    torch.testing.assert_close(model(x), wanted(x))
    with pytest.raises(
        ValueError, match=rf"got an image of 32×32 pixels, but this model is bound to {size[0]}×{size[1]}"
    ):
        model(image(32, 32))


def test_sizes_that_do_not_fit():
    model = create()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"72×64 pixels does not fit.*multiples of 16×16, such as \(64, 64\) or \(80, 64\)"
    ):
        model.set_input_size((72, 64))
    with pytest.raises(ValueError, match="multiples of 16×16"):
        create(img_size=50)
    assert model.config.image_size == (48, 64)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dynamic_img_size(size, checkpointing):
    model, x = create(dynamic_img_size=True), image(*size)
    model.set_grad_checkpointing(checkpointing)
    fixed = create()
    fixed.set_input_size(size)
    final, maps = fixed.forward_intermediates(x, norm=True)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            # matmul decides by whether a weight requires a gradient how it sums, recorded or not.
            torch.testing.assert_close(model(x), fixed(x), rtol=1e-5, atol=1e-6)
            found, found_maps = model.forward_intermediates(x, norm=True)
            for y, wanted in zip([found, *found_maps], [final, *maps], strict=True):
                torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    assert model.config.image_size == (48, 64)
    assert model.stages[2].blocks[0].attn.grid == (3, 4)


def test_images_are_padded_to_the_stride_of_the_last_stage():
    model, x = create(dynamic_img_size=True), image(50, 33)
    assert torch.equal(model(x), model(F.pad(x, (0, 15, 0, 14))))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_the_resizing(checkpointing):
    model, x = create(dynamic_img_size=True, dtype=torch.float64), image(64, 48).double()
    model.train().set_grad_checkpointing(checkpointing)
    model(x).square().mean().backward()
    for name in (
        "stages.1.blocks.1.attn.across.weight",
        "stages.1.blocks.0.attn.down.bias",
        "stages.2.blocks.0.attn.tokens.weight",
    ):
        parameter = model.get_parameter(name)
        steepest = parameter.grad.abs().argmax()
        found = float(parameter.grad.flatten()[steepest])
        assert abs(found) > 1e-7
        with torch.no_grad():
            moved = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[steepest] += step
                moved.append(float(model(x).square().mean()))
            parameter.view(-1)[steepest] += 1e-5
        assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"full": False}, {"axes": False}], ids=["both", "axes", "full"])
@pytest.mark.parametrize(("trained", "asked"), [((64, 64), (48, 80)), ((48, 64), (64, 64)), ((96, 48), (48, 64))])
def test_a_checkpoint_of_another_size(tmp_path, options, trained, asked):
    source = create(img_size=trained, **options)
    torch.save(source.state_dict(), tmp_path / "file.pth")
    model = create(img_size=asked, **options)
    square = trained[0] == trained[1]
    if not square and "axes" in options:
        with pytest.raises(CheckpointError, match=r"bound to 1[28] tokens and the model to .* in stages\.2.*img_size="):
            mlpzoo.load_checkpoint(model, tmp_path / "file.pth")
        report = mlpzoo.load_checkpoint(model, tmp_path / "file.pth", img_size=trained)
    else:
        report = mlpzoo.load_checkpoint(model, tmp_path / "file.pth")
    assert "token grid resized" in report.adapted[0]
    source.set_input_size(asked)
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_a_checkpoint_of_a_stated_size(tmp_path):
    source = create(img_size=(32, 96))
    torch.save(source.state_dict(), tmp_path / "file.pth")
    with pytest.raises(
        CheckpointError, match=r"bound to a grid of 4×12, but images of 64×48 pixels have 8×6 in stages\.1"
    ):
        mlpzoo.load_checkpoint(create(), tmp_path / "file.pth", img_size=(64, 48))
    mlpzoo.weights.save_safetensors(source, tmp_path / "file.safetensors")
    model = create(axes=True)
    mlpzoo.load_checkpoint(model, tmp_path / "file.safetensors")
    source.set_input_size((48, 64))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_whose_stages_disagree(tmp_path):
    state = create(img_size=64).state_dict() | {
        name: value for name, value in create(img_size=96).state_dict().items() if "stages.2" in name
    }
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match="no image size at which all its weights fit"):
        mlpzoo.load_checkpoint(create(), tmp_path / "file.pth")


def test_a_backbone_without_its_bound_stages_takes_a_checkpoint_of_another_size(tmp_path):
    source = create(img_size=(64, 80))
    torch.save(source.state_dict(), tmp_path / "file.pth")
    model = create()
    model.prune_intermediate_layers([0], prune_norm=True)
    mlpzoo.load_checkpoint(model, tmp_path / "file.pth")
    assert torch.equal(model.stem.proj.weight, source.stem.proj.weight)


def test_features_only():
    net = FeatureGetterNet(create(dynamic_img_size=True), out_indices=(0, 1, 2)).eval()
    assert net.feature_info.reduction() == [4, 8, 16]
    for size in ((48, 64), (80, 50)):
        padded = [side + -side % 16 for side in size]
        for y, reduction in zip(net(image(*size)), (4, 8, 16), strict=True):
            assert y.shape[2:] == (padded[0] // reduction, padded[1] // reduction)


def test_state_dict_round_trip_after_resizing():
    model = create()
    model.set_input_size((64, 32))
    twin = create(img_size=(64, 32))
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(twin(image(64, 32)), model(image(64, 32)))


@pytest.mark.skipif(torch.__version__.startswith("2.11."), reason="PyTorch 2.11 cannot follow the making of a view")
def test_export_and_compile():
    torch.compiler.reset()
    model, auto = create(dynamic_img_size=True, depths=(1, 1, 1)), torch.export.Dim.AUTO
    program = torch.export.export(model, (image(64, 80),), dynamic_shapes={"x": {2: auto, 3: auto}}).module()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((64, 80), (48, 64), (50, 90)):
        for run in (program, compiled):
            torch.testing.assert_close(run(image(*size)), model(image(*size)))
