import csv
import re

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.gate import RedError, errors
from benchmarks.op_calls import IMPLS, META, Call, implementation, record_calls
from benchmarks.op_trial import Layout, OpTrial
from benchmarks.suites import ops
from benchmarks.suites.ops import OpGate
from benchmarks.traffic import Traffic

RUN = ["--suite", "ops", "--models", "mixer_s16", "--img-size", "64", "--batch", "2", "--pairs", "2", "--threads", "1"]
PRODUCT = Call(
    "linear",
    {"x": Layout((2, 3, 8), (24, 8, 1)), "w_OI": Layout((4, 8), (8, 1)), "b_O": Layout((4,), (1,))},
    {"act": "none"},
    ((2, 3, 4),),
)


@pytest.mark.parametrize("train", [False, True])
def test_calls_of_a_model_are_recorded_with_how_often_they_come(train, tiny):
    calls = {f"{call.op} {call}": call.times for call in record_calls("mixer_s16", 2, 64, train)}
    assert calls == {
        "token_linear x 2×16×32, w 16×16, b 16": 2,
        "token_linear x 2×16×32, w 16×16, b 16, act gelu_tanh": 2,
        "mlp x 2×16×32, w1 128×32, b1 128, w2 32×128, b2 32, act gelu_tanh, recompute False": 2,
    }


def test_what_an_op_calls_itself_is_its_own():
    # A spatial gate calls `token_linear`.
    assert {call.op for call in record_calls("gmlp_ti16", 1, 32)} == {"linear", "linear_halves", "spatial_gate"}


def test_an_op_of_two_outputs():
    (call,) = [call for call in record_calls("gmlp_ti16", 1, 32) if call.op == "linear_halves"]
    first, second = call.outputs
    assert first == second == (1, 4, 384)
    how = {"device": "cpu", "dtype": torch.float64, "train": True}
    ours, plain = (OpTrial(implementation(call.op, i), call.arguments(), **how).values() for i in ("auto", "reference"))
    assert list(ours) == ["output", "x", "w_OI", "b_O"]
    assert len(ours["output"]) == 2 * 4 * 384
    assert max(errors(ours, plain).values()) < 1e-12
    assert call.needed_bytes(torch.float32, train=False) == 4 * (4 * 128 + 768 * 128 + 768 + 2 * 4 * 384)


def test_gaps_in_memory_are_recorded_and_made_again():
    halves = Layout.of(torch.empty(2, 4, 10).chunk(2, dim=-1)[0])
    assert halves == Layout((2, 4, 5), (40, 10, 1))
    tensors = {"u_BTG": halves, "v_BTG": halves, "w_TT": Layout((4, 4), (4, 1)), "b_T": Layout((4,), (1,))}
    gate = Call("spatial_gate", tensors, {"shift_BTG": None}, ((2, 4, 5),))
    assert str(gate) == "u, v 2×4×5~, w 4×4, b 4"
    assert any("~" in str(call) for call in record_calls("vit_ti16", 2, 32) if call.op == "attention")
    trial = OpTrial(
        implementation("spatial_gate", "auto"), gate.arguments(), device="cpu", dtype=torch.float32, train=True
    )
    assert [Layout.of(tensor) for tensor in trial.tensors] == list(gate.tensors.values())
    values = trial.values()
    assert list(values) == ["output", "u_BTG", "v_BTG", "w_TT", "b_T"]
    assert all(value.isfinite().all() for value in values.values())


def test_every_dtype_gets_the_same_numbers():
    tensors = [
        OpTrial(implementation("linear", "auto"), PRODUCT.arguments(), device="cpu", dtype=dtype, train=False).tensors
        for dtype in (torch.float64, torch.float32)
    ]
    for exact, rounded in zip(*tensors, strict=True):
        assert torch.equal(exact.float(), rounded)


@pytest.mark.parametrize(
    ("model", "size"), [("mixer_s32", 32), ("gmlp_ti16", 32), ("vip_s14", 56), ("cyclemlp_b1", 32), ("vit_ti16", 32)]
)
def test_every_implementation_that_an_op_names_is_timed_somewhere(model, size):
    for call in {call.op: call for call in record_calls(model, 1, size)}.values():
        trial = OpTrial(implementation(call.op, "?"), call.arguments("meta"), **META, train=False)
        named = set()
        try:
            trial.once()
        except ValueError as error:
            # The complaint about an unknown one lists all.
            named = set(re.findall("'([a-z_]+)'", str(error))) - {"auto", "reference"}
        timed = {impl for impls in IMPLS.get(call.op, {}).values() for impl in impls}
        assert named <= timed, f"name {named - timed} of {call.op} in benchmarks.op_calls.IMPLS"


def test_operations_and_bytes_of_a_product():
    assert PRODUCT.flops(train=False) == 2 * 6 * 8 * 4
    assert PRODUCT.flops(train=True) == 3 * PRODUCT.flops(train=False)
    inputs, output = 2 * 3 * 8 + 4 * 8 + 4, 2 * 3 * 4
    assert PRODUCT.needed_bytes(torch.float32, train=False) == 4 * (inputs + output)
    assert PRODUCT.needed_bytes(torch.bfloat16, train=True) == 2 * (3 * inputs + 2 * output)


@pytest.mark.parametrize(
    ("work", "floats"),
    [
        pytest.param(lambda x: x + 1, 200, id="read-and-write"),
        pytest.param(lambda x: x.t().reshape(5, 20).reshape(100)[3:].sum(), 200 + 97 + 1, id="copy-of-a-view"),
        pytest.param(lambda x: x.view(100).unflatten(0, (4, 25)).transpose(0, 1)[2:], 0, id="views"),
        pytest.param(lambda x: torch.empty_like(x).copy_(x), 200, id="copy"),
        pytest.param(lambda x: x.detach().mul_(2), 200, id="in-place"),
        pytest.param(lambda x: x + x[:1].expand(10, 10), 210, id="expanded"),
        pytest.param(lambda x: x @ x, 300, id="product"),
    ],
)
def test_bytes_moved(work, floats):
    x = torch.ones(10, 10)
    with torch.no_grad(), Traffic() as traffic:
        work(x)
    assert traffic.bytes == 4 * floats


