import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_dim": 40, "img_size": 64, "num_classes": 5}
HYBRID = {"resnet_depths": (1, 1), "resnet_width": 32, "patch_size": 16, "img_size": (64, 96)}
# Every one was checked against the authors' code by `jax.eval_shape`, name by name.
PARAMETERS = {
    "vit_ti16": 5_717_416,
    "vit_s32": 22_878_952,
    "vit_s16": 22_050_664,
    "vit_b32": 88_224_232,
    "vit_b16": 86_567_656,
    "vit_b8": 86_576_872,
    "vit_l32": 306_535_400,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
    "vit_s32_gap": 22_878_184,
    "vit_s16_gap": 22_049_896,
    "vit_b32_gap": 88_222_696,
    "vit_b16_gap": 86_566_120,
    "vit_r_ti16": 6_337_704,
    "vit_r26_s32": 36_431_912,
    "vit_r26_b32": 101_383_976,
    "vit_r50_b16": 98_659_112,
    "vit_r50_l32": 328_994_856,
}
CONFIGURATIONS = {
    "token": {},
    "average": {"global_pool": "avg"},
    "no class token": {"global_pool": "avg", "class_token": False},
    "representation": {"representation_size": 17},
    "hybrid": HYBRID,
    "root alone": {**HYBRID, "resnet_depths": (), "class_token": False, "global_pool": "avg"},
}
configured = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def create(name="vit_s16", **options):
    model = mlpzoo.create_model(name, **{**SMALL, **options}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def image_of(model, batch=2):
    return torch.randn(batch, model.in_chans, *model.stem.img_size)


def flax_names(model, released: bool) -> dict[str, np.ndarray]:
    """A model's parameters as the authors save them: as today's flax numbers modules, or as the files released do."""
    attention, norm2, mlp = "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"
    if released:
        attention, norm2, mlp = "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"
    arrays, heads = {}, model.config.num_heads
    for name, tensor in model.state_dict().items():
        value = tensor.numpy()
        kind = "bias" if name.endswith("bias") else "scale" if value.ndim == 1 else "kernel"
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif kind == "kernel" and value.ndim == 2:
            value = value.T
        path = name.removesuffix(".weight").removesuffix(".bias")
        if path in ("cls_token", "pos_embed"):
            arrays[{"cls_token": "cls", "pos_embed": "Transformer/posembed_input/pos_embedding"}[path]] = value
            continue
        if path.startswith("stem.backbone"):
            flax = path.removeprefix("stem.backbone.").replace(".", "/")
            if released and kind != "kernel":
                value = value.reshape(1, 1, 1, -1)
        elif path.startswith("blocks"):
            _, block, rest = path.split(".", 2)
            if rest == "attn.qkv":
                for part, which in zip(np.split(value, 3, axis=-1), ("query", "key", "value"), strict=True):
                    flax = f"Transformer/encoderblock_{block}/{attention}/{which}/{kind}"
                    arrays[flax] = part.reshape(*part.shape[:-1], heads, -1)
                continue
            if rest == "attn.proj" and kind == "kernel":
                value = value.reshape(heads, -1, value.shape[-1])
            rest = {
                "norm1": "LayerNorm_0",
                "attn.proj": f"{attention}/out",
                "norm2": norm2,
                "mlp.fc1": f"{mlp}/Dense_0",
                "mlp.fc2": f"{mlp}/Dense_1",
            }[rest]
            flax = f"Transformer/encoderblock_{block}/{rest}"
        else:
            flax = {"stem.proj": "embedding", "norm": "Transformer/encoder_norm", "pre_logits.fc": "pre_logits"}.get(
                path, path
            )
        arrays[f"{flax}/{kind}"] = value
    return arrays


def save(model, path, released=True, prefix=""):
    np.savez(path, **{prefix + name: value for name, value in flax_names(model, released).items()})
    return path


def assert_equal_models(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def test_every_variant_is_listed():
    assert mlpzoo.list_models("vit_*") == list(PARAMETERS)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("name", "reduction", "grid"),
    [
        ("vit_b8", 8, (28, 28)),
        ("vit_h14", 14, (16, 16)),
        ("vit_r_ti16", 32, (7, 7)),
        ("vit_r26_s32", 32, (7, 7)),
        ("vit_r50_b16", 16, (14, 14)),
        ("vit_r50_l32", 32, (7, 7)),
    ],
)
def test_strides(name, reduction, grid):
    model = mlpzoo.create_model(name, device="meta")
    assert {info["reduction"] for info in model.feature_info} == {reduction}
    assert model.stem.grid_size == grid
    assert model.stem.backbone(torch.empty(1, 3, 224, 224, device="meta")).shape[2:] == tuple(
        side * size for side, size in zip(grid, model.stem.proj.kernel_size, strict=True)
    )


@configured
def test_every_parameter_learns(options):
    model = create(**options).train()
    model(image_of(model)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A bias of the keys adds the same to every weight before the softmax, which takes it out again.
        if "qkv.bias" not in name:
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("options", [CONFIGURATIONS["no class token"], {**HYBRID, "representation_size": 17}], ids=str)
def test_traced_and_exported(options):
    model = create(**options)
    x = image_of(model)
    expected = model(x)
    assert float(expected.detach().abs().max()) > 1e-2
    for found in (torch.fx.symbolic_trace(model)(x), torch.export.export(model, (x,)).module()(x)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@configured
def test_the_same_size_changes_nothing_and_another_one_works(options):
    model = create(**options)
    x = image_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_input_size(model.stem.img_size)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    height, width = model.stem.img_size
    model.set_input_size((height + 48, width + 16))
    assert model(image_of(model)).shape == (2, 5)
    maps = model.forward_intermediates(image_of(model), intermediates_only=True)
    assert maps[-1].shape == (2, 24, (height + 48) // 16, (width + 16) // 16)
    with pytest.raises(ValueError, match="bound to"):
        model(x)
    with pytest.raises(ValueError, match="does not divide into patches"):
        model.set_input_size(height + 1)


def test_flax_starting_values():
    model = mlpzoo.create_model("vit_s16", **{**SMALL, "embed_dim": 96, "representation_size": 200, **HYBRID})
    assert torch.all(model.cls_token == 0)
    assert torch.all(model.head.weight == 0)
    assert float(model.pos_embed.detach().std()) == pytest.approx(0.02, rel=0.1)
    fc1 = model.blocks[0].mlp.fc1
    assert float(fc1.weight.detach().abs().max()) == pytest.approx((6 / (96 + 40)) ** 0.5, rel=0.02)
    assert 0 < float(fc1.bias.detach().abs().max()) < 1e-5
    assert float(model.pre_logits.fc.weight.detach().std()) == pytest.approx(96**-0.5, rel=0.05)
    assert torch.all(model.stem.backbone.block2.unit1.gn3.weight == 0)


@pytest.mark.parametrize("options", [{}, CONFIGURATIONS["average"], CONFIGURATIONS["no class token"]], ids=str)
def test_same_function_as_timms(options):
    model = create(**options, img_size=(48, 80), in_chans=4)
    pool = options.get("global_pool", "token")
    has_token = options.get("class_token", True)
    peer = TimmViT(
        img_size=(48, 80), patch_size=16, in_chans=4, num_classes=5, global_pool=pool, embed_dim=24, depth=2,
        num_heads=3, mlp_ratio=40 / 24, class_token=has_token, act_layer="gelu_tanh", fc_norm=False,
    ).eval()  # fmt: skip
    peer.load_state_dict({name.replace("stem.", "patch_embed."): v for name, v in model.state_dict().items()})
    x = image_of(model)
    torch.testing.assert_close(model(x), peer(x), rtol=1e-4, atol=1e-5)


def test_representation_is_a_tanh_layer_before_the_head():
    model = create(representation_size=17)
    x = image_of(model)
    hidden = torch.tanh(F.linear(model.forward_features(x)[:, 0], model.pre_logits.fc.weight, model.pre_logits.fc.bias))
    torch.testing.assert_close(model(x), model.head(hidden))
    assert model.head_hidden_size == 17
    model.prune_intermediate_layers(2)
    model.reset_classifier(3, "token")
    assert model(x).shape == (2, 3)


def test_class_token_and_average_see_the_same_tokens():
    model = create()
    x = image_of(model)
    tokens = model.forward_features(x)
    assert tokens.shape == (2, 17, 24)
    torch.testing.assert_close(model(x), model.head(tokens[:, 0]))
    head = model.head
    model.reset_classifier(5, "avg")
    model.head = head
    torch.testing.assert_close(model(x), head(tokens[:, 1:].mean(1)))


def test_position_embeddings_are_resized_as_timm_does():
    model = create()
    before = model.pos_embed.detach().clone()
    model.set_input_size((96, 48))
    expected = resample_abs_pos_embed(before, [6, 3], [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(model.pos_embed, expected)
    assert torch.equal(model.pos_embed[:, :1], before[:, :1])
    model.pos_embed.requires_grad_(False)
    model.set_input_size(64)
    assert not model.pos_embed.requires_grad


def test_another_patch_size():
    model = create()
    model.set_input_size(patch_size=8)
    assert model.stem.proj.weight.shape == (24, 3, 8, 8)
    assert model.pos_embed.shape == (1, 65, 24)
    assert model(image_of(model)).shape == (2, 5)


@configured
@pytest.mark.parametrize("released", [False, True], ids=["today", "as released"])
def test_authors_file(tmp_path, options, released):
    trained = create(**options)
    path = save(trained, tmp_path / "vit.npz", released, "opt/target/" if released else "params/")
    loaded = mlpzoo.create_model("vit_s16", **{**SMALL, **options}, checkpoint_path=path).eval()
    assert_equal_models(loaded, trained)


def test_two_numberings_are_not_mixed(tmp_path):
    arrays = flax_names(create(), released=False)
    arrays.update(flax_names(create(), released=True))
    np.savez(tmp_path / "vit.npz", **arrays)
    with pytest.raises(CheckpointError, match="names are unknown"):
        mlpzoo.create_model("vit_s16", **SMALL, checkpoint_path=tmp_path / "vit.npz")


def test_big_visions_position_embeddings(tmp_path):
    options = CONFIGURATIONS["no class token"]
    trained = create(**options)
    arrays = flax_names(trained, released=False)
    arrays["pos_embedding"] = arrays.pop("Transformer/posembed_input/pos_embedding")
    np.savez(tmp_path / "vit.npz", **{f"params/{name}": value for name, value in arrays.items()})
    loaded = mlpzoo.create_model("vit_s16", **SMALL, **options, checkpoint_path=tmp_path / "vit.npz")
    assert_equal_models(loaded, trained)


@pytest.mark.parametrize("options", [CONFIGURATIONS["token"], CONFIGURATIONS["no class token"], HYBRID], ids=str)
def test_file_of_another_grid(tmp_path, options):
    trained = create(**{**options, "img_size": 64})
    path = save(trained, tmp_path / "vit.npz")
    loaded = mlpzoo.create_model("vit_s16", **{**SMALL, **options, "img_size": (96, 128)}, checkpoint_path=path)
    trained.set_input_size((96, 128))
    assert_equal_models(loaded, trained)


def test_first_convolution_of_a_hybrid_adapts(tmp_path):
    trained = create(**HYBRID)
    path = save(trained, tmp_path / "vit.npz")
    grey = mlpzoo.create_model("vit_s16", **{**SMALL, **HYBRID}, in_chans=1, checkpoint_path=path)
    weight = trained.stem.backbone.conv_root.weight
    torch.testing.assert_close(grey.stem.backbone.conv_root.weight, weight.sum(1, keepdim=True))
    assert mlpzoo.create_model("vit_r26_s32", device="meta").pretrained_cfg["first_conv"] == "stem.backbone.conv_root"
    assert mlpzoo.create_model("vit_s32", device="meta").pretrained_cfg["first_conv"] == "stem.proj"


@pytest.mark.parametrize(
    ("trained_with", "built_with", "message"),
    [
        ({"representation_size": 17}, {}, r"pre_logits/bias.*built with representation_size=17"),
        ({"representation_size": 17}, {"representation_size": 9}, "built with representation_size=17"),
        ({}, {"representation_size": 9}, "built with representation_size=None"),
        ({}, CONFIGURATIONS["no class token"], r"\(cls\).*built with class_token=True, global_pool='token'"),
        (CONFIGURATIONS["no class token"], {}, "built with class_token=False, global_pool='avg'"),
        ({"depth": 3}, {}, "Is it of another variant"),
        ({}, HYBRID, "Is it of another variant"),
        ({"mlp_dim": 48}, {}, r"fc1.*is 48.* in the file and 40.*Is it of another variant"),
    ],
    ids=str,
)
def test_file_that_does_not_fit_says_what_it_wants(tmp_path, trained_with, built_with, message):
    path = save(create(**trained_with), tmp_path / "vit.npz")
    with pytest.raises(CheckpointError, match=message):
        mlpzoo.create_model("vit_s16", **{**SMALL, **built_with, "img_size": 64}, checkpoint_path=path)


def test_bare_names_are_the_papers_networks():
    assert mlpzoo.create_model("vit_h14", device="meta").num_classes == 1000
    assert mlpzoo.create_model("vit_r50_b16", device="meta").stem.img_size == (224, 224)
    assert mlpzoo.model_info("vit_r50_b16").top1 is None
    assert timm.get_pretrained_cfg("vit_r50_b16").input_size == (3, 224, 224)
    with pytest.raises(ValueError, match=r"no released file fits vit_h14.*choose one of vit_h14\.orig_in21k"):
        mlpzoo.create_model("vit_h14", pretrained=True)
    assert mlpzoo.model_info("vit_b16").top1 == 84.53
    tagged = mlpzoo.create_model("vit_h14.orig_in21k", device="meta")
    assert (tagged.num_classes, tagged.head_hidden_size) == (0, 1280)
    tagged = mlpzoo.create_model("vit_r50_b16.orig_in21k_ft_in1k_384", device="meta")
    assert tagged.stem.img_size == (384, 384)
    assert tagged.pretrained_cfg["input_size"] == (3, 384, 384)
    assert tagged.pretrained_cfg["url"].endswith("/imagenet21k+imagenet2012/R50+ViT-B_16.npz")


def test_released_files_are_named_once():
    files = mlpzoo.models.FAMILIES["vit"].weights
    assert len(files) == 58
    assert len({weights.url for weights in files.values()}) == 58
    for tagged, weights in files.items():
        assert weights.mean == ((0.485, 0.456, 0.406) if "deit" in tagged else (0.5, 0.5, 0.5))


def test_embeddings_do_not_decay():
    assert create().no_weight_decay() == {"pos_embed", "cls_token"}
    assert create(**CONFIGURATIONS["no class token"]).no_weight_decay() == {"pos_embed"}


def test_pooling_a_class_token_that_is_not_there():
    with pytest.raises(ValueError, match="needs a class token.*choose 'avg'"):
        create(class_token=False)
    model = create(**CONFIGURATIONS["no class token"])
    with pytest.raises(ValueError, match="needs a class token"):
        model.reset_classifier(3, "token")
    assert model(image_of(model)).shape == (2, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "24 channels do not divide into 5 heads"),
        ({"mlp_dim": 0}, "mlp_dim must be 1 or more"),
        ({"representation_size": 0}, "representation_size must be 1 or more"),
        ({"attn_drop_rate": 1.0}, r"attn_drop_rate must be in \[0, 1\)"),
        ({**HYBRID, "patch_size": 4}, "multiple of 8"),
        ({**HYBRID, "img_size": (64, 100)}, r"64×100 pixels does not divide into patches of 16×16"),
        ({**HYBRID, "resnet_width": 16}, "multiple of 32"),
    ],
    ids=str,
)
def test_unusable_values(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)


def test_configs_survive_json():
    assert mlpzoo.models.vit.VitConfig(**SMALL, resnet_depths=[2, 2]).resnet_depths == (2, 2)
