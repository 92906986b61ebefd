"""The config files in `configs/`: all of them build, and mmengine's Runner trains and evaluates one of each kind."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clients.openmmlab import create, network_of, torchvision_pools, without_compiling
from PIL import Image

import mlpzoo
from mlpzoo.dense import DenseBackbone

pytest.importorskip("mmengine", reason="mmengine is not installed: run `make test-clients`")
pytest.importorskip("mmcv", reason="mmcv-lite is not installed: run `make test-clients`")
without_compiling()
mmdet = pytest.importorskip("mmdet", reason="mmdet is not installed: run `make test-clients`")
mmseg = pytest.importorskip("mmseg", reason="mmsegmentation is not installed: run `make test-clients`")
pytestmark = pytest.mark.filterwarnings("default")

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("mm*/*.py"))
KINDS = {
    "retinanet": "mmdet/retinanet_cyclemlp_b1_fpn_1x_coco.py",
    "mask_rcnn": "mmdet/mask_rcnn_cyclemlp_b1_fpn_1x_coco.py",
    "fpn": "mmseg/fpn_cyclemlp_b1_80k_ade20k.py",
    "upernet": "mmseg/upernet_cyclemlp_b1_160k_ade20k.py",
}
DIMS = [8, 12, 16, 24]
CLASSES = ("red", "green", "blue")
# A subset of its own is all that mmseg's ADE20K takes.
ADE20K_CLASSES = ("wall", "building", "sky")
SIDE = 64


def load(file):
    from mmengine.config import Config

    return Config.fromfile(CONFIGS / file)


def package_of(file):
    return mmdet if file.startswith("mmdet") else mmseg


def small(kind):
    """One of the configs, with a network and heads of few channels for the toy classes."""
    config = load(KINDS[kind])
    model = config.model
    model.backbone.update(pretrained=False, embed_dims=DIMS, depths=[1, 2, 1, 1])
    dims = DIMS[1:] if kind == "retinanet" else DIMS
    if "neck" in model:
        model.neck.update(in_channels=dims, out_channels=16)
    if kind == "retinanet":
        model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=len(CLASSES))
    elif kind == "mask_rcnn":
        torchvision_pools(model)
        model.rpn_head.update(in_channels=16, feat_channels=16)
        heads = model.roi_head
        heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 16
        heads.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=len(CLASSES))
        heads.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=len(CLASSES))
    elif kind == "fpn":
        model.decode_head.update(in_channels=[16] * 4, channels=16, num_classes=len(CLASSES))
    else:
        model.decode_head.update(in_channels=dims, channels=16, num_classes=len(CLASSES))
        model.auxiliary_head.update(in_channels=dims[2], channels=16, num_classes=len(CLASSES))
    return config


def scene(number):
    """Grey noise with one bright rectangle; its class, and left, top, width and height."""
    draw = np.random.default_rng(number)
    image = draw.integers(0, 96, (SIDE, SIDE, 3), dtype=np.uint8)
    label = number % len(CLASSES)
    width, height = draw.integers(24, 40, 2)
    left, top = draw.integers(0, SIDE - 40, 2)
    image[top : top + height, left : left + width, label] = 255
    return image, label, [int(value) for value in (left, top, width, height)]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """The scenes in COCO's format, as a folder."""
    root = tmp_path_factory.mktemp("coco")
    for split, numbers in (("train", range(12)), ("val", range(100, 104))):
        (root / split).mkdir()
        images, annotations = [], []
        for number in numbers:
            image, label, (x, y, w, h) = scene(number)
            name = f"{number}.png"
            Image.fromarray(image).save(root / split / name)
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            box = {"bbox": [x, y, w, h], "area": w * h, "segmentation": outline, "iscrowd": 0}
            annotations.append({"id": number, "image_id": number, "category_id": label + 1, **box})
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def ade20k(tmp_path_factory):
    """The scenes in ADE20K's format, whose label 0 is nothing."""
    root = tmp_path_factory.mktemp("ade20k")
    for split, numbers in (("training", range(8)), ("validation", range(100, 102))):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for number in numbers:
            image, label, (x, y, w, h) = scene(number)
            labels = np.zeros((SIDE, SIDE), np.uint8)
            labels[y : y + h, x : x + w] = label + 1
            Image.fromarray(image).save(root / "images" / split / f"{number}.jpg", quality=95)
            Image.fromarray(labels).save(root / "annotations" / split / f"{number}.png")
    return root


