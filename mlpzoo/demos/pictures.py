"""Pictures of what trained networks do on the demos' data."""

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

from mlpzoo.tasks import Box
from mlpzoo.train.curves import add_titles, new_figure, write_figure

RIGHT, WRONG = "#1b7f3b", "#c8102e"


def draw_predictions(
    path: Path,
    images: np.ndarray,
    labels: Sequence[int],
    predicted: Sequence[int],
    *,
    columns: int = 12,
    rows: int = 5,
) -> None:
    """Draw a grid of images under their predicted labels: all the wrong ones first, framed, then right ones.

    Args:
        path: the PNG file to write.
        images: gray values, `(number, height, width)`.
        labels: the true label of each.
        predicted: the predicted label of each.
        columns: images side by side.
        rows: rows of images, up to twice as many where the wrong ones need more.
    """
    wrong = [i for i, label in enumerate(labels) if predicted[i] != label]
    right = [i for i, label in enumerate(labels) if predicted[i] == label]
    rows = max(rows, min(math.ceil(len(wrong) / columns), 2 * rows))
    shown = [*wrong, *right][: rows * columns]

    figure = new_figure(0.82 * columns, 1.02 * rows + 1.0)
    top = 1 - 0.95 / figure.get_figheight()
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={"left": 0.02, "right": 0.98, "bottom": 0.02, "top": top, "wspace": 0.25, "hspace": 0.42},
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, i in zip(axes.flat, shown, strict=False):
        axis.imshow(images[i], cmap="gray", vmin=0, vmax=255)
        if predicted[i] == labels[i]:
            axis.set_title(str(predicted[i]), fontsize=11, color=RIGHT, pad=3)
            continue
        axis.set_title(f"{predicted[i]}, is {labels[i]}", fontsize=11, color=WRONG, fontweight="bold", pad=5)
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(color=WRONG, linewidth=3)
    accuracy = len(right) / len(labels)
    add_titles(
        figure,
        f"{len(right)} of {len(labels)} held-out digits read right ({accuracy:.1%})",
        f"above each digit what the model reads; {_wrong_ones(len(wrong), rows * columns)}",
    )
    write_figure(figure, path)


def draw_token_mixing(path: Path, weight: np.ndarray, grid: tuple[int, int], *, columns: int = 8) -> None:
    """Draw the first weight of a token-mixing MLP as one patch map for every hidden unit, on one colour scale.

    Args:
        path: the PNG file to write.
        weight: `(hidden units, tokens)`.
        grid: height and width of the patch grid.
        columns: maps side by side.
    """
    units = len(weight)
    rows = math.ceil(units / columns)
    limit = float(np.abs(weight).max())
    figure = new_figure(1.0 * columns + 1.1, 1.12 * rows + 0.9)
    right = 1 - 1.25 / figure.get_figwidth()
    top = 1 - 1.0 / figure.get_figheight()
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={"left": 0.02, "right": right, "bottom": 0.02, "top": top, "wspace": 0.12, "hspace": 0.28},
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for unit, axis in zip(range(units), axes.flat, strict=False):
        drawn = axis.imshow(weight[unit].reshape(grid), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(str(unit), fontsize=8, color="0.35", pad=2)
    scale = figure.add_axes((right + 0.03, 0.1, 0.02, top - 0.15))
    figure.colorbar(drawn, cax=scale).set_label("weight of the patch", fontsize=9)
    scale.tick_params(labelsize=8)
    add_titles(
        figure,
        "What the first token-mixing layer learned to look at",
        f"one map for each of its {units} hidden units: how it weighs the {grid[0]}×{grid[1]} patches of the image",
    )
    write_figure(figure, path)


def draw_restoration(path: Path, panels: Sequence[tuple[str, np.ndarray]], title: str, subtitle: str) -> None:
    """Draw images side by side, whole above and a detail of their middle, four times as large, below.

    Args:
        path: the PNG file to write.
        panels: name and image of each, `(height, width, 3)` in uint8, all of one size.
        title: what is shown.
        subtitle: how it was made.
    """
    height, width, _ = panels[0][1].shape
    side_y, side_x = height // 4, width // 4
    rows, columns = (
        slice((height - side_y) // 2, (height + side_y) // 2),
        slice((width - side_x) // 2, (width + side_x) // 2),
    )
    figure = new_figure(3.2 * len(panels), 2 * 3.2 * height / width + 1.5)
    top = 1 - 1.15 / figure.get_figheight()
    axes = figure.subplots(
        2,
        len(panels),
        squeeze=False,
        gridspec_kw={"left": 0.01, "right": 0.99, "bottom": 0.01, "top": top, "wspace": 0.02, "hspace": 0.03},
    )
    for (name, image), (whole, detail) in zip(panels, axes.T, strict=True):
        whole.imshow(image)
        whole.set_title(name, fontsize=12, pad=5)
        detail.imshow(image[rows, columns], interpolation="nearest")
        whole.set_axis_off()
        detail.set_axis_off()
    add_titles(figure, title, subtitle)
    write_figure(figure, path)


def _wrong_ones(number: int, shown: int) -> str:
    if number == 0:
        return "none is wrong"
    if number > shown:
        return f"{shown} of {number} wrong ones, in red"
    return "the wrong one is in red" if number == 1 else f"all {number} wrong ones first, in red"


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
    figure = new_figure(3.0 * columns, 3.0 * rows * height / width + 1.2)
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
    add_titles(figure, title, subtitle)
    note = f"green: the right class, overlap of {OVERLAP} or more; red: wrong; white, dashed: the true boxes"
    figure.text(0.02, 0.13 / figure.get_figheight(), note, fontsize=9, color="0.35", va="center")
    write_figure(figure, path)


def _frame(axis: Axes, box: Box, **style: Any) -> None:
    left, top, right, bottom = box.box
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
