"""The command line as a whole: its verbs, and what it says and returns when something goes wrong."""

import contextlib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mlpzoo._startup import finish_import
from mlpzoo._version import __version__
from mlpzoo.cli._arguments import UsageError
from mlpzoo.cli._output import complain, print_notes

VERBS = (
    "list",
    "info",
    "predict",
    "detect",
    "restore",
    "convert",
    "train",
    "validate",
    "compare",
)
"""Modules of this package, in the order of `mlpzoo --help`."""

# Typer vendors click in some versions and imports it in others; its own exception leads to the base of either.
CLICK_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="mlpzoo",
    help="MLP-like vision backbones: list them, run them on image files, train them.",
    epilog="Example: mlpzoo train digits, then mlpzoo predict --checkpoint runs/digits runs/digits/samples/*.png",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Verb(TyperCommand):
    """A verb, which makes the import of mlpzoo complete when it runs, not when it is only asked for its help."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; its arguments are valid."""
        finish_import()
        return super().invoke(ctx)


def _add_verb(name: str) -> None:
    module = importlib.import_module(f"mlpzoo.cli.{name}")
    examples: tuple[str, ...] = module.EXAMPLES
    title = "Example" if len(examples) == 1 else "Examples"
    app.command(name, cls=Verb, epilog=f"{title}: " + "\n\n".join(examples))(module.command)


for _name in VERBS:
    _add_verb(_name)


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Handle the options before the verb."""
    if version:
        print(f"mlpzoo {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. A failure is one line on stderr, never a traceback for a mistake of the user.

    Args:
        arguments: what follows the command's name; `sys.argv`'s by default.

    Returns:
        The exit status: 0, or 1 for a failure, 2 for wrong usage, 130 for an interrupt, 128 + N where training stopped
        at signal N.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that cannot show a character gets a question mark instead of a traceback.
        sys.stdout.reconfigure(errors="replace")
    try:
        with _notes():
            status = app(args=None if arguments is None else list(arguments), prog_name="mlpzoo", standalone_mode=False)
        sys.stdout.flush()
    except CLICK_USAGE_ERROR as error:
        return _fail(error.format_message(), 2)  # type: ignore[attr-defined]
    except UsageError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            # The reader of our output has gone. Without this Python complains again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        # Training that a signal stopped raises an error with the signal's number; the status is then a shell's.
        return _fail(str(error) or type(error).__name__, 128 + getattr(error, "signal", -127))
    if status == 130:
        return _fail("interrupted", 130)
    return status or 0


class _Notes(logging.Handler):
    """What the library logs, as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        print_notes([record.getMessage()])


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Within, warnings of the library are lines on stderr."""
    handler, logger = _Notes(logging.WARNING), logging.getLogger("mlpzoo")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _fail(message: str, status: int) -> int:
    complain(message)
    return status
