"""effdet needs no adapter: `config.backbone_name = NAME`."""

import pytest
import torch
from dense.networks import assert_features_are_the_authors, assert_learns, features_case

import mlpzoo
import mlpzoo.dense

effdet = pytest.importorskip("effdet", reason="effdet is not installed: run `make test-clients`")
pytestmark = pytest.mark.filterwarnings("default")


def build(name, indices, **options):
    config = effdet.get_efficientdet_config("efficientdet_d0")
    config.backbone_name = name
    config.backbone_args = options
    config.backbone_indices = indices
    config.min_level, config.num_levels = 2 + indices[0], len(indices) + 2
    config.image_size = (128, 128)
    config.num_classes = 3
    config.fpn_channels, config.fpn_cell_repeats, config.box_class_repeats = 16, 1, 1
    return effdet.EfficientDet(config, pretrained_backbone=False)


@pytest.mark.parametrize("name", ["cyclemlp_b1", "mixer_s32_pyramid"])
def test_step_and_answer(name):
    model = build(name, (1, 2, 3))
    bench = effdet.DetBenchTrain(model)
    target = {"bbox": [torch.tensor([[10.0, 10.0, 60.0, 90.0]])] * 2, "cls": [torch.tensor([1.0])] * 2}
    loss = bench(torch.randn(2, 3, 128, 128), target)["loss"]
    assert loss.isfinite()
    loss.backward()
    (network,) = (module for module in model.modules() if isinstance(module, mlpzoo.models.Backbone))
    assert_learns(network)
    assert_learns(model.backbone)
    with torch.no_grad():
        answers = effdet.DetBenchPredict(model).eval()(torch.randn(2, 3, 128, 128))
    assert answers.shape[0] == 2
    assert answers.isfinite().all()


def test_features_are_the_authors(tmp_path):
    name, options, x = features_case(tmp_path)
    path = options.pop("checkpoint_path")
    model = build(name, (0, 1, 2, 3), **options).eval()
    mlpzoo.load_checkpoint(model.backbone.model, path)
    with torch.no_grad():
        assert_features_are_the_authors(model.backbone(x))
