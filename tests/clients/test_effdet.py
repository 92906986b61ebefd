"""effdet needs no adapter: `config.backbone_name = NAME`."""

import pytest
import torch
from dense.networks import assert_learns

import mlpzoo

effdet = pytest.importorskip("effdet", reason="effdet is not installed: run `make test-clients`")
pytestmark = pytest.mark.filterwarnings("default")


def test_step_and_answer():
    config = effdet.get_efficientdet_config("efficientdet_d0")
    config.backbone_name = "cyclemlp_b1"
    config.backbone_args = {}
    config.backbone_indices = (1, 2, 3)
    config.image_size = (128, 128)
    config.num_classes = 3
    config.fpn_channels, config.fpn_cell_repeats, config.box_class_repeats = 16, 1, 1
    model = effdet.EfficientDet(config, pretrained_backbone=False)
    bench = effdet.DetBenchTrain(model)
    target = {"bbox": [torch.tensor([[10.0, 10.0, 60.0, 90.0]])] * 2, "cls": [torch.tensor([1.0])] * 2}
    loss = bench(torch.randn(2, 3, 128, 128), target)["loss"]
    assert loss.isfinite()
    loss.backward()
    (network,) = (module for module in model.modules() if isinstance(module, mlpzoo.models.Backbone))
    assert_learns(network)
    with torch.no_grad():
        answers = effdet.DetBenchPredict(model).eval()(torch.randn(2, 3, 128, 128))
    assert answers.shape[0] == 2
    assert answers.isfinite().all()
