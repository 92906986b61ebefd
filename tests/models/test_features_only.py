"""What detection and segmentation codebases ask of `features_only=True`."""

import dataclasses
import logging

import pytest
import timm
import torch
from families import CASES, names
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mlpzoo
from mlpzoo.layers import CycleFC
from mlpzoo.models import FAMILIES

SMALL = {"embed_dims": (8, 12, 16, 24), "depths": (1, 2, 1, 1)}


def features(**options):
    return timm.create_model("cyclemlp_b1", features_only=True, **{**SMALL, **options}).eval()


def image(height=64, width=96):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@settings(max_examples=20, deadline=None)
@given(height=st.integers(32, 140), width=st.integers(32, 140))
def test_maps_shrink_by_ceiling_after_the_stem(height, width):
    """The stem rounds as the authors' does: 7×7 patches every 4 pixels, padded by 2."""
    maps = features(out_indices=(0, 1, 2, 3))(image(height, width))
    sides = [((height + 1) // 4, (width + 1) // 4)]
    for _ in range(3):
        sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
    assert [tuple(y.shape[2:]) for y in maps] == sides
    assert [y.shape[1] for y in maps] == list(SMALL["embed_dims"])
    assert all(y.is_contiguous() for y in maps)


@pytest.mark.parametrize(
    ("indices", "reductions"), [((1, 2, 3), [8, 16, 32]), ((-1,), [32]), (2, [16, 32]), ((0, 2), [4, 16])], ids=str
)
def test_out_indices(indices, reductions):
    net = features(out_indices=indices)
    assert net.feature_info.reduction() == reductions
    assert [y.shape[1] for y in net(image())] == net.feature_info.channels()


@pytest.mark.parametrize("indices", [(4,), (0, 9), (-5,), 5, 0], ids=str)
def test_wrong_out_indices(indices):
    with pytest.raises(ValueError, match=r"this model has (features 0 to 3|1 to 4 to give)"):
        features(out_indices=indices)


@pytest.mark.parametrize("family", names())
def test_unknown_options_are_refused(family):
    name, small = CASES[family].model, CASES[family].small
    with pytest.raises(TypeError, match="has no option 'ouput_stride'"):
        timm.create_model(name, features_only=True, ouput_stride=16, **small)
    if "output_stride" not in {field.name for field in dataclasses.fields(FAMILIES[family].variants[name])}:
        with pytest.raises(TypeError, match="has no option 'output_stride'"):
            timm.create_model(name, features_only=True, output_stride=16, **small)


@pytest.mark.parametrize("family", names())
def test_nothing_is_lost_on_the_meta_device(family):
    """Codebases build on the meta device, then fill in the state dict: what is not in it would stay garbage."""
    for module in CASES[family].create().modules():
        assert not module._non_persistent_buffers_set


@pytest.mark.parametrize(("stride", "sides"), [(32, (8, 4, 2)), (16, (8, 4, 4)), (8, (8, 8, 8))])
def test_output_stride(stride, sides):
    """Denser maps from the same weights: at the old positions stands what stood there."""
    plain, dense = features(), features(output_stride=stride)
    dense.load_state_dict(plain.state_dict())
    assert dense.feature_info.reduction() == [4, *(64 // side for side in sides)]
    # Its means are over the whole map, and the denser one has other means: let it weigh evenly instead.
    for net in (plain, dense):
        for name, parameter in net.named_parameters():
            if ".reweight." in name:
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
            elif "proj" not in name:
                nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(2))
    x = image(64, 90)
    for info, wanted, found in zip(dense.feature_info.info, plain(x), dense(x), strict=True):
        step = 4 * 2 ** info["index"] // info["reduction"]
        assert float(wanted.detach().std()) > 0.1
        torch.testing.assert_close(found[:, :, ::step, ::step], wanted, rtol=1e-3, atol=1e-4)


def test_output_stride_reads_further():
    def dilations(**options):
        layers = features(depths=(1, 1, 1, 1), **options).modules()
        return [layer.dilation for layer in layers if isinstance(layer, CycleFC)][::2]

    assert dilations() == [1, 1, 1, 1]
    assert dilations(output_stride=16) == [1, 1, 1, 2]
    assert dilations(output_stride=8) == [1, 1, 2, 4]
    assert dilations(output_stride=8, sampling="dilated", dilation=3) == [3, 3, 6, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 12}, "output_stride must be the stride of a stage, one of 4, 8, 16, 32, got 12"),
        ({"output_stride": 64}, "output_stride must be the stride of a stage"),
        ({"output_stride": 16, "sampling": "dense"}, "sampling must be 'cycle' or 'dilated' for output_stride 16"),
    ],
    ids=str,
)
def test_unusable_output_strides(options, message):
    with pytest.raises(ValueError, match=message):
        features(**options)


def test_feature_norms_are_the_stages_own():
    plain, normed = features(), features(feature_norms=True)
    normed.load_state_dict(plain.state_dict(), strict=False)
    for norm in normed.model.feature_norms:
        nn.init.normal_(norm.weight)
    for y, found, norm in zip(plain(image()), normed(image()), normed.model.feature_norms, strict=True):
        torch.testing.assert_close(found, norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_norms_of_maps_nobody_asked_for_are_gone():
    """RetinaNet takes three levels: a norm without a gradient would stall distributed training."""
    net = features(feature_norms=True, out_indices=(1, 2, 3)).train()
    names = [name for name in net.state_dict() if "feature_norms" in name]
    assert names == [f"model.feature_norms.{i}.{leaf}" for i in (1, 2, 3) for leaf in ("weight", "bias")]
    whole = features(feature_norms=True)
    assert set(net.state_dict()) < set(whole.state_dict())
    whole.load_state_dict(net.state_dict(), strict=False)
    for found, wanted in zip(net(image()), whole.train()(image())[1:], strict=True):
        torch.testing.assert_close(found, wanted)
    sum(y.square().mean() + y.mean() for y in net(image())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2, 3)], ids=str)
def test_classification_weights_in_a_backbone_with_norms(tmp_path, caplog, indices):
    classifier = mlpzoo.create_model("cyclemlp_b1", num_classes=5, **SMALL).eval()
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    with caplog.at_level(logging.WARNING, "mlpzoo"):
        net = mlpzoo.create_model(
            "cyclemlp_b1",
            features_only=True,
            feature_norms=True,
            out_indices=indices,
            checkpoint_path=tmp_path / "weights.pth",
            **SMALL,
        ).eval()
    assert f"left as initialized, for lack of a match in the file: feature_norms.{indices[0]}.bias" in caplog.text
    assert ("feature_norms.0" in caplog.text) == (0 in indices)
    maps = classifier.forward_intermediates(image(), indices, intermediates_only=True)
    for i, y, found in zip(indices, maps, net(image()), strict=True):
        torch.testing.assert_close(found, net.model.feature_norms[i](y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
