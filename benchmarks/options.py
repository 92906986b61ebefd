"""The command line: what options there are, and what they mean to a suite."""

import argparse
import dataclasses
import difflib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

import mlpzoo
from benchmarks import environment

if TYPE_CHECKING:
    from benchmarks.suite import Suite

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ("forward", "training")
"""A forward pass in inference mode; a forward and a backward pass."""
DEVICES = ("cpu", "cuda")
RESULTS = environment.ROOT / "benchmarks" / "results"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """An option that some suites take.

    Attributes:
        name: the attribute of `Options`; on the command line `--` and hyphens.
        help: what it is.
        default: its value if not given, or a mapping from device to it.
        parse: from a word of the command line to a value; raises `argparse.ArgumentTypeError`. None for a switch.
        many: whether it takes several words; its value is then a tuple.
        gather: what is made of several values; raises ValueError.
        required: whether it must be given.
        text: from a value to a word of the command line.
    """

    name: str
    help: str
    default: Any = None
    parse: Callable[[str], Any] | None = str
    many: bool = False
    gather: Callable[[Iterable[Any]], tuple[Any, ...]] = lambda values: tuple(dict.fromkeys(values))
    required: bool = False
    text: Callable[[Any], str] = str

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return "--" + self.name.replace("_", "-")

    def default_on(self, device: str) -> Any:
        """Its value if not given."""
        return self.default[device] if isinstance(self.default, Mapping) else self.default

    def add_to(self, group: Any) -> None:
        """Add it to a parser's group."""
        if self.parse is None:
            group.add_argument(self.flag, action="store_true", help=self.help)
            return
        defaults = self.default if isinstance(self.default, Mapping) else {"": self.default}
        parts = [f"{self._words(value)} {device and f'on {device}'}".strip() for device, value in defaults.items()]
        shown = f" (default: {', '.join(parts)})" if self.default is not None else " (required)" * self.required
        many = {"nargs": "+"} if self.many else {}
        group.add_argument(self.flag, type=self.parse, metavar="X", help=(self.help + shown), **many)

    def words(self, value: Any) -> list[str]:
        """The words of the command line that give a value."""
        if value is None or value is False:
            return []
        return [self.flag] if self.parse is None else [self.flag, *self._words(value, quote=False)]

    def _words(self, value: Any, quote: bool = True) -> Any:
        texts = [self.text(item) for item in value] if self.many else [self.text(value)]
        return shlex.join(texts) if quote else texts


class Options(argparse.Namespace):
    """Settings of a run, every default filled in: an attribute for each option of its suite.

    Those of every suite: `suite` (its name), `device`, `threads`, `out` (a file or None), `plot` (a folder or None),
    `trial` (whether rows are kept only in a named file), `dry_run`.
    """

    def command(self, suite: "Suite") -> str:
        """The command that asks for this run, defaults spelled out; it never holds a path."""
        words = ["python", "-m", "benchmarks", "--suite", self.suite]
        for option in (*suite.options, THREADS):
            words += option.words(getattr(self, option.name))
        return shlex.join(words)

    def value(self, name: str, default: Any = None) -> Any:
        """An option that not every suite takes."""
        return getattr(self, name, default)


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def natural(text: str) -> int:
    """A whole number of 0 or more."""
    return 0 if text == "0" else positive(text)


def one_of(what: str, names: Iterable[str]) -> Callable[[str], str]:
    """A parser of one of some names, which answers a wrong one with the nearest."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(unknown(what, text, names))
        return text

    return parse


def unknown(what: str, given: str, names: Iterable[str]) -> str:
    """The message about a name that is not there."""
    near = difflib.get_close_matches(given, list(names), 3)
    return f"unknown {what} '{given}'; {'the nearest' if near else 'there are'}: {', '.join(near or names)}"


def size_text(size: tuple[int, int]) -> str:
    """`224`, or `800x1344` for height and width."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def image_size(text: str) -> tuple[int, int]:
    """Height and width from `224` or `800x1344`."""
    sides = text.replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 224, or 800x1344 for height and width")
    return int(sides[0]), int(sides[-1])


def _matching(patterns: Iterable[str]) -> tuple[str, ...]:
    names: list[str] = []
    for pattern in patterns:
        matching = mlpzoo.list_models(pattern)
        if not matching:
            raise ValueError("--models: " + unknown("model", pattern, mlpzoo.list_models()))
        names += matching
    return tuple(dict.fromkeys(names))


