"""The command line: `python -m benchmarks --help`."""

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import environment, models, report
from benchmarks.arguments import build_parser, output_file, resolve
from benchmarks.base import Base, BaseError, open_base
from benchmarks.gate import RedError
from benchmarks.options import Options
from benchmarks.report import Row
from benchmarks.suites import SUITES
from benchmarks.table import print_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0, or 1 when a correctness check was red or the commit to compare with failed, or 130 when interrupted. A
        user's mistake leaves with 2.
    """
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        with contextlib.ExitStack() as cleanup:
            try:
                options = resolve(given)
                out = output_file(options, given.out)
                if out:
                    report.check_appendable(out, options.suite)
                draw = _drawing(given.plot) if given.plot else None
                base = None
                if options.base and not given.dry_run:
                    base = cleanup.enter_context(open_base(options.base, options.threads))
                    for name in options.models:
                        base.check(name, models.model_options(name, options.img_size)[0])
            except ValueError as error:
                parser.error(str(error))
            print(f"{options.command()}\n{'results go to ' + out.name if out else 'a trial: results are not kept'}")
            if given.dry_run:
                return 0
            rows: list[Row] = []
            try:
                return int(run(options, base, out, rows))
            finally:
                if draw and rows:
                    print("\n".join(f"drew {file}" for file in draw(rows)))
    except BaseError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; rows written before are kept", file=sys.stderr)
        return 130


def _drawing(folder: Path) -> Callable[[list[Row]], list[Path]]:
    """What draws rows into a folder, which is made now: better no run than one whose pictures go nowhere.

    Raises:
        ValueError: when there can be no such folder, or matplotlib is missing.
    """
    try:
        from benchmarks import plots

        folder.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError) as error:
        raise ValueError(f"--plot: {error}") from None
    return functools.partial(plots.draw, folder=folder)


def run(options: Options, base: Base | None, out: Path | None, rows: list[Row]) -> bool:
    """Time every model, append rows to the file as they come, and show them.

    Args:
        options: of the run.
        base: another commit to compare with.
        out: the file, if they are kept.
        rows: what they are added to.

    Returns:
        Whether a correctness check was red.
    """
    torch.set_num_threads(options.threads)
    red = False
    common = environment.describe(options.device) | {"suite": options.suite, "command": options.command()}
    for name in options.models:
        done = len(rows)
        try:
            for measured in SUITES[options.suite].run(options, name, base):
                rows += [{**common, "date": environment.now(), **row} for row in measured]
                if out:
                    report.append_csv(out, options.suite, rows[-len(measured) :])
        except RedError as error:
            print(f"RED: {error}. No speed is shown", file=sys.stderr)
            red = True
        if rows[done:]:
            print_table(rows[done:], options.suite, options.device)
    return red


if __name__ == "__main__":
    sys.exit(main())
