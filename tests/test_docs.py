import re
from pathlib import Path

import pytest
import torch
from families import conformance_cases

from docs import make_table
from docs.make_table import README

ROOT = Path(__file__).parent.parent


def test_the_tables_of_models_are_the_registrys():
    stale = [path.name for path, text in make_table.files().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `make table`"


def test_the_check_of_the_tables_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make_table", "--check"])
    assert make_table.main() == 0
    page = tmp_path / "models.md"
    monkeypatch.setattr(make_table, "MODELS", page)
    assert make_table.main() == 1
    assert capsys.readouterr().err == "models.md is out of date: run `make table`\n"
    assert not page.exists()
    monkeypatch.setattr("sys.argv", ["make_table"])
    assert make_table.main() == 0
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_local_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    case = next(case for case in conformance_cases() if case.name == "Mixer-B_16")
    case.release(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 3
    names: dict[str, object] = {"torch": torch}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    expected = [(1, 64, 80, 64), (1, 128, 40, 32), (1, 320, 20, 16), (1, 512, 10, 8)]
    assert [tuple(y.shape) for y in names["maps"]] == expected


def test_the_python_of_the_page_on_detection_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "dense.md").read_text(), re.S)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "dense.md", "exec"), names)
    assert [set(found) for found in names["detections"]] == [{"boxes", "scores", "labels"}] * 2
    assert [tuple(y.shape[2:]) for y in names["maps"]] == [(75, 100), (38, 50), (19, 25), (10, 13)]


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 200
