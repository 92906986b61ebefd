"""Pictures of measurements: `python -m benchmarks --plot FOLDER`, of a run or, with `--from CSV`, of stored rows."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
except ImportError as error:
    raise ImportError(f"pictures need matplotlib ({error}): pip install 'mlpzoo[demo]'") from None

import mlpzoo
from benchmarks.measure import Row
from benchmarks.options import Size
from benchmarks.report import OURS

SETTING = ("device", "capability", "threads", "dtype", "batch", "compiled", "mode")
"""What all rows of a picture share."""
WHAT = ("suite", "model", "op", "call", "contender", "img_size", *SETTING)
"""What tells rows apart: of those that agree in it, the last counts."""
NUMBERS = ("images_per_s", "ms_median", "ratio_median", "ratio_q1", "ratio_q3", "tflops", "gemm_share", "peak_mem_mb")
MARKERS = {OURS: "o", "folded": "s", "reference": "^", "timm-nchw": "v", "timm-nhwc": "D"}
"""Of contenders; others have a cross."""
Group = Sequence[Mapping[str, Any]]


def draw(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Draw what rows of the suites `infer`, `train`, `size` and `ops` give; returns the files.

    There is one picture of a kind for every device, dtype, batch and mode, and of ops for every model. Speeds of a CPU
    are drawn as they would be if the GEMM probe had been equally fast in every round.
    """
    latest = {tuple(str(row.get(key) or "") for key in WHAT): row for row in rows if row.get("ms_median")}
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in latest.values():
        read: dict[str, Any] = {key: str(row.get(key, "")) for key in (*WHAT, "date", "torch", "commit", "command")}
        read |= {key: float(row[key]) if row.get(key) not in (None, "") else None for key in NUMBERS}
        read["subject"] = read["model"] if read["suite"] == "ops" else read["suite"]
        groups.setdefault((read["suite"], read["subject"], *(read[key] for key in SETTING)), []).append(read)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for group in groups.values():
        _steady(group)
        for kind, picture in PICTURES.get(group[0]["suite"], {}).items():
            figure = Figure(layout="constrained", dpi=100)
            FigureCanvasAgg(figure)
            if picture(figure, group):
                figure.suptitle(_about(group), fontsize=9, color="0.35")
                name = "-".join([kind, group[0]["subject"], *_setting(group[0])]).lower()
                files.append(folder / (re.sub("[^a-z0-9_]+", "-", name) + ".png"))
                # No version of matplotlib in the file: the same rows give the same bytes.
                figure.savefig(files[-1], format="png", metadata={"Software": None})
    return files


def draw_accuracy(figure: Figure, rows: Group) -> bool:
    """Images a second against published accuracy; a line joins the contenders of a model."""
    top1 = {name: mlpzoo.model_info(name).top1 for name in _names(rows, "model")}
    rows = [row for row in rows if top1[row["model"]] is not None]
    figure.set_size_inches(9.5, 6.4)
    axes = figure.subplots()
    for place, name in enumerate(sorted(_names(rows, "model"), key=top1.__getitem__)):
        speeds = {row["contender"]: row["images_per_s"] for row in rows if row["model"] == name}
        axes.plot(sorted(speeds.values()), [top1[name]] * len(speeds), color=f"C{place}", linewidth=1, alpha=0.5)
        for contender, speed in speeds.items():
            size, marker = 90 if contender == OURS else 35, MARKERS.get(contender, "X")
            axes.scatter(speed, top1[name], size, f"C{place}", marker=marker, zorder=2, edgecolors="white")
        # Neighbours in accuracy have their names on different sides.
        spot, style = (speeds.get(OURS, max(speeds.values())), top1[name]), {"ha": "center", "va": "center"}
        shift = (0, 12 if place % 2 else -13)
        axes.annotate(name, spot, shift, textcoords="offset points", color=f"C{place}", **style)
    _log(axes, "x")
    axes.margins(x=0.15, y=0.12)
    axes.set(xlabel="images a second" + _at_rate(rows), ylabel="published ImageNet top-1 accuracy, %")
    _legend(axes, rows)
    return bool(rows)


def draw_gemm_share(figure: Figure, rows: Group) -> bool:
    """How near every contender comes to the rate of a large matrix product."""
    names, contenders = _names(rows, "model"), _names(rows, "contender")
    figure.set_size_inches(8.5, 2.0 + 0.17 * len(names) * (len(contenders) + 1))
    axes = figure.subplots()
    for place, contender in enumerate(contenders):
        shares = {row["model"]: row["gemm_share"] for row in rows if row["contender"] == contender}
        lines = [names.index(name) + (place + 0.5) / (len(contenders) + 1) - 0.5 for name in shares]
        bars = axes.barh(lines, shares.values(), 0.9 / (len(contenders) + 1), color=f"C{place}", label=contender)
        axes.bar_label(bars, fmt=" {:.2f}", fontsize=7)
    axes.axvline(1, color="0.5", linewidth=1)
    axes.set_yticks([place - 0.5 / (len(contenders) + 1) for place in range(len(names))], names)
    axes.invert_yaxis()
    step = "training step" if rows[0]["suite"] == "train" else "forward pass"
    axes.set_xlabel(f"{step}: FLOP/s over those of a large matrix product in the same round")
    figure.legend(loc="outside lower center", ncols=len(contenders), frameon=False, fontsize=8)
    return True


