"""Orders, samples, bad images, and folders that are no data sets."""

import io
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from train.tiny import tiny_recipe

import mlpzoo
from mlpzoo.demos import DigitImages, write_digits
from mlpzoo.images import ImageError
from mlpzoo.tasks.classification import Classification
from mlpzoo.tasks.classification_images import hold_out, open_splits
from mlpzoo.tasks.classification_loaders import NOT_COUNTED, Loaders, labelled_samples
from mlpzoo.tasks.classification_recipe import Data
from mlpzoo.train import Place
from mlpzoo.train.data import TrainingOrder, ValidationOrder


@pytest.fixture
def folder(tmp_path):
    """Two classes of 40 images or so each."""
    write_digits(tmp_path, [0, 1])
    for path in tmp_path.rglob("*.png"):
        if int(path.stem) % 4:
            path.unlink()
    return tmp_path


def folder_recipe(folder, *changes):
    return tiny_recipe(f"data.root={folder}", "data.dataset=folder", "data.batch_size=8", *changes)


def task(recipe, folder=None):
    return Classification(recipe, Place(torch.device("cpu"), folder=folder))


@given(
    length=st.integers(1, 60),
    batch=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    processes=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_processes_and_steps_share_an_update(length, batch, accumulate, processes, epoch):
    whole = batch * accumulate * processes
    updates = length // whole

    def draws(batch, accumulate, processes, start=0):
        found = []
        for rank in range(processes):
            order = TrainingOrder(
                length,
                updates=updates,
                batch_size=batch,
                accumulate=accumulate,
                rank=rank,
                processes=processes,
                seed=1,
            )
            order.epoch, order.start = epoch, start
            found.append(list(order))
            assert len(order) == len(found[-1])
        return [
            sorted(draw for rank in found for step in rank[u * accumulate : (u + 1) * accumulate] for draw in step)
            for u in range(updates - start)
        ]

    alone = draws(whole, 1, 1)
    assert draws(batch, accumulate, processes) == alone
    indices = [index for update in alone for index, _ in update]
    assert len(set(indices)) == len(indices) == updates * whole
    if updates:
        assert draws(batch, accumulate, processes, start=updates // 2) == alone[updates // 2 :]


def test_epochs_and_seeds_differ():
    def first(seed, epoch):
        order = TrainingOrder(100, updates=10, batch_size=10, seed=seed)
        order.epoch = epoch
        return next(iter(order))

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_repeats_are_augmented_differently_and_on_different_processes():
    ranks = [
        [draw for step in TrainingOrder(24, updates=2, batch_size=4, rank=r, processes=3, repeats=3) for draw in step]
        for r in range(3)
    ]
    everything = [draw for rank in ranks for draw in rank]
    indices = [index for index, _ in everything]
    assert all(indices.count(index) == 3 for index in set(indices))
    assert len({seed for _, seed in everything}) == 24
    assert [index for index, _ in ranks[0]] == [index for index, _ in ranks[1]] == [index for index, _ in ranks[2]]


@given(length=st.integers(1, 40), batch=st.integers(1, 7), processes=st.integers(1, 4))
def test_validation_sees_each_image_once(length, batch, processes):
    ranks = [list(ValidationOrder(length, batch_size=batch, rank=r, processes=processes)) for r in range(processes)]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(len(step) == batch for rank in ranks for step in rank)
    places = sorted(index for rank in ranks for step in rank for index, _ in step if index >= 0)
    assert places == list(range(length))


def test_a_seed_decides_the_augmentation_and_nothing_outside_is_moved():
    loaders = task(tiny_recipe()).loaders
    samples = loaders.training.loader.dataset
    before = torch.get_rng_state()
    (first, label), bad, counted = samples[(5, 11)]
    again, other = samples[(5, 11)][0][0], samples[(5, 12)][0][0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (label, bad, counted) == (loaders.training_images.labels[5], -1, True)


def test_workers_give_the_same_batches():
    def batches(workers):
        loaders = task(tiny_recipe(f"data.workers={workers}")).loaders
        return [images for (images, _), _, _ in loaders.training(1, 20)]

    for a, b in zip(batches(0), batches(2), strict=True):
        assert torch.equal(a, b)


def bomb(path):
    """A PNG of few bytes that says it is 30,000 pixels square."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)))


BAD = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "bomb": bomb,
    "no image": lambda path: path.write_text("not an image"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_stop_or_are_replaced_and_listed(folder, kind, workers, tmp_path_factory):
    victims = sorted((folder / "train").rglob("*.png"))[::7]
    for path in victims:
        BAD[kind](path)
    out = tmp_path_factory.mktemp("run")
    with pytest.raises(ImageError, match=r"cannot read .*png: .*on_bad_image=skip"):
        list(task(folder_recipe(folder, f"data.workers={workers}"), folder=out).batches(0, 0))
    assert not (out / "bad_images.jsonl").exists()

    skipping = task(folder_recipe(folder, f"data.workers={workers}", "data.on_bad_image=skip"), folder=out)
    for epoch in (0, 1):
        for images, labels in skipping.batches(epoch, 0):
            assert images.isfinite().all()
            assert labels.min() >= 0
    listed = (out / "bad_images.jsonl").read_text().splitlines()
    assert 0 < len(listed) <= len(victims)
    assert all(any(str(path) in line for path in victims) for line in listed)


def test_bad_validation_images_are_not_counted(folder, tmp_path_factory):
    for path in sorted((folder / "validation").rglob("*.png"))[::3]:
        path.write_bytes(b"")
    total = len(list((folder / "validation").rglob("*.png")))
    skipping = task(folder_recipe(folder, "data.on_bad_image=skip"), folder=tmp_path_factory.mktemp("run"))
    counted = sum(int((labels != NOT_COUNTED).sum()) for _, labels in skipping.validation_batches())
    assert counted == total - len(range(0, total, 3))
    assert skipping.validate(skipping.model.eval())["validation_top1"] <= 1
    failing = task(folder_recipe(folder))
    with pytest.raises(ImageError, match="cannot read"):
        failing.validate(failing.model.eval())


def test_nothing_but_bad_images(folder, tmp_path_factory):
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"")
    data = open_splits(Data(root=str(folder)), "L")[0]
    (image, label), bad, counted = labelled_samples(data, lambda _: torch.ones(1), (1, 8, 8), replace=True)[(0, 0)]
    assert (image.shape, label, bad, counted) == ((1, 8, 8), NOT_COUNTED, 0, False)
    recipe = folder_recipe(folder, "data.on_bad_image=skip")
    tried = min(100, len(data))
    with pytest.raises(ImageError, match=rf"no image could be read, of {tried} tried .*png: it is no image.*more$"):
        next(task(recipe, tmp_path_factory.mktemp("run")).batches(0, 0))


def test_nothing_but_bad_images_to_validate_on(folder):
    for path in (folder / "validation").rglob("*.png"):
        path.write_bytes(b"")
    built = task(folder_recipe(folder, "data.on_bad_image=skip"))
    with pytest.raises(ValueError, match=r"no readable image to validate on: bad_images.jsonl lists"):
        built.validate(built.model.eval())


def test_folders_that_are_no_data(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match="say where the images are"):
        open_splits(Data(), "L")
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        open_splits(Data(root=str(empty / "nowhere")), "L")
    with pytest.raises(ValueError, match="cannot open the split 'train'"):
        open_splits(Data(root=str(empty)), "L")
    shutil.rmtree(folder / "train" / "one")
    with pytest.raises(ValueError, match="has 1 class"):
        open_splits(Data(root=str(folder)), "L")


def test_splits_of_other_classes(folder):
    (folder / "validation" / "one").rename(folder / "validation" / "uno")
    with pytest.raises(ValueError, match="'validation' has classes that were not trained on: uno"):
        open_splits(Data(root=str(folder)), "L")
    shutil.rmtree(folder / "validation" / "uno")
    # Fewer classes are numbered as in training.
    (folder / "validation" / "zero").rename(folder / "validation" / "one")
    held = open_splits(Data(root=str(folder)), "L")[1]
    assert set(held.labels) == {0}


def test_a_folder_without_a_validation_split(folder):
    shutil.rmtree(folder / "validation")
    with pytest.raises(ValueError, match=r"there are one, zero.*data.held_out=0.1"):
        open_splits(Data(root=str(folder / "train")), "L")
    train, held = open_splits(Data(root=str(folder / "train"), held_out=0.25), "L")
    assert abs(len(held) / (len(train) + len(held)) - 0.25) < 0.02
    assert set(train.indices).isdisjoint(held.indices)
    assert set(held.labels) == {0, 1}
    assert open_splits(Data(root=str(folder / "train"), validation_split=None), "L")[1] is None


def test_too_small_to_hold_out():
    with pytest.raises(ValueError, match=r"cannot hold out 0.001"):
        hold_out(DigitImages(), 0.001)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.batch_size=2000"], "only 1437 images"),
        (["data.batch_size=7", "run.accumulate=2"], "make it a multiple of 2"),
        (["model.num_classes=4"], "model.num_classes is 4, but the data have 10"),
        (["augment.mixup=0.5", "data.batch_size=9"], "even number, not 9"),
        (["model.options.embed_dimm=3"], "model.options: .*embed_dim"),
        (["model.name=mixer_s17"], "unknown model"),
        (["model.frozen_stages=9"], "from -1 to 2"),
        (["model.options.in_chans=4"], "1 or 3 channels"),
        (["data.dataset=digitz"], "unknown data set 'digitz'.*: folder, torch/NAME.*digits; mlpzoo.demos adds some"),
        (["data.dataset=torch/cifar"], "torchvision has no data set 'cifar'.*did you mean 'cifar10'"),
        (["data.dataset=trch/cifar10"], "unknown data set 'trch/cifar10'.*did you mean 'torch'"),
        (["data.dataset=torch/mnist", "data.train_split=trian"], "no split 'trian'.*did you mean 'train'"),
        (["data.dataset=wds/x"], "say by data.length"),
    ],
)
def test_what_does_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        task(tiny_recipe(*changes))


def test_labels_out_of_range():
    built = task(tiny_recipe())
    with pytest.raises(ValueError, match=r"labels from 0 to 12.*10 classes.*model.num_classes"):
        built._check_labels(torch.tensor([0, 12]))


def test_torchvision_datasets(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / split / name / f"{i}.png")
    data = Data(dataset="torch/image_folder", root=str(tmp_path))
    train, held = open_splits(data, "L")
    assert (len(train), len(held), list(train.classes)) == (8, 8, ["a", "b"])
    image, label = train.read(5)
    assert (image.mode, label) == ("L", 1)
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"x")
    with pytest.raises(ImageError, match="cannot read image 0"):
        train.read(0)


def test_the_transforms_are_for_the_network(folder):
    loaders = Loaders(folder_recipe(folder), small_network(), Place(torch.device("cpu")))
    (images, labels), _, _ = next(iter(loaders.training(0, 0)))
    assert images.shape == (8, 1, 8, 8)
    assert labels.tolist() == [label for label in labels.tolist() if label in (0, 1)]
    transform = loaders.validation_loader.dataset.make.args[1]
    plain = transform(Image.new("L", (8, 8), 255))
    assert plain.unique().tolist() == pytest.approx([(1 - 0.5) / 0.25])


def small_network():
    network = mlpzoo.create_model("mixer_s16", **tiny_recipe().model.options)
    network.pretrained_cfg = {**network.pretrained_cfg, "mean": (0.5,), "std": (0.25,)}
    return network


@pytest.fixture
def shards(tmp_path):
    """Two archives of 96 digits each."""
    digits = DigitImages()
    for shard in range(2):
        with tarfile.open(tmp_path / f"digits-{shard:04d}.tar", "w") as archive:
            for i in range(96 * shard, 96 * (shard + 1)):
                image, label = digits.read(i)
                content = io.BytesIO()
                image.save(content, "png")
                for suffix, data in (("png", content.getvalue()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return tmp_path


# webdataset leaves its archives to be closed by the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_streams(shards):
    recipe = tiny_recipe(
        f"data.root={shards}",
        "data.dataset=wds/digits",
        "data.train_split=digits-{0000..0001}.tar|192",
        "data.validation_split=digits-0001.tar|96",
        "data.length=192",
        "data.batch_size=32",
        "model.num_classes=10",
    )
    built = task(recipe)
    assert built.updates_per_epoch == 6
    epoch = list(built.batches(0, 0))
    assert len(epoch) == 6
    assert all(images.shape == (32, 1, 8, 8) for images, _ in epoch)
    assert len(list(built.batches(0, 4))) == 2
    counted = sum(len(labels) for _, labels in built.validation_batches())
    assert counted == 96
    with pytest.raises(ValueError, match="the data do not say how many classes"):
        task(recipe.model_copy(update={"model": recipe.model.model_copy(update={"num_classes": None})}))
