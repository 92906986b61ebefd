"""Pictures of a training run, drawn without a display and without touching matplotlib's global state."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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

    figure = _figure(0.82 * columns, 1.02 * rows + 1.0)
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
    _titles(
        figure,
        f"{len(right)} of {len(labels)} held-out digits read right ({accuracy:.1%})",
        f"above each digit what the model reads; {_wrong_ones(len(wrong), rows * columns)}",
    )
    _write(figure, path)


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
    figure = _figure(1.0 * columns + 1.1, 1.12 * rows + 0.9)
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
    _titles(
        figure,
        "What the first token-mixing layer learned to look at",
        f"one map for each of its {units} hidden units: how it weighs the {grid[0]}×{grid[1]} patches of the image",
    )
    _write(figure, path)


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
    figure = _figure(3.2 * len(panels), 2 * 3.2 * height / width + 1.5)
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
    _titles(figure, title, subtitle)
    _write(figure, path)


def draw_curves(path: Path, records: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw a run's loss, accuracy and learning rate over its updates.

    Args:
        path: the PNG file to write.
        records: those of `metrics.jsonl`, each with its `step`.
        title: what was trained on what.
    """
    panels = [
        ("loss", "loss", "validation_loss"),
        ("accuracy", "accuracy", "validation_top1"),
        ("learning rate", "lr", None),
        ("images/s", "images_per_s", None),
    ]
    figure = _figure(11, 6.6)
    axes = figure.subplots(
        2, 2, gridspec_kw={"left": 0.07, "right": 0.98, "bottom": 0.08, "top": 0.84, "wspace": 0.18, "hspace": 0.32}
    )
    for axis, (label, trained, validated) in zip(axes.flat, panels, strict=True):
        for name, color, text in ((trained, "#1f5fa8", "training"), (validated, WRONG, "validation")):
            points = [(record["step"], record[name]) for record in records if name and name in record]
            if points:
                marker = "o" if name == validated or len(points) == 1 else None
                axis.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=text)
        axis.set_title(label, fontsize=11, loc="left")
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if label == "accuracy":
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if label == "images/s":
            axis.set_ylim(bottom=0)
        if validated and axis.lines:
            axis.legend(frameon=False)
    for axis in axes[1]:
        axis.set_xlabel("update")
    _titles(figure, title, f"{max(record['step'] for record in records):,} updates")
    _write(figure, path)


def _figure(width: float, height: float) -> Figure:
    """A figure of that size in inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _titles(figure: Figure, title: str, subtitle: str) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(0.02, 1 - 0.32 * inch, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.02, 1 - 0.60 * inch, subtitle, fontsize=10, color="0.35", va="center")


def _wrong_ones(number: int, shown: int) -> str:
    if number == 0:
        return "none is wrong"
    if number > shown:
        return f"{shown} of {number} wrong ones, in red"
    return "the wrong one is in red" if number == 1 else f"all {number} wrong ones first, in red"


def _write(figure: Figure, path: Path) -> None:
    # No version of matplotlib in the file: the same run gives the same bytes.
    figure.savefig(path, format="png", metadata={"Software": None})
