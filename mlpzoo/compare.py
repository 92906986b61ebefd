"""Cost against image size: parameters, operations, activation memory and time of any models, side by side."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mlpzoo.ops.resize import Grid
from mlpzoo.registry import create_model
from mlpzoo.weights._writing import replacing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What one model costs at one image size.

    Attributes:
        model: its name.
        img_size: height and width in pixels.
        parameters: how many, with the head.
        gmacs: multiply-accumulates of one image's forward pass, in 10⁹.
        activation_mb: what a forward pass keeps for the backward pass, for one image, in 10⁶ bytes.
        ms: median time of one image's forward pass in inference mode, in milliseconds.
        problem: why the model cannot take the size; the figures are None then.
    """

    model: str
    img_size: Grid
    parameters: int | None = None
    gmacs: float | None = None
    activation_mb: float | None = None
    ms: float | None = None
    problem: str = ""


def compare(
    models: Sequence[str],
    sizes: Sequence[int | Grid],
    *,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    repeats: int = 9,
    progress: Callable[[str], Any] = lambda _: None,
) -> Iterator[Cost]:
    """Measure models over image sizes.

    At each size the models run in turn, round after round, so that a machine whose speed drifts treats them alike.

    Args:
        models: names of `mlpzoo.list_models()`.
        sizes: image sides in pixels, or (height, width).
        batch_size: images in a batch; the figures are for one image.
        device: where to run.
        repeats: rounds that are timed, after one that is not.
        progress: told what is done next.

    Yields:
        One `Cost` for every size and model, sizes outermost; with a `problem` where a model cannot take the size.

    Raises:
        ValueError: for an unknown model, or a size or count that is not positive.
    """
    grids = [to_2tuple(size) for size in sizes]
    if min(batch_size, repeats, *(side for grid in grids for side in grid)) < 1:
        raise ValueError("sizes, batch size and repeats must be 1 or more")
    for name in models:
        create_model(name, device="meta")
    for grid in grids:
        built: dict[str, nn.Module] = {}
        costs: dict[str, Cost] = {}
        images = torch.randn(batch_size, 3, *grid, device=device)
        for name in models:
            progress(f"{name} at {grid[0]}×{grid[1]}: operations and memory")
            try:
                model = at_size(name, grid, device)
                costs[name] = _static_cost(name, model, images)
                built[name] = model.eval()
            except ValueError as error:
                costs[name] = Cost(model=name, img_size=grid, problem=str(error))
        progress(f"{grid[0]}×{grid[1]}: time")
        for name, seconds in _times(built, images, repeats).items():
            costs[name] = dataclasses.replace(costs[name], ms=1000 * seconds / batch_size)
        yield from costs.values()


def at_size(name: str, img_size: Grid, device: str | torch.device) -> nn.Module:
    """A model for an image size: built for it where the family's config knows sizes, as it is where any size goes."""
    config: Any = create_model(name, device="meta").config
    options: dict[str, Any] = {"img_size": img_size} if config.data_size else {}
    return create_model(name, device=device, **options)


def kept_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """Bytes that a forward pass of these images keeps for the backward pass, besides the weights."""
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def remember(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            # Held until the end: a storage that is freed could lend its identity to another.
            alive.append(value.detach())
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(remember, lambda value: value):
        model(images)
    return sum(kept.values())


def _static_cost(name: str, model: nn.Module, images: torch.Tensor) -> Cost:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.train()(images)
    # Not while operations are counted: fast paths that save less do not run then.
    kept = kept_bytes(model, images)
    return Cost(
        model=name,
        img_size=(images.shape[2], images.shape[3]),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=counter.get_total_flops() / 2e9 / len(images),
        activation_mb=kept / 1e6 / len(images),
    )


def _times(models: dict[str, nn.Module], images: torch.Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of a forward pass of each model, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for i in range(repeats + 1):
            for name, model in models.items():
                start = time.perf_counter()
                model(images)
                if images.is_cuda:
                    torch.cuda.synchronize(images.device)
                if i > 0:
                    seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


PANELS = (
    ("gmacs", "operations (10⁹ multiply-accumulates)", 1),
    ("activation_mb", "kept for the backward pass (MB)", 1),
    ("ms", "forward pass (ms)", 1),
    ("parameters", "parameters (10⁶)", 1e6),
)


def draw(costs: Sequence[Cost], path: str | Path, *, title: str = "") -> None:
    """Plot costs against image size, one panel a figure, both axes logarithmic, as PNG or what `path` ends with.

    Args:
        costs: from `compare`.
        path: the file to write.
        title: what the picture is of: device and the like.

    Raises:
        ImportError: when matplotlib is missing, telling how to install it.
        ValueError: when there is nothing to draw, or matplotlib does not write such files.
        OSError: when it cannot be written; what was there stays.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
    except ImportError:
        raise ImportError("drawing needs matplotlib: pip install 'mlpzoo[demo]'") from None
    drawable = [cost for cost in costs if not cost.problem]
    if not drawable:
        raise ValueError("no model can take any of these sizes: there is nothing to draw")
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    figure.suptitle(title or "Cost of one image against image size")
    sides = sorted({_side(cost) for cost in drawable})
    names = list(dict.fromkeys(cost.model for cost in drawable))
    for axis, (field, label, unit) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for name in names:
            points = sorted((_side(c), getattr(c, field) / unit) for c in drawable if c.model == name)
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
        axis.set(xscale="log", yscale="log", xlabel="image side (pixels)", title=label)
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(sides, [f"{side:.0f}" for side in sides])
        axis.grid(alpha=0.3)
    figure.axes[0].legend()
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110, format=Path(path).suffix.lstrip(".") or "png")


def _side(cost: Cost) -> float:
    return math.sqrt(cost.img_size[0] * cost.img_size[1])
