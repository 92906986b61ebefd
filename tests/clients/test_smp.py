"""segmentation-models-pytorch needs no adapter: `encoder_name="tu-NAME"`."""

import pytest
import torch
from dense.networks import assert_features_are_the_authors, assert_learns, features_case

import mlpzoo
import mlpzoo.dense

smp = pytest.importorskip(
    "segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed: run `make test-clients`"
)
pytestmark = pytest.mark.filterwarnings("default")


def step(head, size, **options):
    model = smp.create_model(head, encoder_weights=None, classes=3, **options)
    x = torch.randn(2, 3, *size)
    y = model.train()(x)
    assert y.shape == (2, 3, *size)
    (y * torch.randn_like(y)).mean().backward()
    (network,) = (module for module in model.modules() if isinstance(module, mlpzoo.models.Backbone))
    # DPT leaves the final norm and the head of whatever it is given in place, unused.
    for unused in (network.norm, network.head):
        if head == "DPT":
            unused.requires_grad_(False)
    assert_learns(network)
    with torch.no_grad():
        assert model.eval()(x).isfinite().all()
    return model


@pytest.mark.parametrize("name", ["cyclemlp_b1", "mixer_s32_pyramid"])
@pytest.mark.parametrize("head", ["Unet", "FPN", "UPerNet", "PSPNet", "Linknet", "MAnet", "Segformer"])
def test_pyramid(head, name):
    step(head, (64, 96), encoder_name=f"tu-{name}")


@pytest.mark.parametrize("name", ["cyclemlp_b1", "mixer_s32_pyramid"])
@pytest.mark.parametrize(("head", "stride"), [("DeepLabV3Plus", 16), ("DeepLabV3Plus", 8), ("PAN", 16)])
def test_output_stride(head, stride, name):
    model = step(head, (128, 160), encoder_name=f"tu-{name}", encoder_output_stride=stride)
    assert model.encoder.model.feature_info.reduction()[-1] == stride


def test_isotropic():
    step("DPT", (224, 224), encoder_name="tu-mixer_s16", encoder_depth=4)


def test_isotropic_of_any_size():
    step("DPT", (96, 160), encoder_name="tu-mixer_s16", encoder_depth=4, dynamic_img_size=True)


def test_features_are_the_authors(tmp_path):
    name, options, x = features_case(tmp_path)
    path = options.pop("checkpoint_path")
    model = smp.create_model("FPN", f"tu-{name}", encoder_weights=None, **options).eval()
    mlpzoo.load_checkpoint(model.encoder.model, path)
    with torch.no_grad():
        # The image itself comes first, and an empty map of stride 2.
        assert_features_are_the_authors(model.encoder(x)[2:])
