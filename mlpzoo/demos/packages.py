"""The packages with which the demos' data come."""

import importlib.util

NAMES = {"sklearn": "scikit-learn", "skimage": "scikit-image"}


def require(*modules: str) -> None:
    """See that packages are there before any work is done.

    Raises:
        ImportError: when one is missing, saying how to install it.
    """
    missing = [NAMES.get(module, module) for module in modules if not importlib.util.find_spec(module)]
    if missing:
        raise ImportError(f"this demo needs {' and '.join(missing)}: pip install 'mlpzoo[demo]'")
