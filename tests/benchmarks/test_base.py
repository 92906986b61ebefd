import csv
import signal
import textwrap

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks import base as bases
from benchmarks import environment
from benchmarks.base import BaseError, open_base
from benchmarks.op_calls import record_calls

CHECKOUT = (environment.ROOT / ".git").exists()
WORDS = ["--models", "mixer_s16", "--img-size", "64", "--batch", "1", "--pairs", "2", "--threads", "1"]

FAKE = """
import os
import torch

print("noise on import")

def create_model(name, device=None, **options):
    if name == "missing":
        raise ValueError("unknown model 'missing'.\\nThe models: small")
    if name == "dying":
        os._exit(3)
    if name == "large":
        raise torch.OutOfMemoryError("no room")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, options["num_classes"], device=device))
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git checkout of a small mlpzoo."""
    root = tmp_path / "checkout"
    (root / "mlpzoo").mkdir(parents=True)
    (root / "mlpzoo" / "__init__.py").write_text(textwrap.dedent(FAKE))
    monkeypatch.setattr(environment, "ROOT", root)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b.c")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(bases.tempfile, "tempdir", str(tmp_path))
    environment.git("init", "--quiet")
    environment.git("add", ".")
    environment.git("commit", "--quiet", "-m", "a")
    return root


def left_over(root):
    """Worktrees besides the checkout itself, and throw-away folders."""
    listed = environment.git("worktree", "list", "--porcelain").count("worktree ") - 1
    return listed, list(root.parent.glob("benchmarks-base-*"))


def test_a_model_of_another_commit_runs_and_nothing_is_left(repository, capfd):
    ours = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    images, gradient = torch.randn(2, 3, 2, 2), torch.randn(2, 5)
    with open_base("HEAD", 1) as base:
        assert left_over(repository)[0] == 1
        assert base.name == f"base {environment.git('rev-parse', 'HEAD')[:7]}"
        base.ask("check", "small", {"num_classes": 5})
        trial = base.model("small", ours, {"num_classes": 5}).trial(device="cpu", dtype=torch.float64, train=True)
        trial.feed(images, gradient)
        values = trial.values()
        assert 0 < trial.seconds(None) < 10
        process = base.process
    logits = ours.double()(images.double())
    logits.backward(gradient.double())
    assert list(values) == ["output", "1.weight", "1.bias"]
    assert torch.allclose(values["output"], logits)
    assert torch.allclose(values["1.weight"], ours[1].weight.grad)
    assert process.poll() is not None
    assert left_over(repository) == (0, [])
    assert "noise on import" in capfd.readouterr().err


def test_what_fails_over_there_is_told_in_one_line(repository):
    with open_base("HEAD", 1) as base:
        with pytest.raises(BaseError, match="^base .{7}: ValueError: unknown model 'missing'.$"):
            base.ask("check", "missing", {})
        with pytest.raises(BaseError, match="KeyError: 'num_classes'"):
            base.ask("check", "small", {})
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            base.ask("check", "large", {})
        with pytest.raises(BaseError, match="has ended unexpectedly"):
            base.ask("check", "dying", {})
        with pytest.raises(BaseError, match="has ended unexpectedly"):
            base.ask("check", "small", {"num_classes": 5})
    assert left_over(repository) == (0, [])


def test_a_commit_without_mlpzoo_is_refused(repository):
    environment.git("mv", "mlpzoo", "renamed")
    environment.git("commit", "--quiet", "-m", "b")
    with pytest.raises(BaseError, match="mlpzoo"), open_base("HEAD", 1):
        pass
    assert left_over(repository) == (0, [])


def test_an_interrupt_leaves_nothing(repository):
    with pytest.raises(KeyboardInterrupt), open_base("HEAD", 1) as base:
        raise KeyboardInterrupt
    assert base.process.poll() is not None
    assert left_over(repository) == (0, [])


def test_being_ended_leaves_nothing(repository):
    with pytest.raises(SystemExit), open_base("HEAD", 1):
        signal.raise_signal(signal.SIGTERM)
    assert left_over(repository) == (0, [])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        pytest.param("nowhere", "git knows no commit 'nowhere'", id="unknown"),
        pytest.param("--help", "git knows no commit '--help'", id="option"),
        pytest.param("HEAD:mlpzoo", "git knows no commit 'HEAD:mlpzoo'", id="folder"),
    ],
)
def test_an_unknown_commit_is_one_line_and_exit_code_2(ref, message, repository, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*WORDS, f"--base={ref}"])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("inside", [False, True], ids=["no-git", "in-another-checkout"])
def test_outside_a_checkout_is_one_line_and_exit_code_2(inside, repository, monkeypatch, capsys):
    folder = repository / "mlpzoo" if inside else repository.parent
    monkeypatch.setattr(environment, "ROOT", folder)
    with pytest.raises(SystemExit) as stopped:
        cli.main([*WORDS, "--base", "HEAD"])
    assert stopped.value.code == 2
    assert "needs a git checkout of mlpzoo" in capsys.readouterr().err


def test_a_model_it_lacks_is_one_line_and_exit_code_2(repository, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*WORDS, "--base", "HEAD"])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("python -m benchmarks: base ")
    assert left_over(repository) == (0, [])


@pytest.mark.skipif(not CHECKOUT, reason="only a git checkout has other commits")
def test_a_run_against_a_commit(tmp_path, tiny):
    out = tmp_path / "results.csv"
    words = ["--suite", "train", *WORDS, "--peers", "reference", "--base", "HEAD", "--out", str(out)]
    assert cli.main(words) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    head = environment.git("rev-parse", "HEAD")[:7]
    assert [row["contender"] for row in rows] == ["ours", "reference", f"base {head}"]
    assert float(rows[2]["ratio_q1"]) <= float(rows[2]["ratio_median"]) <= float(rows[2]["ratio_q3"])
    assert " --base HEAD " in rows[2]["command"]


@pytest.mark.skipif(not CHECKOUT, reason="only a git checkout has other commits")
def test_a_commit_that_computes_something_else_shows_no_speed(monkeypatch, tmp_path, capsys, tiny):
    values = bases.BaseTrial.values
    monkeypatch.setattr(bases.BaseTrial, "values", lambda self: {k: v + 1e-3 for k, v in values(self).items()})
    out = tmp_path / "results.csv"
    assert cli.main([*WORDS, "--peers", "reference", "--base", "HEAD", "--out", str(out)]) == 1
    assert not out.exists()
    assert "does not compute what ours does" in capsys.readouterr().err


@pytest.mark.skipif(not CHECKOUT, reason="only a git checkout has other commits")
def test_ops_of_another_commit(monkeypatch, tmp_path, tiny):
    out = tmp_path / "results.csv"
    assert {call.op for call in record_calls("mixer_s16", 1, 64)} == {"mlp", "token_linear"}
    op = bases.Base.op

    def without_token_linear(self, name, *arguments):
        return op(self, "nothing" if name == "token_linear" else name, *arguments)

    monkeypatch.setattr(bases.Base, "op", without_token_linear)
    words = ["--suite", "ops", *WORDS, "--modes", "training", "--base", "HEAD", "--out", str(out)]
    assert cli.main(words) == 0
    rows = [row for row in csv.DictReader(out.read_text().splitlines()) if row["contender"].startswith("base ")]
    assert {row["op"] for row in rows} == {"mlp", "token_linear"}
    for row in rows:
        missing = row["op"] == "token_linear"
        assert ("has no attribute 'nothing'" in row["note"]) == missing
        assert (row["ratio_median"] == "") == missing
