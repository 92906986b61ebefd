"""mmcv without its compiled part, which few platforms have: what detectors need of it is in torchvision as well."""

import importlib.machinery
import sys
import types

import torchvision


class StandIn(types.ModuleType):
    """`mmcv._ext`, in which all but two functions raise when called."""

    __spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    __file__ = __file__

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
    sys.modules.setdefault("mmcv._ext", StandIn("mmcv._ext"))
