"""Run timm's own model tests over mlpzoo's names.

timm ships `tests/test_models.py` in its source distribution; `make test-timm` fetches the one of the installed
version and runs it with this plugin (`pytest -p timm_suite`). The tests choose their models by calling
`timm.list_models` while they are collected, so the plugin answers that call with our names.
"""

import fnmatch

import pytest
import timm

import mlpzoo

HERE = "tests are run offline, and these need files released by others"
SCRIPTED = "PyTorch deprecated TorchScript: torch.jit.script is unsupported here"


def _patterns(value):
    return [value] if isinstance(value, str) and value else list(value or [])


def list_models(filter="", module="", pretrained=False, exclude_filters="", **_):
    """timm's signature; `module` is ignored, so that the tests of feature extraction run over all our names."""
    if pretrained:
        return []
    names = mlpzoo.list_models(_patterns(filter))
    return [name for name in names if not any(fnmatch.fnmatch(name, p) for p in _patterns(exclude_filters))]


def pytest_configure(config):
    timm.list_models = list_models
    timm.list_pretrained = lambda *_, **__: []


def pytest_collection_modifyitems(config, items):
    kept = [item for item in items if any(name in item.name for name in mlpzoo.list_models())]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in kept:
        # The time limits are those of timm's own machines, and of models whose largest is smaller than ours.
        item.own_markers = [mark for mark in item.own_markers if mark.name != "timeout"]
    assert kept, "timm's tests collected none of our models"


def pytest_runtest_setup(item):
    if "pretrained" in item.name:
        pytest.skip(HERE)
    if "torchscript" in item.name:
        pytest.skip(SCRIPTED)
