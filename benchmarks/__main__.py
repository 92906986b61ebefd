"""The command line: `python -m benchmarks --help`."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

import mlpzoo
from benchmarks import environment, models, report
from benchmarks.gate import RedError
from benchmarks.options import DEFAULT_BATCHES, DEFAULT_DTYPES, DTYPES, ENOUGH_PAIRS, Options
from benchmarks.suites import SUITES

RESULTS = environment.ROOT / "benchmarks" / "results"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0, or 1 when a correctness check was red. A user's mistake leaves with 2.
    """
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        options = resolve(given)
        out = output_file(options, given.out)
        if out:
            report.check_appendable(out)
        for name in options.models:
            models.model_options(name, options.img_size)
    except ValueError as error:
        parser.error(str(error))
    torch.set_num_threads(options.threads)
    print(f"{options.command()}\n{'results go to ' + out.name if out else 'a trial: results are not kept'}")
    if given.dry_run:
        return 0
    red = False
    common = environment.describe(options.device)
    common |= {"suite": options.suite, "command": options.command()}
    for name in options.models:
        rows: list[report.Row] = []
        try:
            for measured in SUITES[options.suite](options, name):
                rows += [{**common, "date": environment.now(), **row} for row in measured]
                if out:
                    report.append_csv(out, rows[-len(measured) :])
        except RedError as error:
            print(f"RED: {error}. No speed is shown", file=sys.stderr)
            red = True
        if rows:
            report.print_table(rows, options.device)
    return int(red)


def build_parser() -> Parser:
    """The options."""
    parser = Parser("python -m benchmarks", description="Speed of the zoo's models beside their peers.")
    add = parser.add_argument
    add("--suite", choices=SUITES, default="infer", help="what is timed (default: infer)")
    add("--models", nargs="+", required=True, metavar="NAME", help="names of the zoo's models, or wildcards")
    add("--device", choices=DEFAULT_BATCHES, default="cpu", help="where (default: cpu)")
    add(
        "--batch", nargs="+", type=positive, metavar="N", help="images in a batch (default: 1 8; on cuda 1 64 256 1024)"
    )
    add("--dtype", nargs="+", choices=DTYPES, help="of weights and images (default: fp32; on cuda fp32 bf16)")
    add("--compile", action="store_true", help="time every contender compiled too")
    add("--img-size", type=positive, metavar="PIXELS", help="side of the images (default: each model's own)")
    add("--pairs", type=positive, metavar="N", help="rounds (default: 15; on cuda 30); fewer are a trial")
    add("--threads", type=positive, metavar="N", help="CPU threads of PyTorch (default: its own choice)")
    add("--peers", nargs="+", choices=models.PEERS, default=list(models.PEERS), help="who is timed beside ours")
    add("--out", type=Path, metavar="CSV", help="file to append to (default: benchmarks/results/SUITE-DEVICE.csv)")
    add("--dry-run", action="store_true", help="say what would be timed, and stop")
    return parser


def resolve(given: argparse.Namespace) -> Options:
    """Fill in the defaults.

    Raises:
        ValueError: for models that are not there, a device that is not there, or too few pairs for statistics.
    """
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: leave out --device cuda")
    pairs = given.pairs or ENOUGH_PAIRS[given.device]
    if pairs < 2:
        raise ValueError("--pairs must be 2 or more: quartiles need two values")
    names: list[str] = []
    for pattern in given.models:
        matching = mlpzoo.list_models(pattern)
        if not matching:
            near = difflib.get_close_matches(pattern, mlpzoo.list_models(), 3)
            raise ValueError(f"no model matches '{pattern}'; the nearest: {', '.join(near or mlpzoo.list_models())}")
        names += matching
    return Options(
        suite=given.suite,
        models=tuple(dict.fromkeys(names)),
        device=given.device,
        batches=tuple(given.batch or DEFAULT_BATCHES[given.device]),
        dtypes=tuple(given.dtype or DEFAULT_DTYPES[given.device]),
        compile=given.compile,
        img_size=given.img_size,
        pairs=pairs,
        threads=given.threads or torch.get_num_threads(),
        peers=tuple(given.peers),
    )


def output_file(options: Options, given: Path | None) -> Path | None:
    """Where rows are appended; a trial is kept only in a file the user names."""
    if given or options.pairs >= ENOUGH_PAIRS[options.device]:
        return given or RESULTS / f"{options.suite}-{options.device}.csv"
    return None


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
