"""The `mlpzoo` command. A verb is a module here, listed in `_main.VERBS`: it calls the library and shows the result.

A verb's module holds `command`, a function whose signature typer turns into arguments and options and whose docstring
is the help, and `EXAMPLES`. It imports torch, timm and the rest of mlpzoo inside `command`, so that `--help` is quick.
"""

from mlpzoo.cli._main import run

__all__ = ["run"]
