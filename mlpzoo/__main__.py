"""Entry point of the `mlpzoo` command and of `python -m mlpzoo`."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; `sys.argv`'s by default.

    Returns:
        The exit status, as `mlpzoo.cli.run` says.
    """
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        print("mlpzoo: error: the command line needs typer and rich: pip install 'mlpzoo[cli]'", file=sys.stderr)
        return 1
    from mlpzoo.cli import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
