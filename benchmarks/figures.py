"""The pictures of the suites.

Every function takes rows that share device, dtype, batch and mode, and a line that says so; it returns a figure, or
None where there is nothing to draw.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

import mlpzoo
from benchmarks.canvas import (
    CONTENDERS,
    GRAY,
    add_axes,
    add_legend,
    colour,
    colour_handles,
    contender_handles,
    label_ends,
    label_points,
    log_scale,
    look,
    new_figure,
)
from benchmarks.models import OURS
from benchmarks.options import image_size

Rows = Sequence[Mapping[str, Any]]


def draw_accuracy(rows: Rows, about: str) -> Figure | None:
    """Images a second against published accuracy; a thin line joins the contenders of a model."""
    info = {name: mlpzoo.model_info(name) for name in _names(rows)}
    rows = [row for row in rows if info[row["model"]].top1 is not None]
    if not rows:
        return None
    families = dict.fromkeys(info[row["model"]].family for row in rows)
    colours = {family: colour(place) for place, family in enumerate(families)}
    width, height = (9.5, 6.4) if len(_names(rows)) <= 10 else (12.0, 9.0)
    figure = new_figure(width, height, "Speed against accuracy", about)
    axes = add_axes(figure, left=0.8, bottom=1.05, right=0.4)
    labels, label_colours, marks = {}, {}, []
    for name in _names(rows):
        ink, accuracy = colours[info[name].family], info[name].top1
        speeds = {row["contender"]: row["images_per_s"] for row in rows if row["model"] == name}
        axes.plot([min(speeds.values()), max(speeds.values())], [accuracy] * 2, color=ink, linewidth=1, alpha=0.5)
        for contender, speed in speeds.items():
            ours = contender == OURS
            face, size = (ink, 9) if ours else ("white", 6)
            marks.append((speed, accuracy))
            axes.plot(speed, accuracy, look(contender)[1], color=ink, mfc=face, ms=size, zorder=3 if ours else 2)
        if OURS in speeds:
            labels[name], label_colours[name] = (speeds[OURS], accuracy), ink
    log_scale(axes.xaxis)
    axes.margins(0.1)
    axes.set_xlabel("images a second" + _at_rate(rows))
    axes.set_ylabel("published ImageNet top-1 accuracy, %")
    label_points(axes, labels, label_colours, marks)
    handles = [*colour_handles(colours), *contender_handles([row["contender"] for row in rows])]
    add_legend(figure, handles, columns=math.ceil(len(handles) / 2))
    return figure


def draw_gemm_share(rows: Rows, about: str) -> Figure:
    """How near every contender comes to the rate of a large matrix product."""
    thick, gap = 0.19, 0.2
    rank = {contender: place for place, contender in enumerate(CONTENDERS)}
    rows = sorted(rows, key=lambda row: rank.get(row["contender"], len(rank)))
    names = _names(sorted(rows, key=lambda row: mlpzoo.list_models().index(row["model"])))
    step = "training step" if rows[0]["suite"] == "train" else "forward pass"
    height = thick * len(rows) + gap * len(names)
    figure = new_figure(8.5, height + 1.85, f"Share of the GEMM rate, {step}", about)
    axes = add_axes(figure, left=1.6, bottom=0.85, right=0.35)
    place, ticks = 0.0, []
    for name in names:
        bars = [row for row in rows if row["model"] == name]
        ticks.append(place + thick * (len(bars) - 1) / 2)
        for row in bars:
            share = row["gemm_share"]
            weight = "bold" if row["contender"] == OURS else "normal"
            axes.barh(place, share, thick * 0.86, color=look(row["contender"])[3])
            axes.text(share + 0.008, place, f"{share:.2f}", va="center", fontsize=8, color=GRAY, fontweight=weight)
            place += thick
        place += gap
    axes.axvline(1, color="0.5", linewidth=1, zorder=0)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.08 * max(1.0, *(row["gemm_share"] for row in rows)))
    axes.set_ylim(place - gap / 2 - thick / 2, -gap / 2 - thick / 2)
    axes.set_xlabel("FLOP/s over those of a large matrix product in the same round")
    add_legend(figure, colour_handles({look(row["contender"])[0]: look(row["contender"])[3] for row in rows}))
    return figure


def draw_sizes(rows: Rows, about: str) -> Figure:
    """Time of an image and memory of a batch against the size of the images."""
    step = "training step" if rows[0]["mode"] == "training" else "forward pass"
    names = _names(rows)
    colours = {name: colour(place) for place, name in enumerate(names)}
    figure = new_figure(12.0, 5.9, f"A {step} at growing image sizes", about)
    panels = {
        "milliseconds an image" + _at_rate(rows): lambda row: 1e3 / row["images_per_s"],
        "peak memory, MB": lambda row: row["peak_mem_mb"],
    }
    for start, (label, value) in zip((0.0, 6.0), panels.items(), strict=True):
        axes = add_axes(figure, left=0.85, bottom=0.95, right=1.05, top=0.35, width=6.0, start=start)
        ends = {}
        for name in names:
            lines: dict[str, list[tuple[float, float]]] = {}
            for row in rows:
                if row["model"] == name and value(row) is not None:
                    lines.setdefault(row["contender"], []).append((_side(row), value(row)))
            for contender, points in lines.items():
                _line(axes, contender, sorted(points), colours[name])
            if OURS in lines:
                ends[name] = max(lines[OURS])
        log_scale(axes.yaxis)
        _side_ticks(axes, rows)
        axes.set_title(label, fontsize=10, color=GRAY, loc="left", pad=8)
        label_ends(axes, ends, colours)
    add_legend(figure, contender_handles([row["contender"] for row in rows]))
    return figure


def draw_ops(rows: Rows, about: str) -> Figure | None:
    """How long the reference twin and other implementations of every call take, over ours."""
    rows = [row for row in rows if row["ratio_median"] is not None]
    if not rows:
        return None
    calls: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        calls.setdefault(f"{row['op']}   {row['call']}", []).append(row)
    mode = "forward and backward" if rows[0]["mode"] == "training" else "forward"
    names = list(dict.fromkeys(row["contender"] for row in rows))
    looks = {name: ("Dsv^P"[place % 5], colour(place), 5) for place, name in enumerate(names)}
    looks["reference"] = ("o", look(OURS)[3], 7)
    apart, gap = 0.13, 0.15
    height = apart * len(rows) + gap * len(calls)
    figure = new_figure(11.0, height + 1.9, f"The ops of {rows[0]['model']}, {mode}", about)
    axes = add_axes(figure, left=5.0, bottom=0.9, right=0.35)
    place, ticks = 0.0, []
    for some in calls.values():
        ticks.append(place + apart * (len(some) - 1) / 2)
        axes.axhspan(place - apart / 2, place + apart * (len(some) - 0.5), color="0.96", linewidth=0)
        for row in some:
            marker, ink, size = looks[row["contender"]]
            axes.plot([row["ratio_q1"], row["ratio_q3"]], [place] * 2, color=ink, linewidth=3, alpha=0.3)
            axes.plot(row["ratio_median"], place, marker, color=ink, ms=size, alpha=0.9)
            place += apart
        place += gap
    axes.axvline(1, color="0.45", linewidth=1, zorder=1)
    log_scale(axes.xaxis)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(ticks, list(calls), fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - gap / 2 - apart / 2, -gap / 2 - apart / 2)
    axes.set_xlabel("time over ours in the same round; right of 1, ours is faster")
    handles = [Line2D([], [], color=looks[name][1], marker=looks[name][0], ls="", label=name) for name in names]
    add_legend(figure, handles)
    return figure


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in rows))


def _at_rate(rows: Rows) -> str:
    """What absolute speeds of a CPU are relative to."""
    rate = rows[0].get("gemm_rate")
    return f" where a large matrix product reaches {rate:.2g} TFLOP/s" if rate else ""


def _line(axes: Axes, contender: str, points: list[tuple[float, float]], ink: str) -> None:
    _, marker, line, _ = look(contender)
    face = ink if contender == OURS else "white"
    axes.plot(*zip(*points, strict=True), color=ink, marker=marker, linestyle=line, mfc=face, ms=5, linewidth=1.4)


def _side(row: Mapping[str, Any]) -> float:
    height, width = image_size(row["img_size"])
    return math.sqrt(height * width)


def _side_ticks(axes: Axes, rows: Rows) -> None:
    """A tick at every size that was measured."""
    sizes = dict(sorted({_side(row): row["img_size"].replace("x", "×") for row in rows}.items()))
    axes.set_xscale("log")
    axes.set_xticks(list(sizes), list(sizes.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("image, pixels")
