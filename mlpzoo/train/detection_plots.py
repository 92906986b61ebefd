"""Pictures of what a detector finds."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torchvision.ops import box_iou

from mlpzoo.dense.detection import Box
from mlpzoo.train.plots import RIGHT, WRONG, _figure, _titles, _write

OVERLAP = 0.5
"""Least overlap, intersection over union, of a box that is right."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """An image with what was found in it and what is there.

    Attributes:
        image: `(height, width, 3)`, uint8.
        found: boxes of the detector.
        truth: true boxes.
    """

    image: np.ndarray
    found: Sequence[Box]
    truth: Sequence[Box]


def are_right(found: Sequence[Box], truth: Sequence[Box]) -> list[bool]:
    """Whether each box, the surest first, is of a true one's class and overlaps it; a true one counts once."""
    right = [False] * len(found)
    if not found or not truth:
        return right
    overlaps = box_iou(torch.tensor([box.box for box in found]), torch.tensor([box.box for box in truth]))
    left = set(range(len(truth)))
    for i in sorted(range(len(found)), key=lambda i: -found[i].score):
        fitting = [j for j in left if truth[j].label == found[i].label and overlaps[i, j] >= OVERLAP]
        if fitting:
            left.remove(max(fitting, key=lambda j: float(overlaps[i, j])))
            right[i] = True
    return right


def draw_detections(path: Path, panels: Sequence[Panel], title: str, subtitle: str, *, columns: int = 4) -> None:
    """Draw a grid of images with boxes: green where right, red where wrong; true ones thin, white and dashed.

    Args:
        path: the PNG file to write.
        panels: the images, all of one size.
        title: what is shown.
        subtitle: how it was made.
        columns: images side by side.
    """
    rows = math.ceil(len(panels) / columns)
    height, width = panels[0].image.shape[:2]
    figure = _figure(3.0 * columns, 3.0 * rows * height / width + 1.2)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.01,
            "right": 0.99,
            "bottom": 0.3 / figure.get_figheight(),
            "top": 1 - 0.85 / figure.get_figheight(),
            "wspace": 0.03,
            "hspace": 0.03,
        },
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        # Edges of pixels, not their centres, at whole numbers: as boxes count.
        axis.imshow(panel.image, extent=(0, width, height, 0))
        for box, right in zip(panel.found, are_right(panel.found, panel.truth), strict=True):
            color = RIGHT if right else WRONG
            _frame(axis, box, edgecolor=color, linewidth=2.5)
            axis.text(
                min(box.box[0], width - 22),
                max(box.box[1], 10),
                f"{box.label}  {box.score:.2f}",
                fontsize=8,
                color="white",
                va="bottom",
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5},
            )
        for box in panel.truth:
            _frame(axis, box, edgecolor="white", linewidth=0.8, linestyle=(0, (3, 3)))
        axis.set(xlim=(0, width), ylim=(height, 0))
    _titles(figure, title, subtitle)
    note = f"green: the right class, overlap of {OVERLAP} or more; red: wrong; white, dashed: the true boxes"
    figure.text(0.02, 0.13 / figure.get_figheight(), note, fontsize=9, color="0.35", va="center")
    _write(figure, path)


def _frame(axis: Axes, box: Box, **style: Any) -> None:
    left, top, right, bottom = box.box
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
