"""What a network says of what it cannot take, and timm's calls that fewer networks have."""

import pytest
import timm
import torch
from families import sampled
from models import tiny
from timm.data import resolve_data_config

import mlpzoo
from mlpzoo.models import FAMILIES, Backbone
from mlpzoo.ops import attention
from mlpzoo.ops.attention import attention_reference

WRONG = {
    "one image": (lambda x: x[0], r"got one image, \(3, \d+, \d+\), .*call model\(image\[None\]\)"),
    "a list of batches": (lambda x: x[None], "a tensor of 5 dimensions"),
    "tokens": (lambda x: x.flatten(1), "a tensor of 2 dimensions"),
    "no height": (lambda x: x[:, :, :0], r"images of 0×\d+ pixels, which hold nothing"),
    "nothing": (lambda x: x[:, :, :0, :0], "images of 0×0 pixels, which hold nothing"),
    "gray": (lambda x: x[:, :1], "images of 1 channels, but this model takes 3: build it with in_chans=1"),
    "transparent": (lambda x: torch.cat([x, x[:, :1]], 1), "images of 4 channels, but this model takes 3"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), r"takes 3: if these are .*permute\(0, 3, 1, 2\)"),
    "bytes": (lambda x: (255 * x).byte(), "images of torch.uint8, where normalized floating point is expected"),
}


def image_of(model):
    return torch.rand(2, 3, *(model.config.image_size or (64, 96)))


@pytest.fixture(scope="module", params=sampled(tiny.NAMES))
def model(request):
    return tiny.create(request.param).eval()


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_batch_of_images(model, wrong):
    spoil, message = WRONG[wrong]
    x = spoil(image_of(model))
    for call in (model, model.forward_features, model.forward_intermediates):
        with pytest.raises(ValueError, match=message):
            call(x)


@pytest.mark.parametrize("indices", [[], ()])
def test_no_features(model, indices):
    with pytest.raises(ValueError, match="asked for no features: choose among 0 to"):
        model.forward_intermediates(image_of(model), indices=indices)


SMALLEST = {family.name: next(iter(family.variants)) for family in FAMILIES.values() if family.task == "classification"}


@pytest.mark.parametrize("family", SMALLEST)
@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_the_data_config_has_the_models_channels(family, in_chans):
    for create in (mlpzoo.create_model, timm.create_model):
        model = create(SMALLEST[family], in_chans=in_chans, device="meta")
        assert isinstance(model, Backbone)
        for config in (model.pretrained_cfg, model.default_cfg, resolve_data_config({}, model=model)):
            assert config["input_size"][0] == in_chans
    with pytest.raises(ValueError, match="asked for no features"):
        mlpzoo.create_model(SMALLEST[family], features_only=True, out_indices=[], device="meta")


VIT = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "mlp_dim": 32, "num_classes": 5}


@pytest.fixture(scope="module")
def twins():
    """A ViT of ours and timm's, with the same weights."""
    torch.manual_seed(0)
    ours = mlpzoo.create_model("vit_ti16", act_layer="gelu", **VIT).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    options = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "mlp_ratio": 2, "num_classes": 5}
    theirs = timm.models.VisionTransformer(**options).eval()
    theirs.load_state_dict(mlpzoo.timm_state_dict(ours))
    return ours, theirs


def assert_same(found, expected):
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        return
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


MASKS = {
    "none": None,
    "bool": torch.arange(5) < 4,
    "numbers": torch.linspace(-3, 3, 25).reshape(5, 5),
    "a batch": torch.linspace(-3, 3, 50).reshape(2, 1, 5, 5),
}


@pytest.mark.parametrize("mask", MASKS)
def test_timms_calls_of_a_vit(twins, mask):
    ours, theirs = twins
    x, mask = torch.randn(2, 3, 32, 32), MASKS[mask]
    if mask is not None and mask.ndim == 1:
        mask = mask.expand(5, 5)
    with torch.no_grad():
        assert_same(ours(x, attn_mask=mask), theirs(x, attn_mask=mask))
        assert_same(ours.forward_features(x, attn_mask=mask), theirs.forward_features(x, attn_mask=mask))
        for options in (
            {"return_prefix_tokens": True},
            {"return_prefix_tokens": True, "norm": True, "output_fmt": "NLC"},
            {"return_prefix_tokens": True, "intermediates_only": True, "indices": [0, 2]},
            {"indices": 1, "stop_early": True},
        ):
            options = {**options, "attn_mask": mask}
            assert_same(ours.forward_intermediates(x, **options), theirs.forward_intermediates(x, **options))
        for options in ({}, {"n": 2}, {"n": [0, 2], "norm": True}, {"reshape": True, "return_prefix_tokens": True}):
            options = {**options, "attn_mask": mask}
            assert_same(ours.get_intermediate_layers(x, **options), theirs.get_intermediate_layers(x, **options))


def test_a_vit_without_a_class_token_gives_no_pairs():
    model = mlpzoo.create_model("vit_s16_gap", **VIT)
    (map_BCHW,) = model.forward_intermediates(
        torch.randn(1, 3, 32, 32), 1, intermediates_only=True, return_prefix_tokens=True
    )
    assert map_BCHW.shape == (1, 16, 2, 2)
    with pytest.raises(ValueError, match="unknown output_fmt"):
        mlpzoo.create_model("vit_ti16", **VIT).forward_intermediates(
            torch.randn(1, 3, 32, 32), output_fmt="NHWC", return_prefix_tokens=True
        )


@pytest.mark.parametrize("mask", ["bool", "numbers", "a batch"])
def test_masked_attention_is_the_reference(mask):
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64).requires_grad_().unbind()
    mask = MASKS[mask].expand(5, 5) if mask == "bool" else MASKS[mask].double()
    found, expected = attention(q, k, v, mask=mask), attention_reference(q, k, v, mask=mask)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for one, other in zip(
        *(torch.autograd.grad((y * weights).sum(), (q, k, v)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)
