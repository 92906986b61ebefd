"""Whether `import mlpzoo` is deferred, so that the `mlpzoo` command answers `--help` without importing torch.

Python runs `mlpzoo/__init__.py`, which imports torch and timm, before any module of the package, those of the command
included. In a process that was started as the command, `__init__.py` therefore stops early, and the command calls
`finish_import` before a verb runs. Everywhere else `import mlpzoo` is complete at once.
"""

import importlib
import sys
from pathlib import PurePath


def _is_command() -> bool:
    """Whether this process was started as `mlpzoo …`, by the installed script, or as `python -m mlpzoo …`."""
    arguments: list[str] = getattr(sys, "argv", [])
    # The first argument that Python itself did not take. Unlike `sys.argv`, `sys.orig_argv` is not handed on to worker
    # processes, nor changed by programs that run others.
    started = sys.orig_argv[-len(arguments) :][:1]
    if not arguments or not started:
        return False
    if arguments[0] == "-m":
        # Python's placeholder while it looks for the module named after -m, and to that end imports its package.
        return started == ["mlpzoo"]
    path = PurePath(arguments[0])
    return started == arguments[:1] and path.stem == "mlpzoo" and path.parent != PurePath()


import_is_deferred = _is_command()


def finish_import() -> None:
    """Make `import mlpzoo` complete: import its public names, register the models with timm."""
    global import_is_deferred
    if import_is_deferred:
        import_is_deferred = False
        importlib.reload(sys.modules["mlpzoo"])
