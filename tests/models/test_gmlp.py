import pytest
import timm
import torch
from models.twins import assert_twins_agree
from timm.layers import DropPath
from torch import nn

import mlpzoo
from mlpzoo import CheckpointError

SMALL = {"embed_dim": 16, "depth": 3, "mlp_dim": 24, "img_size": 64, "num_classes": 5}
PARAMETERS = {"gmlp_ti16": 5_867_328, "gmlp_s16": 19_422_656, "gmlp_b16": 73_075_392}


def randomize(model):
    """Weights as if trained: fresh gates hardly mix tokens, and fresh heads answer nothing."""
    for parameter in model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return model.eval()


def create(name="gmlp_ti16", **options):
    return randomize(mlpzoo.create_model(name, **{**SMALL, **options}))


def test_every_variant_is_listed():
    assert mlpzoo.list_models("gmlp_*") == list(PARAMETERS)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name, count):
    model = mlpzoo.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.feature_info) == 30


@pytest.mark.parametrize("name", PARAMETERS)
def test_names_and_shapes_are_timms(name):
    ours = mlpzoo.create_model(name, device="meta").state_dict()
    with torch.device("meta"):
        theirs = timm.create_model(f"{name}_224").state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("name", ["gmlp_ti16", "gmlp_s16"])
def test_logits_are_timms(name):
    peer = randomize(timm.create_model(f"{name}_224"))
    model = mlpzoo.create_model(name).eval()
    model.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        logits = peer(x)
        assert float(logits.std()) > 0.1
        torch.testing.assert_close(model(x), logits, rtol=0, atol=1e-5)
        peer.load_state_dict(randomize(model).state_dict())
        assert not torch.allclose(peer(x), logits, atol=1e-2), "other weights must give other logits"
        torch.testing.assert_close(peer(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attn_dim", [0, 4])
def test_reference_twin(attn_dim):
    assert_twins_agree(lambda **options: create(attn_dim=attn_dim, **options), torch.randn(2, 3, 64, 64))


def test_timms_file(tmp_path):
    peer, path = randomize(timm.create_model("gmlp_ti16_224")), tmp_path / "gmlp.pth"
    torch.save(peer.state_dict(), path)
    loaded = mlpzoo.create_model("gmlp_ti16", checkpoint_path=path)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, peer.state_dict()[name]), name


def test_file_onto_another_grid(tmp_path):
    trained, path = create(), tmp_path / "gmlp.pth"
    torch.save(trained.state_dict(), path)
    wider = mlpzoo.create_model("gmlp_ti16", **{**SMALL, "img_size": (64, 112)}, checkpoint_path=path)
    assert wider.blocks[0].mlp_channels.gate.proj.weight.shape == (28, 28)
    trained.set_input_size((64, 112))
    for name, value in wider.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


def test_attention_in_the_gate():
    plain, attentive = (mlpzoo.create_model("gmlp_ti16", attn_dim=n, device="meta") for n in (0, 64))
    more = sum(p.numel() for p in attentive.parameters()) - sum(p.numel() for p in plain.parameters())
    assert more == 30 * (128 * 192 + 192 + 64 * 384 + 384)
    model = create(attn_dim=4)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_file_without_attention_does_not_fill_a_network_with_it(tmp_path):
    path = tmp_path / "gmlp.pth"
    torch.save(create().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"no value for 12 parameters \(blocks\.0\.mlp_channels\.attn"):
        create(attn_dim=4, checkpoint_path=path)


@pytest.mark.parametrize(("name", "rate"), [("gmlp_ti16", 0.0), ("gmlp_s16", 0.05), ("gmlp_b16", 0.2)])
def test_stochastic_depth_by_variant(name, rate):
    model = mlpzoo.create_model(name, device="meta")
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == ([pytest.approx(rate * i / 29) for i in range(1, 30)] if rate else [])


def test_fresh_network_starts_with_open_gates():
    model = mlpzoo.create_model("gmlp_ti16", **SMALL)
    for block in model.blocks:
        gate = block.mlp_channels.gate
        assert float(gate.proj.weight.detach().abs().max()) < 1e-5
        assert torch.all(gate.proj.bias == 1)
    assert torch.all(model.head.weight == 0)


def test_released_file():
    assert mlpzoo.list_pretrained("gmlp_*") == ["gmlp_s16.ra3_in1k"]
    ours = mlpzoo.create_model("gmlp_s16", device="meta").pretrained_cfg
    theirs = timm.get_pretrained_cfg("gmlp_s16_224").to_dict()
    for entry in ("mean", "std", "crop_pct", "interpolation", "input_size", "num_classes", "license"):
        assert ours[entry] == theirs[entry], entry
    assert ours["url"].rsplit("/", 1)[-1] == theirs["url"].rsplit("/", 1)[-1]
    assert mlpzoo.model_info("gmlp_s16").top1 == 79.65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_dim": 25}, "mlp_dim must be an even number, 2 or more, got 25"),
        ({"mlp_dim": 0}, "mlp_dim must be an even number"),
        ({"attn_dim": -1}, "attn_dim must be 0 or more"),
        ({"img_size": 70}, "70×70 pixels does not divide into patches of 16×16"),
    ],
    ids=str,
)
def test_unusable_values(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)
