"""What concerns every verb: help, version, how it starts and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlpzoo
from mlpzoo import _startup
from mlpzoo.cli._main import VERBS

# Not pydantic, by which new versions of typer read arguments.
HEAVY = {"torch", "torchvision", "timm", "numpy", "PIL", "matplotlib", "sklearn", "yaml", "accelerate"}
HELP = [["--help"], ["--version"], [], *([verb, "--help"] for verb in VERBS)]
SCRIPT = "import sys\nfrom mlpzoo.__main__ import main\nsys.exit(main())\n"


def start(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(mlpzoo.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=-1, stderr=-1, text=True, env=environment, **options
    )


def imported(importtime):
    """Top-level packages in the output of `python -X importtime`."""
    return set(re.findall(r"^import time:.*\| +([A-Za-z]\w*)", importtime, re.M))


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    with start("-X", "importtime", "-m", "mlpzoo", *arguments) as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert out
    assert {"mlpzoo", "typer"} <= imported(err)
    assert not HEAVY & imported(err)


@pytest.fixture
def script(tmp_path):
    """The command as it is installed."""
    path = tmp_path / "mlpzoo"
    path.write_text(SCRIPT)
    return path


def test_the_script_imports_nothing_heavy_for_help_and_mistakes(script):
    for arguments, status in (("--help",), 0), (("list", "--nothing"), 2), (("info",), 2), (("lst",), 2):
        with start("-X", "importtime", script, *arguments) as process:
            _, err = process.communicate()
        assert process.returncode == status
        assert not HEAVY & imported(err)


def test_the_script_runs_a_verb(script):
    with start(script, "list", "mixer_s*", "--json") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.count('"name"') == 2


@pytest.mark.parametrize(
    ("started", "argv", "expected"),
    [
        ("python -m mlpzoo list", "-m list", True),
        ("python -u -X importtime -m mlpzoo", "-m", True),
        ("python /usr/bin/mlpzoo train digits", "/usr/bin/mlpzoo train digits", True),
        (r"python mlpzoo.exe list", "mlpzoo.exe list", False),
        ("python", "", False),
        ("python -c pass", "-c", False),
        ("python -m mlpzoo.train.digit_files", "-m", False),
        ("python -m pytest mlpzoo", "/lib/pytest/__main__.py mlpzoo", False),
        # A program that drops its own name from sys.argv, to run another.
        ("python bench.py mlpzoo", "mlpzoo", False),
        # A worker process of the command: it is given the command's sys.argv.
        ("python -c from_multiprocessing --multiprocessing-fork", "/usr/bin/mlpzoo train digits", False),
        ("python -c from_multiprocessing --multiprocessing-fork", "/usr/bin/mlpzoo train digits a=1 b=2 c=3", False),
    ],
)
def test_the_import_is_deferred_in_the_command_alone(started, argv, expected, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", started.split())
    monkeypatch.setattr(sys, "argv", argv.split() or [""])
    assert _startup._is_command() == expected


def test_embedded_python_has_no_arguments(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", [])
    monkeypatch.setattr(sys, "argv", [""])
    assert not _startup._is_command()
    monkeypatch.delattr(sys, "argv")
    assert not _startup._is_command()


def test_help_and_version(call):
    for arguments in (*HELP, ["list", "-h"]):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        assert "Usage: mlpzoo" in out or arguments == ["--version"]
    assert call("--version")[1] == f"mlpzoo {mlpzoo.__version__}\n"


def test_mistakes(assert_refused):
    assert_refused("lst", status=2, message="No such command 'lst'")
    assert_refused("--nothing", status=2, message="No such option: --nothing")


def test_interrupt(assert_refused, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlpzoo.registry.list_models", interrupted)
    assert_refused("list", status=130, message="interrupted")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list"]], ids=" ".join)
def test_a_reader_that_leaves(arguments):
    with start("-m", "mlpzoo", *arguments) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (1, "")


def test_without_the_extras():
    code = "import sys; sys.modules['typer'] = None; from mlpzoo.__main__ import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mlpzoo: error: the command line needs typer and rich: pip install 'mlpzoo[cli]'\n"
