import numpy as np
import pytest
import torch
from PIL import Image

import mlpzoo


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))


def test_evaluation_as_published(photo):
    model = mlpzoo.create_model("mixer_b16", device="meta")
    transform = mlpzoo.create_transform(model)
    assert transform(photo).shape == (3, 224, 224)
    assert transform.transforms[0].size == 256
    white = transform(Image.new("RGB", (300, 400), "white"))
    torch.testing.assert_close(white, torch.ones(3, 224, 224))


def test_weights_bring_their_own():
    miil = mlpzoo.create_transform(mlpzoo.create_model("mixer_b16.miil_in21k_ft_in1k", device="meta"))
    assert miil.transforms[0].interpolation.value == "bilinear"
    torch.testing.assert_close(miil(Image.new("RGB", (30, 40), "white")), torch.ones(3, 224, 224))
    resmlp = mlpzoo.create_transform(mlpzoo.create_model("resmlp_s12", device="meta"))
    assert resmlp.transforms[0].size == 248
    assert resmlp(Image.new("RGB", (30, 40), "black"))[0, 0, 0].item() == pytest.approx(-0.485 / 0.229, abs=1e-3)


def test_size_and_channels_are_the_models(photo):
    model = mlpzoo.create_model("mixer_s16", img_size=(160, 256), in_chans=1, device="meta")
    assert mlpzoo.create_transform(model)(photo.convert("L")).shape == (1, 160, 256)
    assert mlpzoo.create_transform(mlpzoo.create_model("cyclemlp_b1", device="meta"), input_size=(3, 96, 64))(
        photo
    ).shape == (3, 96, 64)


def test_training_augments(photo):
    model = mlpzoo.create_model("mixer_s16", device="meta")
    transform = mlpzoo.create_transform(model, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.25)
    torch.manual_seed(0)
    assert not torch.equal(transform(photo), transform(photo))


def test_what_is_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, but this model takes 5"):
        mlpzoo.create_transform(mlpzoo.create_model("mixer_s16", in_chans=5, device="meta"))
    with pytest.raises(TypeError, match="zoom"):
        mlpzoo.create_transform(mlpzoo.create_model("mixer_s16", device="meta"), zoom=2)
