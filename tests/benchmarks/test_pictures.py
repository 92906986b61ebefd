import struct
import sys

import pytest

import benchmarks
from benchmarks import __main__ as cli
from benchmarks import pictures, report
from benchmarks.options import RESULTS
from benchmarks.suite import all_suites

COMMON = {
    "date": "2026-11-21T12:00:00Z",
    "device": "AMD EPYC",
    "capability": "AVX2",
    "threads": 2,
    "torch": "2.15.0+cpu",
    "commit": "abc1234",
}
COMMON |= {
    "dtype": "fp32",
    "batch": 8,
    "compiled": 0,
    "img_size": "224",
    "command": "python -m benchmarks --device cpu",
}


def row(model="mixer_b16", contender="ours", **columns):
    found = {"ms_median": 100.0, "images_per_s": 80.0, "tflops": 0.1, "gemm_share": 0.5}
    return {**COMMON, "suite": "infer", "model": model, "contender": contender, **found, **columns}


def op_row(contender, ratio):
    found = {"op": "linear", "call": "x 2×3, w 4×3", "mode": "forward", "ratio_median": ratio}
    return row(contender=contender, suite="ops", ratio_q1=ratio, ratio_q3=ratio, **found)


def size_row(size, contender, memory):
    return row("cyclemlp_b2", contender, suite="size", mode="forward", img_size=size, peak_mem_mb=memory)


ROWS = [
    *(row(model, contender) for model in ("mixer_b16", "vit_b16") for contender in ("ours", "timm-nchw", "folded")),
    row("mixer_s16"),
    row("mixer_b16", "base 3d34042"),
    row(suite="train"),
    *(size_row(size, contender, 500.0) for size in ("224", "448", "800x1344") for contender in ("ours", "reference")),
    op_row("ours", ""),
    op_row("reference", 1.5),
    op_row("triton", 0.8),
]


def test_every_suite_has_its_pictures(tmp_path):
    files = pictures.draw(ROWS, tmp_path / "new")
    assert [file.name.partition("-amd-epyc-avx2")[0] for file in files] == [
        "accuracy-infer",
        "gemm-share-infer",
        "gemm-share-train",
        "size-size",
        "ops-mixer_b16",
    ]
    assert len(set(files)) == len(files)
    for file in files:
        start = file.read_bytes()[:24]
        assert start.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", start[16:])
        assert width >= 800
        assert height >= 200


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, second = (pictures.draw(ROWS, tmp_path / name)[0].read_bytes() for name in ("a", "b"))
    assert first == second


def test_rows_come_back_from_a_file_as_they_were(tmp_path):
    path = tmp_path / "a.csv"
    report.append_csv(path, all_suites()["size"].all_columns, [r for r in ROWS if r["suite"] == "size"])
    (read,) = pictures.draw(report.read_csv(path), tmp_path / "read")
    (given,) = pictures.draw([r for r in ROWS if r["suite"] == "size"], tmp_path / "given")
    assert read.name == given.name
    assert read.read_bytes() == given.read_bytes()


def test_a_model_without_published_accuracy_is_not_drawn_against_it(tmp_path):
    assert [file.name[:5] for file in pictures.draw([row("mixer_s16")], tmp_path)] == ["gemm-"]


def drawn(monkeypatch, rows, tmp_path):
    """The rows that reach the picture of accuracies."""
    caught = []

    def catch(figure, group):
        caught.append((group, pictures._about(group)))
        return False

    monkeypatch.setitem(pictures.PICTURES["infer"], "accuracy", catch)
    pictures.draw(rows, tmp_path)
    return caught


def test_the_last_row_about_a_thing_counts(monkeypatch, tmp_path):
    rows = [row(gemm_share=0.2), row(gemm_share=0.7), row(gemm_share=None, ms_median=None, note="skipped")]
    ((group, _),) = drawn(monkeypatch, rows, tmp_path)
    assert [r["gemm_share"] for r in group] == [0.7]


def test_a_cpu_that_was_slow_for_a_while_is_allowed_for(monkeypatch, tmp_path):
    # Both models run at half the rate of a product; the second was timed while everything took twice as long.
    rows = [row(), row("vit_b16", images_per_s=40.0, ms_median=200.0, tflops=0.05)]
    ((group, about),) = drawn(monkeypatch, rows, tmp_path)
    assert group[0]["images_per_s"] == pytest.approx(group[1]["images_per_s"]) == pytest.approx(60.0)
    assert about == "AMD EPYC, AVX2, 2 threads, fp32, batch 8, eager, torch 2.15.0, 2026-11-21, commit abc1234"
    on_gpu = [{**r, "command": "python -m benchmarks --device cuda"} for r in rows]
    ((group, about),) = drawn(monkeypatch, on_gpu, tmp_path)
    assert [r["images_per_s"] for r in group] == [80.0, 40.0]
    assert "threads" not in about


def test_settings_have_pictures_of_their_own(monkeypatch, tmp_path):
    groups = drawn(monkeypatch, [row(), row(batch=1), row(compiled=1), row(device="NVIDIA H200")], tmp_path)
    assert len(groups) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("model,speed\na,1\n", "holds no rows of python -m benchmarks", id="others"),
        pytest.param("", "holds no rows of python -m benchmarks", id="empty"),
        pytest.param(None, "cannot read", id="missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(content, message, tmp_path, capsys):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--plot", str(tmp_path / "new"), "--from", str(path)])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_stored_rows_can_be_drawn(tmp_path, capsys):
    path = tmp_path / "a.csv"
    report.append_csv(path, all_suites()["infer"].all_columns, [row(), row("vit_b16")])
    assert cli.main(["--plot", str(tmp_path / "pictures"), "--from", str(path)]) == 0
    assert capsys.readouterr().out.count("drew ") == len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_stored_rows_need_a_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--from", str(tmp_path / "a.csv")])
    assert stopped.value.code == 2
    assert "--from goes with --plot FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["detection", "infer", "loading", "train", "training"])
def test_stored_results_have_the_columns_of_their_suite(name):
    path = RESULTS / f"{name}-cpu.csv"
    report.check_appendable(path, all_suites()[name].all_columns)
    assert all(row["suite"] == name and row["commit"] and row["command"] for row in report.read_csv(path))


def test_a_run_can_be_drawn(tmp_path, capsys, tiny):
    words = ["--models", "mixer_b16", "--img-size", "64", "--batch", "1", "--pairs", "2", "--threads", "1"]
    assert cli.main([*words, "--peers", "reference", "--plot", str(tmp_path / "pictures")]) == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    assert "drew " in capsys.readouterr().out


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path, capsys):
    for module in ("benchmarks.pictures",):
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delattr(benchmarks, module.partition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--models", "mixer_b16", "--plot", str(tmp_path)])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert "pip install 'mlpzoo[demo]'" in printed
    assert printed.count("\n") == 1
