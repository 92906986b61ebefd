"""mmcv without its compiled part, which few platforms have: what detectors need of it is in torchvision as well."""

import importlib.machinery
import sys
import types

import torchvision


class StandIn(types.ModuleType):
    """`mmcv._ext`, in which all but `nms` raises when called; RoIAlign has torchvision's as an option."""

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


def without_compiling() -> None:
    """Make `import mmcv.ops` work with mmcv-lite."""
    sys.modules.setdefault("mmcv._ext", StandIn("mmcv._ext"))
