"""Folders as people have them: misspelt splits, links, hidden folders, odd files and every format."""

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from train.tiny import tiny_recipe

import mlpzoo
from mlpzoo.images import FORMATS, SUFFIXES, ImageError
from mlpzoo.inference import load_classifier, predict
from mlpzoo.tasks import plan, train, validate
from mlpzoo.tasks.classification import Classification
from mlpzoo.tasks.classification_images import open_images, open_splits
from mlpzoo.tasks.classification_recipe import Data
from mlpzoo.tasks.restoration import PictureFolder
from mlpzoo.train import Place
from mlpzoo.train.config import Data as AnyData
from mlpzoo.train.config import RecipeError
from mlpzoo.train.sources import open_registered, split_folder


def picture(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """`train` and `validation`, two classes of three images each."""
    for split in ("train", "validation"):
        for name in ("cat", "dog"):
            for i in range(3):
                picture(tmp_path / "data" / split / name / f"{split}{i}.png", i)
    return tmp_path / "data"


def data(root, **options):
    return Data(root=str(root), **options)


def recipe(root, *changes):
    given = (f"data.root={root}", "data.dataset=folder", "data.batch_size=2", "schedule.updates=1")
    return tiny_recipe(*given, *changes)


@pytest.mark.parametrize(
    "name", ["test", "Validation", "VALIDATION", "validatoin", "valid", "train2", "cat", "train/cat/x"]
)
@pytest.mark.parametrize("key", ["train_split", "validation_split"])
def test_a_split_that_is_not_there(root, key, name):
    with pytest.raises(ValueError, match=rf"cannot open the split '{name}'.*there are train, validation") as caught:
        open_splits(data(root, **{key: name}), "L")
    assert f"(data.{key})" in str(caught.value)
    assert "\n" not in str(caught.value)
    if name.lower() in ("validation", "validatoin"):
        assert "did you mean 'validation'?" in str(caught.value)


@pytest.mark.parametrize("there", ["test", "Validation", "holdout"])
def test_nothing_is_validated_on_in_place_of_a_missing_split(root, there):
    (root / "validation").rename(root / there)
    with pytest.raises(ValueError, match=rf"cannot open the split 'validation'.*{there}"):
        open_splits(data(root), "L")
    assert len(open_splits(data(root, validation_split=there), "L")[1]) == 6


@pytest.mark.parametrize(("split", "names"), [("train", ["training"]), ("validation", ["val", "valid", "eval"])])
def test_usual_names_stand_in_for_the_default_alone(root, split, names):
    for name in names:
        (root / split).rename(root / name)
        found = open_splits(data(root), "L")[split == "validation"]
        assert found.folder == root / name
        with pytest.raises(ValueError, match="cannot open the split"):
            open_splits(data(root, **{f"{split}_split": "evaluation" if split == "validation" else "trained"}), "L")
        (root / name).rename(root / split)
    if split == "validation":
        shutil.rmtree(root / "validation")
        for name in names[:2]:
            shutil.copytree(root / "train", root / name)
        with pytest.raises(ValueError, match="cannot open the split 'validation'.*train, val, valid"):
            open_splits(data(root), "L")


@pytest.mark.parametrize("name", ["Train", "TEST", "Val", "dev", "training2"])
def test_splits_are_not_taken_for_classes(root, name):
    (root / "train").rename(root / name)
    options = {"held_out": 0.5}
    if name == "training2":
        (root / "validation").rename(root / "other")
        assert open_images(data(root, **options), "train", "L").classes == ["other", "training2"]
        return
    with pytest.raises(ValueError, match="cannot open the split 'train'"):
        open_splits(data(root, **options), "L")
    # Who names the folder itself means it.
    assert open_images(data(root, train_split=".", **options), "train", "L").classes == [name, "validation"]


def test_a_finished_run_is_validated_on_what_was_asked_for(root, tmp_path):
    result = train(recipe(root), tmp_path / "run", device="cpu", progress=False)
    assert validate(tmp_path / "run", workers=0).figures == result.figures
    shutil.copytree(root / "train", tmp_path / "B" / "train")
    shutil.copytree(root / "validation", tmp_path / "B" / "test")
    for options in ({"split": "test"}, {"split": "Train"}, {"data": str(tmp_path / "B")}):
        with pytest.raises(ValueError, match="cannot open the split"):
            validate(tmp_path / "run", workers=0, **options)
    other = validate(tmp_path / "run", data=str(tmp_path / "B"), split="test", workers=0)
    assert other.figures == result.figures


def test_classes_held_out_are_numbered_as_in_training(root, tmp_path):
    run = tmp_path / "run"
    train(recipe(root, "data.held_out=0.4"), run, device="cpu", progress=False)
    # The same images without the first class, which would make the second one the first.
    shutil.rmtree(root / "train" / "cat")
    (root / "train" / "cow").mkdir()
    picture(root / "train" / "cow" / "a.png")
    with pytest.raises(ValueError, match="classes that were not trained on: cow"):
        validate(run, workers=0)


@pytest.mark.parametrize(("dataset", "task"), [("digits", "classification"), ("photographs", "restoration")])
def test_registered_data_have_two_splits(dataset, task):
    section = AnyData(dataset=dataset, validation_split="test")
    with pytest.raises(ValueError, match=f"'{dataset}' has no split 'test', but train and validation"):
        open_registered(task, section, "validation")
    if dataset == "digits":
        on_training = open_registered(task, Data(dataset=dataset, validation_split="train"), "validation")
        assert len(on_training) == 1437


def test_files_and_missing_folders_as_root(root):
    with pytest.raises(ValueError, match="is a file, not a folder"):
        open_splits(data(root / "train/cat/train0.png"), "L")


def test_torchvisions_folders_have_the_same_splits(root):
    with pytest.raises(ValueError, match="cannot open the split 'test'.*there are train, validation"):
        open_splits(data(root, dataset="torch/image_folder", validation_split="test"), "L")
    (root / "validation/cat").rename(root / "validation/cow")
    with pytest.raises(ValueError, match="has other classes than were trained on, or in another order"):
        open_splits(data(root, dataset="torch/image_folder"), "L")


def test_classes_are_the_first_level(root):
    for i, name in enumerate(("1", "2", "10", "1/x")):
        picture(root / "train" / "cat" / "indoors" / name / "deep.png", 10 + i)
    picture(root / "train" / ".ipynb_checkpoints" / "a.png")
    picture(root / "train" / "__MACOSX" / "cat" / "a.png")
    picture(root / "train" / "cat" / ".ipynb_checkpoints" / "a.png")
    picture(root / "train" / "cat" / "@eaDir" / "a.png")
    picture(root / "train" / "stray.png")
    (root / "train" / "cat" / "._train0.png").write_bytes(b"\0\5\x16\7")
    (root / "train" / "cat" / "Thumbs.db").touch()
    found = open_images(data(root), "train", "L")
    assert found.classes == ["cat", "dog"]
    assert sorted(found.labels) == [0] * 7 + [1] * 3
    assert all(found.read(i)[1] == found.labels[i] for i in range(len(found)))
    assert len({found.name(i) for i in range(len(found))}) == len(found)


def test_numbers_are_in_order(tmp_path):
    for name in ("10", "9", "1", "b", "B", "a²"):
        picture(tmp_path / "train" / name / "x.png")
    assert open_images(data(tmp_path), "train", "L").classes == ["1", "9", "10", "a²", "B", "b"]


LOOPS = {
    "to the class": ("train/cat/again", "train/cat"),
    "to the split": ("train/cat/again", "train"),
    "to the root": ("train/cat/again", "."),
    "to another class": ("train/cat/again", "train/dog"),
    "a class to the split": ("train/again", "train"),
    "a class to the root": ("train/again", "."),
    "a class to another": ("train/again", "train/dog"),
    "of a file": ("train/cat/again.png", "train/cat/train0.png"),
    "of a file elsewhere": ("train/cat/again.png", "train/dog/train0.png"),
    "deeper": ("train/cat/a/b/again", "train/cat/a"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_links_make_no_class_and_no_duplicate(root, loop, caplog):
    picture(root / "train/cat/a/b/x.png", 9)
    link, target = LOOPS[loop]
    (root / link).symlink_to(root / target)
    train, held = open_splits(data(root), "L")
    assert (train.classes, sorted(train.labels), len(held)) == (["cat", "dog"], [0] * 4 + [1] * 3, 6)
    # Each belongs to the class it really is in.
    assert all(f"/{train.classes[label]}/" in file for file, label in zip(train.files, train.labels, strict=True))
    assert "1 links to what is read anyway" in caplog.text


def test_links_to_elsewhere_are_data(root, tmp_path):
    for i in range(2):
        picture(tmp_path / "store" / f"{i}.png", 20 + i)
    (root / "train" / "store").symlink_to(tmp_path / "store")
    (tmp_path / "up").mkdir()
    (tmp_path / "store" / "up").symlink_to(root / "train")
    (root / "train" / "cat" / "linked.png").symlink_to(tmp_path / "data/../../none.png")
    found = open_images(data(root), "train", "L")
    assert found.classes == ["cat", "dog", "store"]
    assert [found.labels.count(i) for i in range(3)] == [4, 3, 2]
    with pytest.raises(ImageError, match=r"linked.png: there is no such file"):
        found.read(0)


def test_one_file_linked_into_two_classes(root, tmp_path):
    picture(tmp_path / "store.png")
    for name in ("cat", "dog"):
        (root / "train" / name / "x.png").symlink_to(tmp_path / "store.png")
    with pytest.raises(ValueError, match=r"links to one file, so nothing says which class"):
        open_images(data(root), "train", "L")


@pytest.mark.parametrize("link", ["train/cat/held", "train/cat/held.png", "validation/cat/x"])
def test_what_is_validated_on_is_not_trained_on(root, link):
    targets = {"train/cat/held": "validation/cat", "train/cat/held.png": "validation/dog/validation1.png"}
    (root / link).symlink_to(root / targets.get(link, "train/cat"))
    with pytest.raises(ValueError, match=r"hold the same [13] images?, such as .*must not be trained on"):
        open_splits(data(root), "L")
    with pytest.raises(ValueError, match="hold the same [679] images"):
        open_splits(data(root, validation_split="train"), "L")


def test_every_format_is_read(tmp_path):
    names = [f"{i}.png{suffix}" for i, suffix in enumerate(SUFFIXES) if suffix != ".apng"]
    names += ["A.JPG", "B.WebP", "C.TIFF"]
    for name in ("a", "b"):
        for file in names:
            picture(tmp_path / "train" / name / file)
    # A gif of two frames gives the first.
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(tmp_path / "train" / "a" / "two.gif", save_all=True, append_images=frames[1:])
    found = open_images(data(tmp_path, validation_split=None), "train", "L")
    assert len(found) == 2 * len(names) + 1
    for i in range(len(found)):
        image = found.read(i)[0]
        assert (image.size, image.mode) == ((8, 8), "L")
        if found.name(i).endswith("two.gif"):
            assert image.getpixel((0, 0)) == 10


def test_the_suffixes_are_pillows():
    assert {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS} - {".pfm"} == {
        *SUFFIXES
    }


def test_what_is_left_out_is_said(root, caplog):
    for name in ("a.txt", "b.txt", "c.HEIC", "README"):
        (root / "train" / "dog" / name).touch()
    with caplog.at_level(logging.WARNING, "mlpzoo"):
        open_splits(data(root), "L")
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}/train: left out 4 files: 2 .txt, 1 .heic, 1 without a suffix"
    ]


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("content", [(), ("a.txt",), (".hidden.png",), ("x.heic", "y.heic")])
def test_a_class_without_an_image(root, split, content):
    (root / split / "cow").mkdir()
    picture(root / "train" / "cow" / "a.png") if split == "validation" else None
    for name in content:
        (root / split / "cow" / name).touch()
    with pytest.raises(ValueError, match=rf"the class folder .*{split}/cow holds no image") as caught:
        plan(recipe(root))
    assert ("2 .heic" in str(caught.value)) == (len(content) == 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read(root):
    (root / "train" / "dog").chmod(0)
    with pytest.raises(ValueError, match="cannot read the folder .*dog"):
        open_images(data(root), "train", "L")


def test_restoration_folders(root, caplog):
    folder = root / "train"
    (folder / "cat" / "._train0.png").write_bytes(b"\0")
    (folder / "notes.txt").touch()
    (folder / "cat" / "again").symlink_to(folder)
    (folder / "x.JPEG").write_bytes((folder / "cat/train0.png").read_bytes())
    found = PictureFolder(folder)
    assert len(found) == 7
    assert found.read(0).shape == (3, 8, 8)
    assert "left out 2 files" in caplog.text
    assert split_folder(AnyData(root=str(root)), "train") == folder


@pytest.mark.parametrize("number", [1, 3, 5, 1000])
def test_the_head_has_as_many_classes_as_the_data(root, number):
    with pytest.raises(RecipeError, match=f"model.num_classes is {number}, but the data have 2 classes"):
        plan(recipe(root, f"model.num_classes={number}"))


def test_what_was_trained_predicts(root, tmp_path):
    train(recipe(root, "model.num_classes=2"), tmp_path / "run", device="cpu", progress=False)
    network, labels = load_classifier(tmp_path / "run")
    (prediction,) = predict(network, root / "train/cat/train0.png", labels=labels)
    assert {name for name, _ in prediction.classes} == {"cat", "dog"}


def test_a_head_of_other_classes_starts_anew(root, tmp_path, caplog):
    train(recipe(root), tmp_path / "run", device="cpu", progress=False)
    changes = (f"model.name=local-dir:{tmp_path / 'run'}", "model.options={}")

    def head():
        return Classification(recipe(root, *changes), Place(torch.device("cpu"))).network.head.weight

    trained = mlpzoo.create_model(f"local-dir:{tmp_path / 'run'}").head.weight
    assert torch.equal(head(), trained)
    for split in ("train", "validation"):
        (root / split / "cat").rename(root / split / "elk")
    assert not torch.equal(head(), trained)
    assert "told other classes apart, so the head starts anew" in caplog.text
    with pytest.raises(ValueError, match=r"the teacher local-dir:.* tells other classes apart than the data"):
        Classification(recipe(root, f"loss.teacher=local-dir:{tmp_path / 'run'}"), Place(torch.device("cpu")))