def on_toy_images(config, root, work_dir):
    """Point a config to the toy set: few small images, in this process, in a fixed order."""
    detects = config.default_scope == "mmdet"
    for split, loader in (("train", config.train_dataloader), ("val", config.val_dataloader)):
        loader.update(num_workers=0, persistent_workers=False)
        loader.batch_size = 4 if split == "train" else 1
        data = loader.dataset
        data.update(data_root=f"{root}/", metainfo={"classes": CLASSES if detects else ADE20K_CLASSES})
        if detects:
            data.update(ann_file=f"{split}.json", data_prefix={"img": f"{split}/"})
        for step in data.pipeline:
            if step.type in ("Resize", "RandomResize"):
                step.scale = (SIDE, SIDE)
            elif step.type == "RandomCrop":
                step.crop_size = (SIDE, SIDE)
            elif step.type == "RandomFlip":
                step.prob = 0.0
    if detects:
        config.train_dataloader.dataset.filter_cfg = None
        config.val_evaluator.ann_file = f"{root}/val.json"
    else:
        config.model.data_preprocessor.size = (SIDE, SIDE)
    config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
    config.optim_wrapper.optimizer.lr = 3e-3
    config.param_scheduler = []
    config.default_hooks.logger.interval = 1
    config.randomness = {"seed": 0}
    config.work_dir = str(work_dir)
    # Both are global names, under which mmengine keeps what it made first.
    config.experiment_name = config.visualizer.name = Path(work_dir).name
    return config


@pytest.fixture
def runner_of(monkeypatch):
    # mmengine's own checkpoints hold more than tensors, and PyTorch 2.6 and later read no more unless told to.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

    def run(config):
        from mmengine.runner import Runner

        torch.manual_seed(0)
        return Runner.from_cfg(copy.deepcopy(config))

    return run


def losses_of(work_dir):
    """Losses of the steps, from the log that the Runner writes for machines."""
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_there_is_one_of_each_kind_for_each_network():
    names = [f"cyclemlp_b{i}" for i in range(1, 6)]
    expected = {path.replace("cyclemlp_b1", name) for path in KINDS.values() for name in names}
    assert set(FILES) == expected


@pytest.mark.parametrize("file", FILES)
def test_every_config_builds(file):
    config = load(file)
    backbone = config.model.backbone
    assert backbone.name in file
    assert (backbone.pretrained, backbone.feature_norms) == (True, True)
    backbone.pretrained = False
    with torch.device("meta"):
        model = create(package_of(file), config.model).eval()
        maps = model.extract_feat(torch.empty(1, 3, 256, 320))
        outputs = model.decode_head(maps) if file.startswith("mmseg") else maps
    assert isinstance(model.backbone, DenseBackbone)
    data = mlpzoo.create_model(backbone.name, device="meta").pretrained_cfg
    normalized = config.model.data_preprocessor
    assert normalized.mean == pytest.approx([255 * value for value in data["mean"]])
    assert normalized.std == pytest.approx([255 * value for value in data["std"]])
    if file.startswith("mmseg"):
        assert outputs.shape == (1, 150, 64, 80)
        assert config.train_dataloader.batch_size == 4
    else:
        first = 8 if "retinanet" in file else 4
        assert [256 // y.shape[2] for y in outputs] == [first * 2**i for i in range(5)]
        assert config.train_dataloader.batch_size * 8 == config.auto_scale_lr.base_batch_size == 16
        assert config.train_cfg.max_epochs == 12
        assert config.optim_wrapper.optimizer == {"type": "AdamW", "lr": 1e-4, "weight_decay": 1e-4}


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("retinanet", {"coco/bbox_mAP": 0.2, "coco/bbox_mAP_50": 0.6}),
        ("mask_rcnn", {"coco/bbox_mAP": 0, "coco/segm_mAP": 0}),
        ("fpn", {"mIoU": 0}),
        ("upernet", {"mIoU": 0}),
    ],
)
def test_runner_trains_and_evaluates(kind, least, coco, ade20k, tmp_path, runner_of):
    detects = KINDS[kind].startswith("mmdet")
    config = on_toy_images(small(kind), coco if detects else ade20k, tmp_path / kind)
    epochs = 16 if kind == "retinanet" else 2
    if detects:
        config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        config.default_hooks.checkpoint.interval = epochs
    else:
        config.train_cfg.update(max_iters=6, val_interval=6)
        config.default_hooks.checkpoint.interval = 6
    runner = runner_of(config)
    runner.train()
    losses = losses_of(tmp_path / kind)
    assert len(losses) == (3 * epochs if detects else 6)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    moments = runner.optim_wrapper.optimizer.state
    for name, parameter in network_of(runner.model).named_parameters():
        assert moments[parameter]["exp_avg"].isfinite().all(), name
        assert moments[parameter]["exp_avg"].any(), name
    metrics = runner.val()
    assert all(metrics[name] >= value for name, value in least.items()), metrics
    assert (tmp_path / kind / (f"epoch_{epochs}.pth" if detects else "iter_6.pth")).exists()


def test_a_resumed_run_is_the_uninterrupted_one(coco, tmp_path, runner_of):
    config = on_toy_images(small("retinanet"), coco, tmp_path / "whole")
    config.train_cfg.max_epochs = 2
    whole = runner_of(config)
    whole.train()
    config.work_dir = str(tmp_path / "parts")
    config.experiment_name = "first_part"
    config.train_cfg.max_epochs = 1
    runner_of(config).train()
    config.experiment_name = "second_part"
    config.train_cfg.max_epochs = 2
    config.resume = True
    resumed = runner_of(config)
    resumed.train()
    assert (tmp_path / "parts" / "epoch_2.pth").exists()
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    fresh = runner_of(config).model.state_dict()
    assert any(not torch.equal(value, fresh[name]) for name, value in expected.items()), "nothing was learned"
