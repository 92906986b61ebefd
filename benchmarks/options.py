"""The command line: what options there are, and what they mean to a suite."""

import argparse
import dataclasses
import difflib
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch

import mlpzoo
from benchmarks import environment

if TYPE_CHECKING:
    from benchmarks.suite import Suite

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ("forward", "training")
"""A forward pass in inference mode; a forward and a backward pass."""
RESULTS = environment.ROOT / "benchmarks" / "results"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line and leaves with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """An option that some suites take.

    Attributes:
        name: the attribute of `Options`; on the command line `--` and hyphens.
        help: what it is.
        default: its value if not given, or a mapping from device to it.
        parse: from a word of the command line to a value whose `str` is the word; None for a switch.
        many: whether it takes several words; its value is then a tuple.
        gather: what is made of several values; raises ValueError.
        required: whether it must be given.
    """

    name: str
    help: str
    default: Any = None
    parse: Callable[[str], Any] | None = str
    many: bool = False
    gather: Callable[[Iterable[Any]], tuple[Any, ...]] = lambda values: tuple(dict.fromkeys(values))
    required: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def default_on(self, device: str) -> Any:
        return self.default[device] if isinstance(self.default, Mapping) else self.default

    def add_to(self, group: Any) -> None:
        """Add it to a parser's group."""
        if self.parse is None:
            group.add_argument(self.flag, action="store_true", help=self.help)
            return
        shown = " (required)" if self.required else ""
        if self.default is not None:
            by_device = self.default if isinstance(self.default, Mapping) else {"": self.default}
            parts = [f"{shlex.join(self._texts(value))} on {device}" for device, value in by_device.items()]
            shown = f" (default: {'; '.join(parts).removesuffix(' on ')})"
        many = {"nargs": "+", "metavar": self.name.rstrip("s").upper()} if self.many else {"metavar": "X"}
        group.add_argument(self.flag, type=self.parse, help=self.help + shown, **many)

    def words(self, value: Any) -> list[str]:
        """The words of the command line that give a value."""
        if value is None or value is False:
            return []
        return [self.flag, *([] if self.parse is None else self._texts(value))]

    def _texts(self, value: Any) -> list[str]:
        return [str(item) for item in value] if self.many else [str(value)]


class Options(argparse.Namespace):
    """Settings of a run, every default filled in: an attribute for each option of its suite.

    Those of every suite: `suite` (its name), `device`, `threads`, `out` (a file or None), `plot` (a folder or None),
    `stored` (files to draw instead of a run, or None), `trial` (keep rows only in a named file), `dry_run`.
    """

    def command(self, suite: "Suite") -> str:
        """The command that asks for this run, defaults spelled out; it never holds a path."""
        words = ["python", "-m", "benchmarks", "--suite", self.suite]
        for option in (*suite.options, THREADS):
            words += option.words(getattr(self, option.name))
        return shlex.join(words)

    def value(self, name: str) -> Any:
        """An option that not every suite takes, or None."""
        return getattr(self, name, None)


class Size(NamedTuple):
    """Of an image, in pixels; written `224`, or `800x1344` for height and width."""

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> "Size":
        """The size that is written so."""
        sides = text.replace("×", "x").split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
            raise argparse.ArgumentTypeError(f"'{text}' is no size: write 224, or 800x1344 for height and width")
        return cls(int(sides[0]), int(sides[-1]))


def at_least(least: int, why: str = "") -> Callable[[str], int]:
    """A parser of whole numbers."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more{why}")
        return int(text)

    return parse


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


def _matching(patterns: Iterable[str]) -> tuple[str, ...]:
    names: list[str] = []
    for pattern in patterns:
        matching = mlpzoo.list_models(pattern)
        if not matching:
            raise ValueError("--models: " + unknown("model", pattern, mlpzoo.list_models()))
        names += matching
    return tuple(dict.fromkeys(names))


def several(name: str, what: str, names: Iterable[str], **changes: Any) -> Option:
    """An option of several of some names, all of them by default."""
    names = tuple(names)
    settings = {"help": f"{what}, of {', '.join(names)}", "default": names, "parse": one_of(name.rstrip("s"), names)}
    return Option(name=name, many=True, **{**settings, **changes})


def numbers(name: str, what: str, default: tuple[int, ...]) -> Option:
    """An option of several whole numbers of 0 or more."""
    return Option(name=name, help=what, default=default, many=True, parse=at_least(0))


positive = at_least(1)
THREADS = Option(name="threads", help="CPU threads of PyTorch (default: its own choice)", parse=positive)
MODELS = Option(name="models", help="of the zoo, or wildcards", many=True, required=True, gather=_matching)
DEVICE = Option(name="device", help="cpu or cuda", default="cpu", parse=one_of("device", ("cpu", "cuda")))
CPU_ONLY = dataclasses.replace(DEVICE, help="cpu alone", parse=one_of("device of this suite", ("cpu",)))
BATCH = Option(name="batch", help="images in a batch", many=True, parse=positive)
DTYPE = several("dtype", "of weights and images", DTYPES, default={"cpu": ("fp32",), "cuda": ("fp32", "bf16")})
COMPILE = Option(name="compile", help="time every contender compiled too", parse=None)
PAIRS = Option(
    name="pairs",
    help="rounds on the record; fewer are a trial",
    default={"cpu": 15, "cuda": 30},
    parse=at_least(2, ": quartiles need two values"),
)
BASE = Option(name="base", help="time the same of another commit too: a hash, a branch or a tag")
IMG_SIZE = Option(name="img_size", help="side of the images in pixels (default: each model's own)", parse=positive)
SIZES = Option(name="sizes", help="sides of images in pixels, or HEIGHTxWIDTH", many=True, parse=Size.parse)
STEPS = several("modes", "what a step is", MODES)
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
    try:
        if rest:
            raise ValueError(_foreign(rest[0], suites, suite))
        if options.stored is None:
            resolve(options, suite)
        elif options.plot is None:
            raise ValueError("--from goes with --plot FOLDER, where the pictures go")
    except ValueError as error:
        parser.error(str(error))
    return options, parser


def resolve(options: Options, suite: "Suite") -> None:
    """Fill in the defaults; ValueError for what is not there: models, a device, a commit, a required option."""
    if suite.linux and sys.platform != "linux":
        raise ValueError(f"the suite {suite.name} reads the memory of processes from /proc, on Linux only")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device here: leave out --device cuda")
    for option in suite.options:
        value = getattr(options, option.name)
        if value is None and option.required:
            raise ValueError(f"the following arguments are required: {option.flag}")
        if value is None:
            value = option.default_on(options.device or "cpu")
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
