"""mmcv without its compiled part, which few platforms have: what detectors need of it is in torchvision as well.

And what tests of mmdet and of mmseg share.
"""

import importlib
import importlib.machinery
import sys
import types

import torch
import torchvision
from torch import nn

import mlpzoo


class StandIn(types.ModuleType):
    """`mmcv._ext`, in which all but two functions raise when called."""

    def __init__(self) -> None:
        super().__init__("mmcv._ext")
        # With it, mmengine finds a complete mmcv.
        self.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
        self.__file__ = __file__

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_, **__):
            raise NotImplementedError(f"mmcv._ext.{name} has no stand-in")

        return missing

    @staticmethod
    def nms(boxes, scores, iou_threshold, offset):
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    @staticmethod
    def roi_align_forward(
        x, rois, output, _, __, aligned_height, aligned_width, spatial_scale, sampling_ratio, pool_mode, aligned
    ):
        """Targets of masks are cut by it; what has gradients is configured to use torchvision's own."""
        assert pool_mode == 1, "the mean, not the maximum"
        size = (aligned_height, aligned_width)
        output.copy_(torchvision.ops.roi_align(x, rois, size, spatial_scale, sampling_ratio, aligned))


def without_compiling() -> None:
    """Make `import mmcv.ops` work with mmcv-lite."""
    sys.modules.setdefault("mmcv._ext", StandIn())


def create(package, config) -> nn.Module:
    """Create a model of mmdet or mmseg."""
    importlib.import_module("mlpzoo.dense.mmengine")
    importlib.import_module(f"{package.__name__}.utils").register_all_modules()
    return importlib.import_module(f"{package.__name__}.registry").MODELS.build(config)


def build(package, config) -> nn.Module:
    """Create a model and initialize it, as a Runner does."""
    model = create(package, config)
    before = {name: value.clone() for name, value in network_of(model).state_dict().items()}
    model.init_weights()
    after = network_of(model).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "weights that were loaded are gone"
    return model


def network_of(model: nn.Module) -> nn.Module:
    """The network of the zoo inside of a detector or segmenter."""
    (network,) = (module for module in model.modules() if isinstance(module, mlpzoo.models.Backbone))
    return network


def torchvision_pools(config) -> None:
    """Make a two-stage detector cut its regions with torchvision, whose op has gradients."""
    for extractor in (config.roi_head.bbox_roi_extractor, config.roi_head.mask_roi_extractor):
        extractor.roi_layer.use_torchvision = True
