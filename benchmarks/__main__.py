"""The command line: `python -m benchmarks --help`."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import environment, report
from benchmarks.base import Base, BaseError, open_base
from benchmarks.gate import RedError
from benchmarks.measure import Row
from benchmarks.options import Options, output_file, parse
from benchmarks.suite import Suite, all_suites


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0, or 1 when a correctness check was red or the commit to compare with failed, or 130 when interrupted. A
        user's mistake leaves with 2.
    """
    suites = all_suites()
    options, parser = parse(arguments, suites)
    suite = suites[options.suite]
    rows: list[Row] = []
    try:
        with contextlib.ExitStack() as cleanup:
            base = None
            try:
                if options.plot:
                    cleanup.callback(_drawing(options.plot), rows)
                if options.stored:
                    rows += [row for path in options.stored for row in report.read_csv(path)]
                    return 0
                out = output_file(options)
                if out:
                    report.check_appendable(out, suite.all_columns)
                if options.value("base") and not options.dry_run:
                    base = cleanup.enter_context(open_base(options.base, options.threads))
                suite.check(options, base)
            except ValueError as error:
                parser.error(str(error))
            print(options.command(suite))
            print(f"results go to {out.name}" if out else "a trial: results are not kept")
            return 0 if options.dry_run else int(run(suite, options, base, out, rows))
    except BaseError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; rows written before are kept", file=sys.stderr)
        return 130


def _drawing(folder: Path) -> Callable[[list[Row]], None]:
    """What draws rows into a folder. It is made now: no run is started whose pictures could not be written.

    Raises:
        ValueError: when there can be no such folder, or matplotlib is missing.
    """
    try:
        from benchmarks import pictures

        folder.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError) as error:
        raise ValueError(f"--plot: {error}") from None

    def draw(rows: list[Row]) -> None:
        for file in pictures.draw(rows, folder):
            print(f"drew {file}")

    return draw


def run(suite: Suite, options: Options, base: Base | None, out: Path | None, rows: list[Row]) -> bool:
    """Measure every model, append rows to the file as they come, and show them.

    Args:
        suite: what is measured.
        options: of the run.
        base: another commit to compare with.
        out: the file, if they are kept.
        rows: what they are added to.

    Returns:
        Whether a correctness check was red.
    """
    torch.set_num_threads(options.threads)
    red = False
    common = {**environment.describe(options.device), "suite": suite.name, "command": options.command(suite)}
    for name in options.models:
        done = len(rows)
        try:
            for measured in suite.run(options, name, base):
                rows += [{**common, **environment.moment(), "model": name, **row} for row in measured]
                if out:
                    report.append_csv(out, suite.all_columns, rows[-len(measured) :])
        except RedError as error:
            print(f"RED: {error}. No speed is shown", file=sys.stderr)
            red = True
        if rows[done:]:
            report.print_table(rows[done:], options.device)
    return red


if __name__ == "__main__":
    sys.exit(main())
