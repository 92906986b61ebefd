"""What every test shares: quiet deprecations we cannot act on, a fixed seed, and poisoned fresh memory for op tests."""

import os

import pytest
import torch

# Otherwise PyTorch gives each warning once a process, and which test meets it depends on their order.
torch.set_warn_always(True)

if not torch.cuda.is_available():
    # Kernels run by Triton's interpreter then. Triton reads this when it is first imported, which timm does.
    os.environ.setdefault("TRITON_INTERPRET", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: threads of their own would only wait for one another.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def poisoned_empty(monkeypatch):
    """Fill memory that should be overwritten with NaN, so that an element nobody wrote is seen."""
    for name in ("empty", "empty_like"):
        original = getattr(torch, name)

        def poisoned(*args, _original=original, **kwargs):
            value = _original(*args, **kwargs)
            return value.fill_(float("nan")) if value.is_floating_point() and value.device.type != "meta" else value

        monkeypatch.setattr(torch, name, poisoned)
