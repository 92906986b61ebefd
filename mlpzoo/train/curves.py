"""A run's curves, drawn without a display and without touching matplotlib's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mlpzoo.weights._writing import naming

TRAINING, VALIDATION = "#1f5fa8", "#c8102e"


def draw_curves(
    path: Path,
    records: Sequence[Mapping[str, float]],
    title: str,
    curve: tuple[str, str | None, str | None],
    *,
    percent: bool = False,
) -> None:
    """Draw a run's loss, one other figure, the learning rate and the speed over its updates.

    Args:
        path: the PNG file to write.
        records: those of `metrics.jsonl`, each with its `step`.
        title: what was trained on what.
        curve: the other figure: its title, and its names in training and in validation.
        percent: whether that figure is a share.
    """
    panels = [
        ("loss", "loss", "validation_loss"),
        curve,
        ("learning rate", "lr", None),
        ("images/s", "images_per_s", None),
    ]
    figure = new_figure(11, 6.6)
    axes = figure.subplots(
        2, 2, gridspec_kw={"left": 0.07, "right": 0.98, "bottom": 0.08, "top": 0.84, "wspace": 0.18, "hspace": 0.32}
    )
    for axis, (label, trained, validated) in zip(axes.flat, panels, strict=True):
        for name, color, text in ((trained, TRAINING, "training"), (validated, VALIDATION, "validation")):
            points = [(record["step"], record[name]) for record in records if name and name in record]
            if points:
                marker = "o" if name == validated or len(points) == 1 else None
                axis.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=text)
        axis.set_title(label, fontsize=11, loc="left")
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        if percent and label == curve[0]:
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if label == "images/s":
            axis.set_ylim(bottom=0)
        if validated and axis.lines:
            axis.legend(frameon=False)
    for axis in axes[1]:
        axis.set_xlabel("update")
    add_titles(figure, title, f"{max(record['step'] for record in records):,} updates")
    write_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_titles(figure: Figure, title: str, subtitle: str) -> None:
    """Put a title and a subtitle at the top left."""
    inch = 1 / figure.get_figheight()
    figure.text(0.02, 1 - 0.32 * inch, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.02, 1 - 0.60 * inch, subtitle, fontsize=10, color="0.35", va="center")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    # No version of matplotlib in the file: the same run gives the same bytes.
    with naming(path):
        figure.savefig(path, format="png", metadata={"Software": None})
