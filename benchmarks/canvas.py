"""What the pictures are made of: canvases, axes, legends and labels that keep out of each other's way.

Nothing here needs a display or touches matplotlib's global state. Sizes are in inches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from benchmarks.models import OURS

# Okabe and Ito's colours, which any eye tells apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#8c6d31")
GRAY = "0.35"
CONTENDERS: dict[str, tuple[str, str, Any, str]] = {
    OURS: ("ours", "o", "-", "#0072b2"),
    "folded": ("ours, folded", "s", "-.", "#56b4e9"),
    "reference": ("reference", "^", "--", "#999999"),
    "timm-nchw": ("timm", "v", ":", "#d55e00"),
    "timm-nhwc": ("timm, channels last", "D", (0, (1, 3)), "#e69f00"),
}
"""Name, marker, line and colour."""

Point = tuple[float, float]
PLACES = (
    *((0, 12, "center"), (0, -12, "center"), (10, 0, "left"), (-10, 0, "right")),
    *((6, 12, "left"), (-6, 12, "right"), (6, -12, "left"), (-6, -12, "right")),
    *((0, 23, "center"), (0, -23, "center"), (20, 12, "left"), (-20, -12, "right")),
)
"""Where a name may stand beside its point, the best first; in points."""
TICKS = ((20, (1, 2, 5)), (3, (1, 1.5, 2, 3, 4, 5, 7)), (0, (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)))
"""From which ratio of its ends a logarithmic axis has ticks at which multiples of powers of ten."""
TOP = 0.9
"""From the upper edge to below the two lines of the title."""


def look(contender: str) -> tuple[str, str, Any, str]:
    """Name, marker, line and colour of a contender."""
    return CONTENDERS.get(contender, (contender, "X", (0, (5, 1)), "#009e73"))


def colour(place: int) -> str:
    """A colour for every place in a list."""
    return COLOURS[place % len(COLOURS)]


def new_figure(width: float, height: float, title: str, about: str) -> Figure:
    """A figure under its title, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.2 / width, 1 - 0.32 / height, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.2 / width, 1 - 0.62 / height, about, fontsize=10, color=GRAY, va="center")
    return figure


def add_axes(
    figure: Figure,
    *,
    left: float,
    bottom: float,
    right: float,
    top: float = 0.0,
    width: float = 0.0,
    start: float = 0.0,
) -> Axes:
    """Axes with these margins below the title, in a strip of the figure or in all of it."""
    whole, height = figure.get_size_inches()
    width = width or whole
    box = (
        (start + left) / whole,
        bottom / height,
        (width - left - right) / whole,
        (height - bottom - TOP - top) / height,
    )
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.6")
    axes.tick_params(colors=GRAY, labelsize=9)
    axes.xaxis.label.set_color(GRAY)
    axes.yaxis.label.set_color(GRAY)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def log_scale(axis: Axis) -> None:
    """A logarithmic axis whose ticks are round numbers, written out; to be set when everything is drawn."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=next(subs for ratio, subs in TICKS if high > ratio * low)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.tick_params(axis=axis.axis_name, which="minor", length=0)


def contender_handles(contenders: Sequence[str]) -> list[Line2D]:
    """What a legend shows of contenders told apart by marker and line."""
    handles = []
    for contender in dict.fromkeys(contenders):
        name, marker, line, _ = look(contender)
        face = GRAY if contender == OURS else "white"
        handles.append(Line2D([], [], color=GRAY, marker=marker, linestyle=line, markerfacecolor=face, label=name))
    return handles


def colour_handles(colours: Mapping[str, str]) -> list[Line2D]:
    """What a legend shows of things told apart by colour."""
    return [Line2D([], [], color=value, linewidth=5, label=name) for name, value in colours.items()]


def add_legend(figure: Figure, handles: Sequence[Line2D], *, columns: int = 0) -> None:
    """A legend along the lower edge; its margin is a row's 0.25 inches."""
    box = (0.5, 0.06 / figure.get_figheight())
    options = {"loc": "lower center", "bbox_to_anchor": box, "ncols": columns or len(handles)}
    figure.legend(handles=handles, frameon=False, fontsize=9, labelcolor=GRAY, columnspacing=1.6, **options)


def label_points(axes: Axes, points: Mapping[str, Point], colours: Mapping[str, str], marks: Sequence[Point]) -> None:
    """Write names beside points, each where it covers the fewest of the marks and of the names before."""
    axes.autoscale_view()
    renderer = axes.figure.canvas.get_renderer()
    taken = [axes.transData.transform(mark) for mark in marks]
    names: list[Bbox] = []
    for name, point in points.items():
        tried = []
        for x, y, side in PLACES:
            options = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9, "color": colours[name]}
            text = axes.annotate(name, point, (x, y), **options)
            box = text.get_window_extent(renderer)
            covered = sum(box.padded(4).contains(*mark) for mark in taken)
            covered += 3 * sum(box.overlaps(other) for other in names)
            tried.append((covered, len(tried), text, box))
        best = min(tried)
        names.append(best[3])
        for attempt in tried:
            if attempt is not best:
                attempt[2].remove()


def label_ends(axes: Axes, points: Mapping[str, Point], colours: Mapping[str, str]) -> None:
    """Write names to the right of where lines end, moved up or down where they would cover each other."""
    apart = 12.0 * axes.figure.dpi / 72
    at = {name: axes.transData.transform(point) for name, point in points.items()}
    lowest = float("-inf")
    for name in sorted(at, key=lambda name: at[name][1]):
        x, y = at[name]
        lowest = max(y, lowest + apart)
        place = ((x + 8, lowest) - at[name]) * 72 / axes.figure.dpi
        options = {"textcoords": "offset points", "va": "center", "fontsize": 9, "color": colours[name]}
        axes.annotate(name, points[name], tuple(place), annotation_clip=False, **options)
