"""`MLPZooBackbone` in mmdet's and mmseg's own models, built from their configs."""

from pathlib import Path

import pytest
import torch
from clients.openmmlab import build, network_of, torchvision_pools, without_compiling
from dense.networks import assert_features_are_the_authors, assert_learns, features_case, small

pytest.importorskip("mmengine", reason="mmengine is not installed: run `make test-clients`")
pytest.importorskip("mmcv", reason="mmcv-lite is not installed: run `make test-clients`")
without_compiling()
mmdet = pytest.importorskip("mmdet", reason="mmdet is not installed: run `make test-clients`")
mmseg = pytest.importorskip("mmseg", reason="mmsegmentation is not installed: run `make test-clients`")
pytestmark = pytest.mark.filterwarnings("default")

FAMILIES = ["cyclemlp", "mixer"]


def base_config(package, name):
    from mmengine.config import Config

    return Config.fromfile(Path(package.__file__).parent / f".mim/configs/_base_/models/{name}.py").model


def backbone(family, **options):
    name, network = small(family)
    channels = list(network["embed_dims"]) if family == "cyclemlp" else [16] * 4
    return {"type": "MLPZooBackbone", "name": name, "pyramid_channels": 16, **network, **options}, channels


def detection_config(name, family):
    config = base_config(mmdet, name)
    one_stage = name.startswith("retinanet")
    config.backbone, channels = backbone(family)
    config.neck.update(in_channels=channels, out_channels=32)
    head = config.bbox_head if one_stage else config.rpn_head
    head.update(in_channels=32, feat_channels=32)
    if one_stage:
        head.num_classes = 3
    else:
        heads = config.roi_head
        torchvision_pools(config)
        for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
            extractor.out_channels = 32
        heads.bbox_head.update(in_channels=32, fc_out_channels=32, num_classes=3)
        heads.mask_head.update(in_channels=32, conv_out_channels=32, num_classes=3)
    return config


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["retinanet_r50_fpn", "mask-rcnn_r50_fpn"])
def test_detectors(name, family):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    model = build(mmdet, detection_config(name, family))
    samples = []
    for objects in (2, 0):
        sample = DetDataSample(metainfo={"img_shape": (130, 171), "ori_shape": (130, 171), "scale_factor": (1.0, 1.0)})
        boxes = torch.tensor([[4.0, 6.0, 60.0, 70.0], [20.0, 30.0, 90.0, 120.0]])[:objects].reshape(-1, 4)
        masks = BitmapMasks([mask.numpy() for mask in torch.ones(objects, 130, 171, dtype=torch.uint8)], 130, 171)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2])[:objects], masks=masks)
        samples.append(sample)
    images = [torch.randint(0, 256, (3, 130, 171), dtype=torch.uint8)] * 2
    batch = model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)
    assert batch["inputs"].shape[2:] == (160, 192)
    loss, _ = model.parse_losses(model.train()(**batch, mode="loss"))
    assert loss.isfinite()
    loss.backward()
    assert_learns(network_of(model))
    with torch.no_grad():
        answers = model.eval()(**batch, mode="predict")
    assert len(answers) == 2
    assert answers[0].pred_instances.bboxes.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["upernet_r50", "fpn_r50"])
def test_segmenters(name, family):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    config = base_config(mmseg, name)
    norm = {"type": "BN", "requires_grad": True}
    config.pretrained = None
    config.backbone, channels = backbone(family)
    if name == "fpn_r50":
        config.neck.update(in_channels=channels, out_channels=16)
        channels = [16] * 4
    else:
        config.auxiliary_head.update(in_channels=channels[2], channels=16, num_classes=3, norm_cfg=norm)
    config.decode_head.update(in_channels=channels, channels=16, num_classes=3, norm_cfg=norm)
    config.data_preprocessor.size = (128, 160)
    model = build(mmseg, config)
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo={"img_shape": (128, 160), "ori_shape": (128, 160)})
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, 128, 160)))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)] * 2
    batch = model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)
    loss, _ = model.parse_losses(model.train()(**batch, mode="loss"))
    assert loss.isfinite()
    loss.backward()
    assert_learns(network_of(model))
    with torch.no_grad():
        answers = model.eval()(**batch, mode="predict")
    assert answers[0].pred_sem_seg.data.shape == (1, 128, 160)


def test_layer_decay():
    from mmengine.optim import build_optim_wrapper

    model = build(mmdet, detection_config("retinanet_r50_fpn", "cyclemlp"))
    optimizer = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05}
    config = {"optimizer": optimizer, "constructor": "MLPZooLayerDecay", "paramwise_cfg": {"layer_decay": 0.5}}
    wrapper = build_optim_wrapper(model, config)
    rates = {p: group["lr"] for group in wrapper.optimizer.param_groups for p in group["params"]}
    assert set(rates) == {p for p in model.parameters() if p.requires_grad}
    assert rates[model.bbox_head.retina_cls.weight] == 0.1
    assert rates[network_of(model).stem.proj.weight] < 0.01
    with pytest.raises(ValueError, match="takes paramwise_cfg=dict"):
        build_optim_wrapper(model, {**config, "paramwise_cfg": {"decay_rate": 0.5}})


def test_options_of_the_config():
    from mmengine.registry import MODELS

    import mlpzoo.dense.mmengine  # noqa: F401

    config, _ = backbone("cyclemlp", frozen_stages=1, norm_eval=True, drop_path_rate=0.1, out_indices=(1, 2, 3))
    net = MODELS.build(config)
    maps = net(torch.zeros(1, 3, 64, 64))
    assert isinstance(maps, tuple)
    assert [y.shape[2] for y in maps] == [8, 4, 2]
    assert not net.network.stem.proj.weight.requires_grad
    with pytest.raises(TypeError, match="has no option 'frozen_stage'"):
        MODELS.build({**config, "frozen_stage": 1})


def test_features_are_the_authors(tmp_path):
    from mmengine.registry import MODELS

    import mlpzoo.dense.mmengine  # noqa: F401

    name, options, x = features_case(tmp_path)
    with torch.no_grad():
        assert_features_are_the_authors(MODELS.build({"type": "MLPZooBackbone", "name": name, **options}).eval()(x))
