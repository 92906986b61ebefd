"""Image files of every kind people have, and files that are none."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

import mlpzoo
from mlpzoo.images import ImageError, read_image
from mlpzoo.inference import load_classifier, predict
from mlpzoo.weights import save_folder

OPTIONS = {"img_size": 32, "embed_dim": 16, "depth": 1, "tokens_mlp_dim": 8, "channels_mlp_dim": 16, "num_classes": 3}


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("china.jpg")).resize((96, 64))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = mlpzoo.create_model("mixer_s16", **OPTIONS)
    nn.init.normal_(model.head.weight)
    return model.eval()


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "jpg"), ("RGB", "png"), ("L", "png"), ("CMYK", "jpg"), ("P", "png"), ("RGB", "webp")]
)
def test_modes_and_formats(photo, tmp_path, mode, suffix):
    path = tmp_path / f"photo.{suffix}"
    photo.convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (96, 64))
    expected = pixels(photo.convert(mode).convert("RGB"))
    assert abs(pixels(image) - expected).mean() < 12
    assert read_image(path, "L").mode == "L"


def test_sixteen_bits_are_scaled_and_not_clipped(photo, tmp_path):
    gray = pixels(photo.convert("L"))
    path = tmp_path / "deep.png"
    Image.fromarray((gray * 257).astype(np.uint16)).save(path)
    assert abs(pixels(read_image(path, "L")) - gray).max() <= 1


def test_transparent_pixels_become_white(tmp_path):
    samples = np.zeros((8, 8, 4), np.uint8)
    samples[:4] = (200, 0, 0, 255)
    Image.fromarray(samples).save(tmp_path / "clear.png")
    found = pixels(read_image(tmp_path / "clear.png"))
    assert (found[:4] == (200, 0, 0)).all()
    assert (found[4:] == 255).all()


@pytest.mark.parametrize(("orientation", "stored"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)])
def test_rotated_files_predict_as_their_upright_twins(photo, model, tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "upright.png")
    photo.transpose(stored).save(tmp_path / "turned.png", exif=exif)
    upright, turned = predict(model, [tmp_path / "upright.png", tmp_path / "turned.png"])
    assert upright.classes == turned.classes
    photo.transpose(stored).save(tmp_path / "plain.png")
    assert next(predict(model, tmp_path / "plain.png")).classes != upright.classes


def test_files_that_are_no_images(photo, tmp_path):
    photo.save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("I am no image")
    (tmp_path / "empty.png").touch()
    for name, reason in [
        ("missing.png", "there is no such file"),
        ("cut.jpg", "damaged or cut short"),
        ("text.png", "no image"),
        ("empty.png", "no image"),
        (".", "it is a folder"),
    ]:
        with pytest.raises(ImageError, match=f"cannot read .*{reason}") as caught:
            read_image(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_images_that_unpack_to_enormous_ones_are_refused(tmp_path, monkeypatch):
    Image.new("L", (60, 60)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="unpacks to more than 1,000 pixels; refused"):
        read_image(tmp_path / "large.png")


def test_the_limit_of_pixels_can_be_raised(tmp_path, monkeypatch):
    Image.new("RGB", (300, 200), "red").save(tmp_path / "large.tif")
    Image.new("RGB", (300, 200), "red").save(tmp_path / "large.webp")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    for name in ("large.tif", "large.webp"):
        with pytest.raises(ImageError, match="unpacks to more than 20,000 pixels; refused"):
            read_image(tmp_path / name)
        with pytest.raises(ImageError, match="more than 59,999 pixels; refused.*--max-pixels N"):
            read_image(tmp_path / name, max_pixels=59_999)
        assert read_image(tmp_path / name, max_pixels=60_000).size == (300, 200)
        assert Image.MAX_IMAGE_PIXELS == 20_000
    with pytest.raises(ImageError, match="more than 100 pixels"):
        read_image(tmp_path / "large.tif", max_pixels=100)
    with pytest.raises(ValueError, match="max_pixels must be 1 or more, got 0"):
        read_image(tmp_path / "large.tif", max_pixels=0)


def test_raising_the_limit_is_no_business_of_other_threads(tmp_path, monkeypatch):
    Image.new("L", (300, 200)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)

    def read(limit):
        try:
            return read_image(tmp_path / "large.png", max_pixels=limit).size
        except ImageError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, [None, 60_000, 59_999, 70_000] * 20))
    assert found == [None, (300, 200), None, (300, 200)] * 20
    assert Image.MAX_IMAGE_PIXELS == 20_000


def test_images_beyond_twice_pillows_limit_are_predicted(model, tmp_path, monkeypatch):
    Image.new("RGB", (900, 700), "blue").save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    (refused,) = predict(model, tmp_path / "large.png")
    assert "more than 200,000 pixels" in str(refused.error)
    (found,) = predict(model, tmp_path / "large.png", max_pixels=630_000)
    assert (found.error, len(found.classes)) == (None, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_broken_exif_is_noted_and_the_image_used(photo, model, tmp_path, caplog, suffix):
    photo.save(tmp_path / f"sound.{suffix}")
    photo.save(tmp_path / f"broken.{suffix}", exif=b"Exif\0\0no TIFF at all")
    sound, broken = predict(model, [tmp_path / f"sound.{suffix}", tmp_path / f"broken.{suffix}"])
    assert broken.error is None
    assert broken.classes == sound.classes
    assert sound.notes == ()
    (note,) = broken.notes
    assert note.startswith(f"{tmp_path / 'broken'}.{suffix}: its EXIF is left out, for ")
    assert not caplog.records
    read_image(tmp_path / f"broken.{suffix}")
    assert [record.getMessage() for record in caplog.records] == [note]


def test_streams_are_read_as_files_are(photo, tmp_path):
    for suffix in ("jpg", "png", "tif"):
        photo.save(tmp_path / f"a.{suffix}", exif=b"Exif\0\0no TIFF" if suffix != "tif" else b"")
        notes = []
        with (tmp_path / f"a.{suffix}").open("rb") as stream:
            image = read_image(stream, name="the stream", warn=notes.append)
        assert np.array_equal(np.asarray(image), np.asarray(read_image(tmp_path / f"a.{suffix}", warn=notes.append)))
        assert suffix == "tif" or notes[0].startswith("the stream: its EXIF")
    with pytest.raises(ImageError, match="cannot read the stream: it is no image"):
        read_image(io.BytesIO(b"no image"), name="the stream")


def test_broken_files_do_not_stop_the_others(photo, model, tmp_path):
    photo.save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    results = list(predict(model, [tmp_path / "b.png", tmp_path / "a.png"], labels=["cat", "dog", "owl"], batch_size=1))
    assert [bool(result.error) for result in results] == [True, False]
    names, values = zip(*results[1].classes, strict=True)
    assert sorted(names) == ["cat", "dog", "owl"]
    assert sum(values) == pytest.approx(1)
    assert list(values) == sorted(values, reverse=True)


def test_prediction_is_what_the_model_says(photo, model, tmp_path):
    from timm.data import create_transform, resolve_data_config

    photo.save(tmp_path / "a.png")
    image = create_transform(**resolve_data_config(model=model))(photo)[None]
    expected = model(image).softmax(-1)[0]
    classes = dict(next(predict(model, tmp_path / "a.png")).classes)
    assert classes == pytest.approx({str(i): float(p) for i, p in enumerate(expected.detach())}, abs=1e-6)


def test_grayscale_models(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    model = mlpzoo.create_model("mixer_s16", **{**OPTIONS, "in_chans": 1})
    assert len(next(predict(model, tmp_path / "a.png", top_k=2)).classes) == 2


def test_mistakes(model, tmp_path):
    for options, message in [
        ({"top_k": 0}, "top_k must be 1 or more"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"labels": ["cat"]}, "names of 1 classes, but the model has 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            predict(model, [], **options)
    with pytest.raises(ValueError, match="has no classifier"):
        predict(mlpzoo.create_model("mixer_s16", **{**OPTIONS, "num_classes": 0}), [])
    with pytest.raises(ValueError, match="this model takes 5"):
        predict(mlpzoo.create_model("mixer_s16", **{**OPTIONS, "in_chans": 5}), [])


def test_loading_a_classifier(model, tmp_path):
    save_folder(
        model,
        tmp_path / "run",
        architecture="mixer_s16",
        model_args=OPTIONS,
        pretrained_cfg={},
        label_names=["cat", "dog", "owl"],
    )
    loaded, labels = load_classifier(tmp_path / "run")
    assert labels == ["cat", "dog", "owl"]
    assert torch.equal(loaded.head.weight, model.head.weight)
    with pytest.raises(ValueError, match="names its own model"):
        load_classifier(tmp_path / "run", model="mixer_s16")
    with pytest.raises(ValueError, match="cannot tell what .* is of"):
        load_classifier(tmp_path / "run" / "model.safetensors")
    with pytest.raises(ValueError, match="there is no file or folder"):
        load_classifier(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no weights are released for mixer_s16"):
        load_classifier(model="mixer_s16")
    with pytest.raises(ValueError, match="give a checkpoint"):
        load_classifier()


def test_training_reads_what_max_pixels_allows(tmp_path, monkeypatch):
    from mlpzoo.tasks.classification_images import open_images
    from mlpzoo.tasks.classification_loaders import _labelled, training_transform
    from mlpzoo.tasks.classification_recipe import Augment, Data

    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (900, 700)).save(tmp_path / "train" / name / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    transform = training_transform(mlpzoo.create_model("mixer_s16", **OPTIONS), Augment(scale=(0.9, 1.0)))
    images = open_images(Data(root=str(tmp_path)), "train", "RGB")
    with pytest.raises(ImageError, match="more than 100,000 pixels"):
        images.read(0)
    images = open_images(Data(root=str(tmp_path), max_pixels=630_000), "train", "RGB")
    # A crop of that size is more than Pillow allows as well.
    assert _labelled(images, transform, 0, 0)[0].shape == (3, 32, 32)
    assert Image.MAX_IMAGE_PIXELS == 100_000