def test_bytes_moved_by_a_backward_pass():
    x = torch.ones(10, 10, requires_grad=True)
    with Traffic() as traffic:
        torch.autograd.grad(x * 3.0, x, torch.ones(10, 10))
    # Forward x is read and the product written; backward the gradient is read and the other written.
    assert 4 * 400 <= traffic.bytes <= 4 * 600


def test_a_run(tmp_path, capsys, tiny):
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--ops", "mlp", "token_linear", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {(row["op"], row["mode"]) for row in rows} == {
        (op, mode) for op in ("mlp", "token_linear") for mode in ("forward", "training")
    }
    others = {"mlp": ["onednn"], "token_linear": ["bmm"]}
    for start in range(0, len(rows), 3):
        some = rows[start : start + 3]
        assert [row["contender"] for row in some] == ["ours", "reference", *others[some[0]["op"]]]
        assert len({row["call"] for row in some}) == len({row["mode"] for row in some}) == 1
    for row in rows:
        assert (row["suite"], row["img_size"], row["note"]) == ("ops", "64", "")
        assert float(row["ms_q1"]) <= float(row["ms_median"]) <= float(row["ms_q3"])
        assert (row["ratio_median"] == "") == (row["contender"] == "ours")
        expected = float(row["mb_needed"]) / float(row["ms_median"])
        assert float(row["gb_per_s"]) == pytest.approx(expected, rel=1e-4)
        assert float(row["mb_moved"]) > 0.9 * float(row["mb_needed"])
        assert float(row["copy_share"]) > 0
        assert float(row["gemm_share"]) > 0
    table = capsys.readouterr().out
    assert "moved / needed" in table
    assert "gb_per_s" not in table, "absolute speeds of a CPU are not for people"


def wrong(monkeypatch, impl, change):
    """Let one implementation of every op be changed."""

    def changed(op, which):
        right = implementation(op, which)
        return (lambda **arguments: change(right(**arguments))) if which == impl else right

    monkeypatch.setattr(ops, "implementation", changed)


def test_a_wrong_implementation_shows_no_speed(monkeypatch, tmp_path, capsys, tiny):
    wrong(monkeypatch, "onednn", lambda y: y * 1.001)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--ops", "mlp", "--modes", "forward", "--out", str(out)]) == 1
    rows = list(csv.DictReader(out.read_text().splitlines()))
    for row in rows:
        red = row["contender"] == "onednn"
        assert row["note"].startswith("RED: onednn is not exact enough: its output is off by") == red
        assert (row["ms_median"] == row["ratio_median"] == "") == red
    assert "RED: mixer_s16: 1 of the calls above" in capsys.readouterr().err


def test_where_ours_is_wrong_nothing_is_timed(monkeypatch, tmp_path, capsys, tiny):
    wrong(monkeypatch, "auto", lambda y: y * 1.001)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--ops", "mlp", "--modes", "forward", "--out", str(out)]) == 1
    assert not out.exists()
    printed = capsys.readouterr()
    assert "ours is not exact enough" in printed.err
    assert "time / ours" not in printed.out


def test_a_wrong_gradient_is_red():
    def scale_gradient(**arguments):
        return implementation("linear", "auto")(**{**arguments, "w_OI": arguments["w_OI"] * 1.0})

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 1.001 * gradient

    def wrong_gradient(**arguments):
        return implementation("linear", "auto")(**{**arguments, "w_OI": Scaled.apply(arguments["w_OI"])})

    gate = OpGate("linear", PRODUCT.arguments(), "cpu", torch.float32, train=True)
    how = {"device": "cpu", "dtype": torch.float32, "train": True}
    gate.check("right", OpTrial(scale_gradient, PRODUCT.arguments(), **how))
    with pytest.raises(RedError, match="wrong is not exact enough: its gradient of w_OI"):
        gate.check("wrong", OpTrial(wrong_gradient, PRODUCT.arguments(), **how))


def test_an_implementation_that_cannot_run_here_is_a_note(tmp_path, tiny):
    out = tmp_path / "results.csv"
    words = [*RUN, "--ops", "mlp", "--modes", "forward", "--dtype", "bf16", "--out", str(out)]
    assert cli.main(words) == 0
    rows = [row for row in csv.DictReader(out.read_text().splitlines()) if row["contender"] == "onednn"]
    assert rows
    assert all("skipped: impl 'onednn' of linear needs float32" in row["note"] for row in rows)
    assert all(row["ms_median"] == "" for row in rows)


def test_short_calls_are_repeated_and_divided(monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(ops, "LEAST_SECONDS", {"cpu": 1e-2})
    counted = []
    step = OpTrial.step

    def counting(self):
        counted.append(self.repeats)
        step(self)

    monkeypatch.setattr(OpTrial, "step", counting)
    out = tmp_path / "results.csv"
    cli.main([*RUN, "--ops", "token_linear", "--modes", "forward", "--out", str(out)])
    row = next(csv.DictReader(out.read_text().splitlines()))
    assert max(counted) > 1
    assert float(row["ms_median"]) < 1e3 * 1e-2


def test_memory_too_small_is_a_note(monkeypatch, tmp_path, tiny):
    def full(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(ops, "_measure", full)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--ops", "mlp", "--modes", "forward", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["contender"], row["note"]) for row in rows] == [("ours", "skipped: out of memory")]