def draw_sizes(figure: Figure, rows: Group) -> bool:
    """Time of an image and memory of a batch against the size of the images."""
    figure.set_size_inches(11.0, 5.2)
    sizes = {row["img_size"]: math.sqrt(math.prod(Size.parse(row["img_size"]))) for row in rows}
    panels: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "milliseconds an image" + _at_rate(rows): lambda row: 1e3 / row["images_per_s"],
        "peak memory, MB": lambda row: row["peak_mem_mb"],
    }
    for axes, (title, value) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for place, name in enumerate(_names(rows, "model")):
            for contender in _names(rows, "contender"):
                some = [row for row in rows if (row["model"], row["contender"]) == (name, contender) and value(row)]
                points = sorted((sizes[row["img_size"]], value(row)) for row in some)
                style = {"color": f"C{place}", "marker": MARKERS.get(contender, "X")}
                style |= {"linestyle": "-", "label": name} if contender == OURS else {"linestyle": "--"}
                axes.plot([x for x, _ in points], [y for _, y in points], **style)
        _log(axes, "x"), _log(axes, "y")
        axes.set_xticks(list(sizes.values()), [text.replace("x", "×") for text in sizes])
        axes.set_xlabel("image, pixels")
        axes.set_title(title, fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8)
    _legend(figure.axes[0], rows)
    return True


def draw_ops(figure: Figure, rows: Group) -> bool:
    """How long the reference twin and other implementations of every call take, over ours."""
    rows = [row for row in rows if row["ratio_median"] is not None]
    calls = list(dict.fromkeys(f"{row['op']}  {row['call']}" for row in rows))
    figure.set_size_inches(11.0, 2.0 + 0.3 * len(calls))
    axes = figure.subplots()
    for place, contender in enumerate(_names(rows, "contender")):
        some = [row for row in rows if row["contender"] == contender]
        lines = [calls.index(f"{row['op']}  {row['call']}") for row in some]
        spread = [[abs(row["ratio_median"] - row[key]) for row in some] for key in ("ratio_q1", "ratio_q3")]
        middle = [row["ratio_median"] for row in some]
        axes.errorbar(middle, lines, xerr=spread, fmt=MARKERS.get(contender, "X"), color=f"C{place}", label=contender)
    axes.axvline(1, color="0.5", linewidth=1)
    _log(axes, "x")
    axes.set_yticks(range(len(calls)), calls, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time over ours in the same round; right of 1, ours is faster")
    figure.legend(loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    return bool(rows)


PICTURES: dict[str, dict[str, Callable[[Figure, Group], bool]]] = {
    "infer": {"accuracy": draw_accuracy, "gemm-share": draw_gemm_share},
    "train": {"gemm-share": draw_gemm_share},
    "size": {"size": draw_sizes},
    "ops": {"ops": draw_ops},
}
"""Kinds of pictures of each suite. What draws one returns whether there was something to draw."""


def _names(rows: Group, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _legend(axes: Axes, rows: Group) -> None:
    """A legend of contenders by their marker."""
    names = _names(rows, "contender")
    handles = [axes.scatter([], [], 35, "0.4", marker=MARKERS.get(name, "X"), label=name) for name in names]
    axes.add_artist(axes.legend(handles=handles, frameon=False, fontsize=8))


def _log(axes: Axes, name: str) -> None:
    """A logarithmic axis with round numbers, written out."""
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.9")


def _steady(group: Sequence[dict[str, Any]]) -> None:
    """Turn absolute speeds of a CPU into what they would be, had the GEMM probe been equally fast all the time."""
    shares = [row for row in group if row["gemm_share"] and row["images_per_s"] and not _on_cuda(row)]
    rates = [row["tflops"] / row["gemm_share"] for row in shares]
    for row, rate in zip(shares, rates, strict=True):
        row["images_per_s"] *= statistics.median(rates) / rate
        group[0]["gemm_rate"] = statistics.median(rates)


def _at_rate(rows: Group) -> str:
    rate = rows[0].get("gemm_rate") if rows else None
    return f" where a large matrix product reaches {rate:.2g} TFLOP/s" if rate else ""


def _setting(row: Mapping[str, Any]) -> list[str]:
    """What all rows of a picture share, in words."""
    words = [row["device"], row["capability"], "" if _on_cuda(row) else f"{row['threads']} threads", row["dtype"]]
    words += [f"batch {row['batch']}", row["mode"], "compiled" if row["compiled"] == "1" else "eager"]
    return [word for word in words if word]


def _about(rows: Group) -> str:
    """One line that says where and when."""
    days, commits = sorted({row["date"][:10] for row in rows}), sorted({row["commit"] for row in rows})
    when = [f"torch {rows[0]['torch'].partition('+')[0]}", " to ".join(dict.fromkeys((days[0], days[-1])))]
    return ", ".join([*_setting(rows[0]), *when, f"commit {', '.join(commits)}"])


def _on_cuda(row: Mapping[str, Any]) -> bool:
    return "--device cuda" in row["command"]
