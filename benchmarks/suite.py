"""What a suite is. Every module of `benchmarks.suites` registers one or more; nothing else lists them."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator

from benchmarks import report
from benchmarks.base import Base
from benchmarks.measure import Row
from benchmarks.options import Option, Options

Check = Callable[[Options, Base | None], None]
Run = Callable[[Options, str, Base | None], Iterator[list[Row]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """A kind of measurement.

    Attributes:
        name: after `--suite`.
        summary: what is measured, in a few words.
        run: measures one of `options.models`, beside a `Base` if one was asked for; yields the rows of one
            configuration after the other, each row with the columns that are its own. A `RedError` ends the model.
        options: what it takes besides what every suite takes, with its defaults.
        columns: of its CSV files, after those of every suite (`report.RUN`).
        check: looks at the options before anything is measured; raises ValueError.
        linux: whether it needs Linux, which tells the memory of a process.
    """

    name: str
    summary: str
    run: Run
    options: tuple[Option, ...]
    columns: tuple[str, ...]
    check: Check = lambda options, base: None
    linux: bool = False

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Columns of its CSV files."""
        return (*report.RUN, *self.columns)


SUITES: dict[str, Suite] = {}


def register(suite: Suite) -> Suite:
    """Add a suite; returns it."""
    if suite.name in SUITES:
        raise ValueError(f"there are two suites '{suite.name}'")
    SUITES[suite.name] = suite
    return suite


def all_suites() -> dict[str, Suite]:
    """Every suite of the modules of `benchmarks.suites`, in the order of their names."""
    from benchmarks import suites

    for module in pkgutil.iter_modules(suites.__path__):
        importlib.import_module(f"{suites.__name__}.{module.name}")
    return dict(sorted(SUITES.items()))
