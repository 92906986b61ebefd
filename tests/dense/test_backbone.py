import copy
import importlib
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from dense.networks import COLUMNAR, FAMILIES, assert_learns, image, small
from hypothesis import given, settings
from hypothesis import strategies as st
from models import grid_pyramid
from timm.models import _registry as timm_registry
from torch import nn

import mlpzoo
from mlpzoo.dense import DenseBackbone, SimpleFeaturePyramid, WindowedFeatures, layer_decay_groups
from mlpzoo.registry import register


def create(family, **options):
    name, options = small(family, **options)
    return DenseBackbone(name, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"out_indices": (1, 3)}], ids=str)
def test_maps_of_strides_4_to_32(family, options):
    net = create(family, pyramid_channels=8, **options)
    assert net.strides == ((8, 32) if options else (4, 8, 16, 32))
    for size in ((96, 128), (40, 36), (131, 79)):
        maps = net(image(*size))
        for y, stride, channels in zip(maps, net.strides, net.channels, strict=True):
            assert y.shape[:2] == (2, channels)
            assert y.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
    sum((y * torch.randn_like(y)).mean() for y in net(image())).backward()
    assert_learns(net)


@pytest.mark.parametrize("patch_size", [4, 8, 16, 32])
def test_patches_of_any_power_of_two(patch_size):
    net = create("mixer", patch_size=patch_size, img_size=64, pyramid_channels=8)
    assert [tuple(y.shape[2:]) for y in net(image(64, 96))] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_convmixer_with_patches_of_a_power_of_two():
    net = create("convmixer", patch_size=8, pyramid_channels=8)
    assert [tuple(y.shape[2:]) for y in net(image(64, 96))] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    with pytest.raises(ValueError, match="strides must be powers of 2, got 7: build the network with a patch_size"):
        create("convmixer")


def test_output_stride():
    net = create("cyclemlp", output_stride=8)
    assert net.strides == (4, 8, 8, 8)
    assert [y.shape[2] for y in net(image())] == [24, 12, 12, 12]


def test_each_level_is_rescaled_by_itself():
    """Each position of the finest map depends on the one token it lies in, up to the reach of a 3×3 convolution."""
    pyramid = SimpleFeaturePyramid(16, 16, 8).eval()
    x = torch.randn(1, 16, 6, 6)
    changed = x.clone()
    changed[..., 5, 5] += 1
    for y, other, stride in zip(pyramid(x), pyramid(changed), pyramid.strides, strict=True):
        moved = (y != other).any(1)[0]
        first = 5 * 16 // stride - 1
        assert moved.any()
        assert not moved[:first].any()
        assert not moved[:, :first].any()


def test_coarsest_level_is_a_maximum():
    pyramid = SimpleFeaturePyramid(4, 16, 4, (16, 32))
    x = torch.randn(1, 4, 5, 6)
    pooled = pyramid.levels[1][0](x)
    assert pooled.shape == (1, 4, 3, 3)
    assert torch.equal(pooled[..., 0, 0], x[..., :2, :2].amax((2, 3)))
    assert torch.equal(pooled[..., 2, 0], x[..., 4:, :2].amax((2, 3)))


@pytest.mark.parametrize("family", COLUMNAR)
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_window_of_its_size_is_the_network_itself(family, overlap):
    name, options = small(family)
    whole = mlpzoo.create_model(name, features_only=True, out_indices=(-1,), **options).eval()
    windowed = WindowedFeatures(whole, (48, 64), overlap)
    x = image(48, 64)
    torch.testing.assert_close(windowed(x)[0], whole(x)[0])
    assert windowed(image(31, 50))[0].shape[2:] == (2, 4)


def test_windows_are_independent():
    name, options = small("mixer")
    whole = mlpzoo.create_model(name, features_only=True, out_indices=(1, 3), **options).eval()
    x = image(96, 192)
    for i, y in enumerate(WindowedFeatures(whole, (48, 64))(x)):
        for row in range(2):
            for column in range(3):
                part = x[:, :, 48 * row : 48 * row + 48, 64 * column : 64 * column + 64]
                found = y[:, :, 3 * row : 3 * row + 3, 4 * column : 4 * column + 4]
                torch.testing.assert_close(found, whole(part)[i], rtol=1e-4, atol=1e-5)


