"""`MLPZooBackbone` and the lazy config of `mlpzoo.dense.detectron2`."""

import pytest
import torch
from dense.networks import assert_features_are_the_authors, assert_learns, features_case, image, small

pytest.importorskip("detectron2", reason="detectron2 is not installed: it is not on PyPI, see its documentation")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("family", ["cyclemlp", "mixer"])
def test_lazy_backbone(family):
    from detectron2.config import instantiate
    from detectron2.modeling import Backbone

    from mlpzoo.dense.detectron2 import lazy_backbone

    name, options = small(family)
    config = lazy_backbone(name, out_channels=8, **options)
    net = instantiate(config)
    assert isinstance(net, Backbone)
    assert net.size_divisibility == 32
    maps = net(image())
    assert list(maps) == list(net.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    for name, y in maps.items():
        shape = net.output_shape()[name]
        assert y.shape[:2] == (2, shape.channels)
        assert y.shape[2:] == (-(-96 // shape.stride), -(-128 // shape.stride))
    sum((y * torch.randn_like(y)).mean() for y in maps.values()).backward()
    assert_learns(net)


def test_names_of_stages():
    from mlpzoo.dense.detectron2 import MLPZooBackbone

    name, options = small("cyclemlp")
    net = MLPZooBackbone(name, out_indices=(1, 2), frozen_stages=0, **options)
    assert {key: tuple(y.shape[1:]) for key, y in net(image()).items()} == {"res3": (12, 12, 16), "res4": (16, 6, 8)}
    assert {key: shape.stride for key, shape in net.output_shape().items()} == {"res3": 8, "res4": 16}


def test_features_are_the_authors(tmp_path):
    from mlpzoo.dense.detectron2 import MLPZooBackbone

    name, options, x = features_case(tmp_path)
    with torch.no_grad():
        assert_features_are_the_authors(list(MLPZooBackbone(name, **options).eval()(x).values()))
