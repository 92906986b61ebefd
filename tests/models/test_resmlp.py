import pytest
import torch
from timm.layers import DropPath
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError

SMALL = {"embed_dim": 24, "depth": 2, "img_size": 64, "num_classes": 5}
PARAMETERS = {
    "resmlp_s12": 15_350_872,
    "resmlp_s24": 30_020_680,
    "resmlp_s36": 44_690_488,
    "resmlp_b24": 115_736_776,
    "resmlp_b24_p8": 129_138_280,
}


def create(name="resmlp_s12", **options):
    model = mlpzoo.create_model(name, **{**SMALL, **options}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def authors_names(model) -> dict[str, torch.Tensor]:
    """The state dict under the names the authors save."""
    pairs = (("stem.", "patch_embed."), ("linear_tokens", "attn"), ("mlp_channels", "mlp"), (".ls", ".gamma_"))
    renamed = {}
    for name, value in model.state_dict().items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


def test_every_variant_is_listed():
    assert mlpzoo.list_models("resmlp_*") == list(PARAMETERS)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert {info["reduction"] for info in model.feature_info} == {8 if name.endswith("p8") else 16}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("resmlp_s12", 0.1),
        ("resmlp_s24", 1e-5),
        ("resmlp_s36", 1e-6),
        ("resmlp_b24", 1e-6),
        ("resmlp_b24_p8", 1e-6),
    ],
)
def test_layer_scale_starts_where_the_authors_start_it(name, scale):
    model = mlpzoo.create_model(name, **SMALL)
    for block in model.blocks:
        assert torch.all(block.ls1 == scale)
        assert torch.all(block.ls2 == scale)


def test_head_is_drawn_as_the_authors_draw_it():
    model = mlpzoo.create_model("resmlp_s12", **{**SMALL, "embed_dim": 400, "num_classes": 100})
    for _ in range(2):
        assert float(model.head.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert torch.all(model.head.bias == 0)
        model.reset_classifier(100)


def test_stochastic_depth_is_the_same_in_every_block():
    model = mlpzoo.create_model("resmlp_s12", **{**SMALL, "depth": 3}, drop_path_rate=0.2)
    assert [module.drop_prob for module in model.modules() if isinstance(module, DropPath)] == [0.2] * 3


@pytest.mark.parametrize("in_chans", [1, 3])
def test_same_function_as_timms(in_chans):
    model = create(in_chans=in_chans, img_size=48)
    peer = MlpMixer(5, 48, in_chans, 16, 2, 24, mlp_ratio=4, block_layer=ResBlock, norm_layer=Affine).eval()
    shapes = peer.state_dict()
    peer.load_state_dict({name: value.reshape(shapes[name].shape) for name, value in model.state_dict().items()})
    x = torch.randn(2, in_chans, 48, 48)
    torch.testing.assert_close(model(x), peer(x), rtol=1e-4, atol=1e-5)


def test_token_linear_can_run_either_way():
    model = create(img_size=(32, 80))
    plain = create(img_size=(32, 80), impl="reference")
    plain.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 80)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
    assert {block.linear_tokens.impl for block in plain.blocks} == {"reference"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_authors_file(tmp_path, wrapped):
    trained, path = create(), tmp_path / "resmlp.pth"
    state = authors_names(trained)
    torch.save({"model": state} if wrapped else state, path)
    loaded = mlpzoo.create_model("resmlp_s12", **SMALL, checkpoint_path=path)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


def test_authors_file_onto_another_grid(tmp_path):
    trained, path = create(), tmp_path / "resmlp.pth"
    torch.save(authors_names(trained), path)
    wider = mlpzoo.create_model("resmlp_s12", **{**SMALL, "img_size": (64, 112)}, checkpoint_path=path)
    trained.set_input_size((64, 112))
    for name, value in wider.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    assert wider.blocks[0].linear_tokens.weight.shape == (28, 28)


def test_file_of_another_variant(tmp_path):
    path = tmp_path / "resmlp.pth"
    torch.save(authors_names(create(depth=3)), path)
    with pytest.raises(CheckpointError, match=r"has 12 the model does not have \(blocks\.2\..*another variant"):
        mlpzoo.create_model("resmlp_s12", **SMALL, checkpoint_path=path)


def test_released_files():
    files = mlpzoo.list_pretrained("resmlp_*")
    assert len(files) == 11
    assert mlpzoo.create_model("resmlp_s12.fb_dino", device="meta").num_classes == 0
    assert mlpzoo.model_info("resmlp_b24_p8.fb_in22k_ft_in1k").top1 == 84.4
    cfg = mlpzoo.create_model("resmlp_s24", device="meta").pretrained_cfg
    assert cfg["url"] == "https://dl.fbaipublicfiles.com/deit/resmlp_24_no_dist.pth"
    assert (cfg["crop_pct"], cfg["interpolation"], cfg["mean"]) == (0.9, "bicubic", (0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_ratio": 0.01}, "mlp_ratio must be large enough for one hidden unit"),
        ({"img_size": 70}, "70×70 pixels does not divide into patches of 16×16"),
        ({"depth": 0}, "depth must be 1 or more"),
    ],
    ids=str,
)
def test_unusable_values(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)