def test_overlapping_windows_are_averaged():
    name, options = small("mixer")
    whole = mlpzoo.create_model(name, features_only=True, out_indices=(-1,), **options).eval()
    x = image(48, 96)
    windowed = WindowedFeatures(whole, (48, 64), 0.5)
    assert windowed.step == (32, 32)
    left, right = whole(x[..., :64])[0], whole(x[..., 32:])[0]
    y = windowed(x)[0]
    torch.testing.assert_close(y[..., :2], left[..., :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y[..., 2:4], (left[..., 2:] + right[..., :2]) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y[..., 4:], right[..., 2:], rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 130), width=st.integers(1, 130), overlap=st.sampled_from([0.0, 0.25, 0.7, 0.99]))
def test_windows_cover_every_image(height, width, overlap):
    name, options = small("resmlp")
    windowed = WindowedFeatures(mlpzoo.create_model(name, features_only=True, out_indices=(-1,), **options), (48, 64))
    windowed = WindowedFeatures(windowed.net, (48, 64), overlap)
    y = windowed(image(height, width, 1))[0]
    assert y.shape[2:] == (-(-height // 16), -(-width // 16))
    assert y.isfinite().all()


@pytest.mark.parametrize("family", COLUMNAR)
@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_windowed_backbones_learn(family, overlap):
    net = create(family, window=True, window_overlap=overlap, pyramid_channels=8)
    sum((y * torch.randn_like(y)).mean() for y in net(image(100, 130))).backward()
    assert_learns(net)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stages", [0, 2])
def test_frozen_stages(family, stages):
    net = create(family, frozen_stages=stages, drop_path_rate=0.01, pyramid_channels=8)
    sum((y * torch.randn_like(y)).mean() for y in net(image())).backward()
    assert_learns(net)
    network = net.network
    parts = network.stages if family == "cyclemlp" else network.blocks
    frozen = {p for module in (network.stem, *parts[:stages]) for p in module.parameters()}
    frozen |= set(network.parameters(recurse=False))
    assert {p for p in network.parameters() if not p.requires_grad} == frozen
    assert not network.stem.training
    assert not any(m.training for part in parts[:stages] for m in part.modules())
    assert all(m.training for part in parts[stages:] for m in part.modules())
    net.eval()
    assert not any(m.training for m in net.modules())


def test_norm_eval():
    net = create("convmixer", patch_size=8, norm_eval=True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms]
    net(image())
    assert all(torch.equal(m.running_mean, old) for m, old in zip(norms, before, strict=True))
    assert net.network.blocks.training


def test_checkpointing():
    plain, saving = create("cyclemlp"), create("cyclemlp", grad_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        sum(y.square().mean() for y in net(image())).backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ("family", "options", "error", "message"),
    [
        ("cyclemlp", {"out_indices": (0, 4)}, ValueError, r"feature indices \[4\] are out of range"),
        ("mixer", {"out_indices": 5}, ValueError, "asked for the last 5 features"),
        ("cyclemlp", {"frozen_stages": 5}, ValueError, "frozen_stages must be from -1 to 4, got 5"),
        ("cyclemlp", {"window": True}, ValueError, "window=True is for networks bound to one image size"),
        ("vip", {}, ValueError, "vip_s7 has maps of strides 7, 14, 14, 14, and dense heads want 4, 8, 16 and 32"),
        ("mixer", {"window": True, "window_overlap": 1.0}, ValueError, r"overlap must be in \[0, 1\)"),
        ("mixer", {"ouput_stride": 8}, TypeError, "has no option 'ouput_stride'"),
        ("mixer", {"embed_dim": 18}, ValueError, "18 channels cannot be halved on the way from stride 16 to 4"),
    ],
    ids=str,
)
def test_unusable_options(family, options, error, message):
    with pytest.raises(error, match=message):
        create(family, **options)


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown model 'cyclemlp_b6'. The nearest: cyclemlp_b"):
        DenseBackbone("cyclemlp_b6")


def test_unusable_images():
    net = create("cyclemlp")
    with pytest.raises(ValueError, match="got images of 31×200 pixels, smaller than one position of the coarsest map"):
        net(image(31, 200))
    with pytest.raises(ValueError, match=r"got list, but a backbone takes one tensor.*padded to one size"):
        net([image(64, 64)[0], image(64, 96)[0]])
    with pytest.raises(ValueError, match=r"got shape \(3, 64, 64\)"):
        net(image(64, 64)[0])
    assert create("cyclemlp", out_indices=(0, 1))(image(20, 20))[1].shape[2:] == (3, 3)


def test_copies():
    net = create("mixer", pyramid_channels=8).eval()
    with torch.no_grad():
        expected = net(image())
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert all(torch.equal(a, b) for a, b in zip(twin(image()), expected, strict=True))


def test_padding_of_a_batch_is_the_only_difference_between_sizes():
    """Detectors pad: what a network says of an image depends on it only through what is seen."""
    net = create("mixer", pyramid_channels=8).eval()
    x = image(90, 120)
    padded = F.pad(x, (0, 8, 0, 6))
    for a, b in zip(net(x), net(padded), strict=True):
        assert torch.equal(a, b[:, :, : a.shape[2], : a.shape[3]])


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_decay(family):
    net = nn.Sequential(create(family, pyramid_channels=8), nn.Conv2d(8, 2, 1))
    groups = layer_decay_groups(net, lr=0.1, weight_decay=0.05, layer_decay=0.5)
    rates = {p: group["lr"] for group in groups for p in group["params"]}
    decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(rates) == set(net.parameters())
    assert sum(len(group["params"]) for group in groups) == len(rates)
    network = net[0].network
    blocks = [b for s in network.stages for b in s.blocks] if family == "cyclemlp" else list(network.blocks)
    by_block = [{rates[p] for p in block.parameters()} for block in blocks]
    assert all(len(rate) == 1 for rate in by_block)
    steps = [b.pop() / a.pop() for a, b in zip(copy.deepcopy(by_block), copy.deepcopy(by_block[1:]), strict=False)]
    assert all(step in (2.0, 4.0) for step in steps), "downsamples are layers of their own"
    assert rates[net[1].weight] == 0.1
    assert max(rates[p] for p in blocks[-1].parameters()) == 0.1
    assert rates[network.stem.proj.weight] < min(rates[p] for p in blocks[0].parameters())
    assert decays[net[1].weight] == 0.05
    assert decays[net[1].bias] == 0.0
    if family == "vit":
        assert decays[network.pos_embed] == 0.0
    torch.optim.AdamW(groups)


def test_layer_decay_refuses():
    with pytest.raises(ValueError, match="Linear has no backbone of mlpzoo.dense"):
        layer_decay_groups(nn.Linear(1, 1), lr=1, weight_decay=0, layer_decay=0.5)
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\], got 2"):
        layer_decay_groups(create("cyclemlp"), lr=1, weight_decay=0, layer_decay=2)


@pytest.mark.parametrize("client", ["mmengine", "detectron2"])
def test_missing_clients_are_named(client, monkeypatch):
    for name in [client, *(name for name in sys.modules if name.startswith(f"{client}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"mlpzoo.dense.{client}", raising=False)
    with pytest.raises(ImportError, match=rf"mlpzoo\.dense\.{client}.* which is not installed or does not load"):
        importlib.import_module(f"mlpzoo.dense.{client}")


def test_unknown_clients_are_told_which_there_are():
    with pytest.raises(
        AttributeError, match="mlpzoo.dense has no 'icevision'. torchvision: fpn_backbone here.*mlpzoo.tasks.*mmengine"
    ):
        getattr(mlpzoo.dense, "icevision")  # noqa: B009
    with pytest.raises(ImportError, match="cannot import name 'icevision'"):
        from mlpzoo.dense import icevision  # noqa: F401


@pytest.fixture
def bound_pyramid(monkeypatch):
    """A pyramid with weights bound to the grids of two of its three stages, registered for one test."""
    for name in ("module_to_models", "model_to_module", "model_entrypoints", "model_default_cfgs", "model_with_tags"):
        monkeypatch.setattr(timm_registry, f"_{name}", copy.deepcopy(getattr(timm_registry, f"_{name}")))
    monkeypatch.setitem(mlpzoo.models.FAMILIES, "grid_pyramid", grid_pyramid.FAMILY)
    register(grid_pyramid.FAMILY)
    return "grid_pyramid"


@pytest.mark.parametrize("window", [False, True])
def test_a_pyramid_bound_to_one_size_takes_any(bound_pyramid, window):
    net = DenseBackbone(bound_pyramid, out_indices=(0, 1, 2), window=window)
    assert net.strides == (4, 8, 16)
    for size in ((48, 64), (96, 128), (40, 36), (131, 79)):
        maps = net(image(*size))
        assert [tuple(y.shape[2:]) for y in maps] == [(-(-size[0] // s), -(-size[1] // s)) for s in net.strides]
    sum((y * torch.randn_like(y)).mean() for y in maps).backward()
    assert_learns(net)
