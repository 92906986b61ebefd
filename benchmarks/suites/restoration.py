"""The suite `restoration`: peak memory and time of restoring images by tiles, each case in a process of its own.

Counted is what restoring adds to what the process holds just before: PyTorch, the weights, and the image itself.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import torch

from benchmarks import memory
from benchmarks import options as opt
from benchmarks.base import Base
from benchmarks.measure import Row
from benchmarks.options import Options, Size
from benchmarks.suite import Suite, register


def _restorers(names: Iterable[str]) -> tuple[str, ...]:
    from mlpzoo.restoration import list_restorers

    for name in names:
        if name not in list_restorers():
            raise ValueError("--models: " + opt.unknown("restoration network", name, list_restorers()))
    return tuple(dict.fromkeys(names))


def case(name: str, size: Size, tile: int, overlap: int | None) -> memory.Step:
    """Restoring of one random image to measure; see `benchmarks.memory.in_process`."""
    from mlpzoo.restoration import create_restorer, restore

    network = create_restorer(name).eval()
    image = torch.rand(3, *size)

    def step() -> Row:
        passes = 0

        def count(done: int, _: int) -> None:
            nonlocal passes
            passes = done

        restore(network, image, tile=tile or None, overlap=overlap, progress=count)
        return {"passes": passes}

    return step


def run_restoration(options: Options, name: str, base: Base | None) -> Iterator[list[Row]]:
    """Restore images with a network; yields a row for each size and tile."""
    for size in options.sizes:
        for tile in options.tiles:
            about = {"tile": tile, "overlap": options.overlap if tile else None}
            found = memory.in_process(case, name, size, *about.values(), threads=options.threads)
            yield [{"img_size": size, **about, **found}]


register(
    Suite(
        name="restoration",
        summary="peak memory and time of restoring images by tiles",
        run=run_restoration,
        linux=True,
        options=(
            dataclasses.replace(opt.MODELS, help="restoration networks", gather=_restorers),
            opt.CPU_ONLY,
            dataclasses.replace(opt.SIZES, default=(Size(1024, 1024), Size(2048, 2048))),
            opt.numbers("tiles", "sides in pixels; 0 for no tiles", (256, 512)),
            opt.Option(name="overlap", help="in pixels (default: the library's choice)", parse=opt.at_least(0)),
        ),
        columns=("model", "img_size", "tile", "overlap", "passes", "added_mb", "seconds"),
    )
)
