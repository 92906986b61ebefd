"""What the command line may hold, and what it means."""

import argparse
import difflib
from pathlib import Path
from typing import NoReturn

import torch

import mlpzoo
from benchmarks import environment, models
from benchmarks.op_calls import OPS
from benchmarks.options import DEFAULT_DTYPES, DTYPES, ENOUGH_PAIRS, MODES, Options, image_size
from benchmarks.suites import SUITES

RESULTS = environment.ROOT / "benchmarks" / "results"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def build_parser() -> Parser:
    """The options."""
    suites = "; ".join(f"{name}: {suite.summary}" for name, suite in SUITES.items())
    parser = Parser(
        "python -m benchmarks",
        description="Speed of the zoo's models and ops beside their peers.",
        epilog="How it is measured and how to read it: benchmarks/README.md",
    )
    add = parser.add_argument_group("what is timed").add_argument
    add("--suite", choices=SUITES, default="infer", help=f"{suites} (default: infer)")
    add("--models", nargs="+", required=True, metavar="NAME", help="names of the zoo's models, or wildcards")
    add("--device", choices=DEFAULT_DTYPES, default="cpu", help="where (default: cpu)")
    add("--batch", nargs="+", type=positive, metavar="N", help=f"images in a batch (default: {_batches()})")
    add("--dtype", nargs="+", choices=DTYPES, help="of weights and images (default: fp32; on cuda fp32 bf16)")
    add("--compile", action="store_true", help="time every contender compiled too")
    add = parser.add_argument_group("against what").add_argument
    add(
        "--peers",
        nargs="+",
        choices=models.PEERS,
        metavar="PEER",
        help=f"who is timed beside ours, of {', '.join(models.PEERS)} (default: all; size: timm-nchw reference)",
    )
    add("--base", metavar="REF", help="time the same of another commit too: a hash, a branch or a tag")
    add = parser.add_argument_group("of some suites").add_argument
    add("--img-size", type=positive, metavar="PIXELS", help="side of the images (default: each model's own)")
    add(
        "--sizes",
        nargs="+",
        type=image_size,
        metavar="SIZE",
        help="size: sides in pixels, or HEIGHTxWIDTH (default: 224 320 448 640)",
    )
    add(
        "--modes",
        nargs="+",
        choices=MODES,
        metavar="MODE",
        help=f"ops and size: what a step is, of {', '.join(MODES)} (default: both; size: forward)",
    )
    add("--ops", nargs="+", choices=OPS, metavar="OP", help=f"ops: which, of {', '.join(OPS)} (default: all)")
    add = parser.add_argument_group("how").add_argument
    add("--pairs", type=positive, metavar="N", help="rounds (default: 15; on cuda 30); fewer are a trial")
    add("--threads", type=positive, metavar="N", help="CPU threads of PyTorch (default: its own choice)")
    add("--out", type=Path, metavar="CSV", help="file to append to (default: benchmarks/results/SUITE-DEVICE.csv)")
    add("--plot", type=Path, metavar="FOLDER", help="draw the rows of this run; see also python -m benchmarks.plots")
    add("--dry-run", action="store_true", help="say what would be timed, and stop")
    return parser


def resolve(given: argparse.Namespace) -> Options:
    """Fill in the defaults.

    Raises:
        ValueError: for models that are not there or cannot take the images, a device or a commit that is not there,
            options that the suite does not take, or too few pairs for statistics.
    """
    suite = SUITES[given.suite]
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: leave out --device cuda")
    pairs = given.pairs or ENOUGH_PAIRS[given.device]
    if pairs < 2:
        raise ValueError("--pairs must be 2 or more: quartiles need two values")
    particular = {}
    for key in ("img_size", "peers", "sizes", "modes", "ops"):
        value = getattr(given, key)
        if key in suite.takes:
            particular[key] = tuple(value) if isinstance(value, list) else value or suite.takes[key]
        elif value is not None:
            able = " and ".join(name for name, other in SUITES.items() if key in other.takes)
            raise ValueError(f"--{key.replace('_', '-')} goes with the suites {able}, not with {given.suite}")
    if given.base:
        environment.resolve_commit(given.base)
    names = _matching(given.models)
    if "img_size" in particular:
        for name in names:
            models.model_options(name, particular["img_size"])
    return Options(
        suite=given.suite,
        models=names,
        device=given.device,
        batches=tuple(given.batch or suite.batches[given.device]),
        dtypes=tuple(given.dtype or DEFAULT_DTYPES[given.device]),
        compile=given.compile,
        pairs=pairs,
        threads=given.threads or torch.get_num_threads(),
        base=given.base,
        **particular,
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


def _matching(patterns: list[str]) -> tuple[str, ...]:
    names: list[str] = []
    for pattern in patterns:
        matching = mlpzoo.list_models(pattern)
        if not matching:
            near = difflib.get_close_matches(pattern, mlpzoo.list_models(), 3)
            raise ValueError(f"no model matches '{pattern}'; the nearest: {', '.join(near or mlpzoo.list_models())}")
        names += matching
    return tuple(dict.fromkeys(names))


def _batches() -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{' '.join(map(str, sizes))} on {device}" for device, sizes in suite.batches.items())
        for name, suite in SUITES.items()
    )
