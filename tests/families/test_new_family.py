"""Two files make a family: the generic tests run over one that nothing in the package or in the tests names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
GENERIC = {
    "test_registry.py": 1,
    "models/test_contract.py": 24,
    "models/test_compile.py": 1,
    "models/test_dynamic_size.py": 5,
    "models/test_features_only.py": 2,
    "weights/test_formats.py": 2,
    "weights/test_sizes.py": 1,
    "weights/test_released.py": 1,
    "deploy/test_fold.py": 14,
}
"""File to the least number of its tests that the new family comes under."""


@pytest.mark.timeout(600)
def test_every_generic_test_takes_it_up():
    command = [sys.executable, "-m", "pytest", "-p", "throwaway.plugin", "-p", "no:randomly", "-k", "blender"]
    command += ["-m", "not slow and not gpu", "-v", *(str(TESTS / file) for file in GENERIC)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    for file, least in GENERIC.items():
        passed = len(re.findall(rf"^tests/{re.escape(file)}::.*blender.* PASSED", done.stdout, re.M))
        assert passed >= least, f"{passed} tests of {file}"
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_nothing_else_names_it():
    package = TESTS.parent / "mlpzoo"
    assert not [path for path in package.rglob("*.py") if "blender" in path.read_text().lower()]