def _pairs(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("must be 2 or more: quartiles need two values")
    return int(text)


THREADS = Option(name="threads", help="CPU threads of PyTorch (default: its own choice)", parse=positive)
MODELS = Option(
    name="models", help="names of the zoo's models, or wildcards", many=True, required=True, gather=_matching
)
DEVICE = Option(name="device", help="cpu or cuda", default="cpu", parse=one_of("device", DEVICES))
CPU_ONLY = dataclasses.replace(DEVICE, help="cpu alone", parse=one_of("device of this suite", DEVICES[:1]))
BATCH = Option(name="batch", help="images in a batch", many=True, parse=positive)
DTYPE = Option(
    name="dtype",
    help=f"of weights and images, of {', '.join(DTYPES)}",
    default={"cpu": ("fp32",), "cuda": ("fp32", "bf16")},
    many=True,
    parse=one_of("dtype", DTYPES),
)
COMPILE = Option(name="compile", help="time every contender compiled too", parse=None)
PAIRS = Option(
    name="pairs", help="rounds on the record; fewer are a trial", default={"cpu": 15, "cuda": 30}, parse=_pairs
)
BASE = Option(name="base", help="time the same of another commit too: a hash, a branch or a tag")
IMG_SIZE = Option(name="img_size", help="side of the images in pixels (default: each model's own)", parse=positive)
SIZES = Option(name="sizes", help="sides in pixels, or HEIGHTxWIDTH", many=True, parse=image_size, text=size_text)
STEPS = Option(
    name="modes",
    help=f"what a step is, of {', '.join(MODES)}",
    default=MODES,
    many=True,
    parse=one_of("mode", MODES),
)
REPEATS = Option(name="repeats", help="processes of each case; the median counts", default=1, parse=positive)


def build_parser(suites: Mapping[str, "Suite"], suite: "Suite") -> Parser:
    """The parser of one suite's options; its help lists all suites."""
    listed = "\n".join(f"  {name:12} {other.summary}" for name, other in suites.items())
    parser = Parser(
        "python -m benchmarks",
        usage="python -m benchmarks [--suite NAME] [options of the suite]",
        description=f"Speed and memory of the zoo beside its peers.\n\nsuites:\n{listed}\n\n"
        "`--suite NAME --help` shows the options of a suite.",
        epilog="How it is measured and how to read it: benchmarks/README.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("of every suite").add_argument
    add("--suite", metavar="NAME", default=suite.name, help="what is measured (default: infer)")
    add("--threads", type=positive, metavar="N", help=THREADS.help)
    add("--out", type=Path, metavar="CSV", help="file to append to (default: benchmarks/results/SUITE-DEVICE.csv)")
    add("--trial", action="store_true", help="show the rows and keep them only if --out names a file")
    add("--dry-run", action="store_true", help="say what would be measured, and stop")
    add("--plot", type=Path, metavar="FOLDER", help="draw the rows of this run; needs matplotlib")
    add("--from", dest="stored", type=Path, nargs="+", metavar="CSV", help="with --plot: draw the rows of these files")
    group = parser.add_argument_group(f"of the suite {suite.name}: {suite.summary}")
    for option in suite.options:
        option.add_to(group)
    return parser


def parse(arguments: Sequence[str] | None, suites: Mapping[str, "Suite"]) -> tuple[Options, Parser]:
    """Read the command line and fill in the defaults; a mistake ends the process with one line and 2.

    Returns:
        The options, and the parser for further complaints.
    """
    first = Parser("python -m benchmarks", add_help=False, allow_abbrev=False)
    first.add_argument("--suite", type=one_of("suite", suites), default="infer")
    suite = suites[first.parse_known_args(arguments)[0].suite]
    parser = build_parser(suites, suite)
    options, rest = parser.parse_known_args(arguments, Options())
    if rest:
        parser.error(_foreign(rest[0], suites, suite))
    try:
        if options.stored is None:
            resolve(options, suite)
        elif options.plot is None:
            raise ValueError("--from goes with --plot FOLDER, where the pictures go")
    except ValueError as error:
        parser.error(str(error))
    return options, parser


def resolve(options: Options, suite: "Suite") -> None:
    """Fill in the defaults.

    Raises:
        ValueError: for models that are not there, a device or a commit that is not there, or what is missing.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: leave out --device cuda")
    for option in suite.options:
        value = getattr(options, option.name)
        if value is None and option.required:
            raise ValueError(f"the following arguments are required: {option.flag}")
        if value is None:
            value = option.default_on(options.device)
        elif option.many:
            value = option.gather(value)
        setattr(options, option.name, value)
        if option.name == "pairs":
            options.trial |= value < option.default_on(options.device)
    if options.value("base"):
        environment.resolve_commit(options.base)
    options.threads = options.threads or torch.get_num_threads()


def output_file(options: Options) -> Path | None:
    """Where rows are appended; those of a trial only in a file that is named."""
    if options.out or not options.trial:
        return options.out or RESULTS / f"{options.suite}-{options.device}.csv"
    return None


def _foreign(word: str, suites: Mapping[str, "Suite"], suite: "Suite") -> str:
    flag = word.partition("=")[0]
    able = [name for name, other in suites.items() if flag in [option.flag for option in other.options]]
    if able:
        return f"{flag} goes with the suites {', '.join(able)}, not with {suite.name}"
    if not flag.startswith("-"):
        return f"'{word}' is no option: try --help"
    return unknown("option", flag, [option.flag for option in suite.options])
