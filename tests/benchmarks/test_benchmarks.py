import csv
import dataclasses
import platform
import shlex

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

import mlpzoo
from benchmarks import __main__ as cli
from benchmarks import environment, measure, models, report
from benchmarks.gate import errors
from benchmarks.options import Size, output_file, parse
from benchmarks.suite import Suite, all_suites, register
from benchmarks.trial import OUTPUT, Trial
from mlpzoo.models import FAMILIES

SIZELESS = ["--models", "mixer_s16", "--batch", "1", "--pairs", "2", "--threads", "1"]
RUN = [*SIZELESS, "--img-size", "64"]


def test_ratios_are_taken_pair_by_pair():
    ours = [1.0, 2.0, 4.0, 1.0, 10.0]
    peer = [1.5, 3.0, 6.0, 1.2, 30.0]
    assert measure.paired(peer, ours) == pytest.approx((1.5, 1.5, 1.5))
    # The ratio of the medians, 8 / 3, is none of these.
    assert measure.paired([2.0, 9.0, 8.0], [1.0, 3.0, 8.0]) == pytest.approx((1.5, 2.0, 2.5))


def test_quartiles_are_interpolated():
    assert measure.quartiles([4.0, 1.0, 3.0, 2.0]) == pytest.approx((1.75, 2.5, 3.25))


def test_runners_go_in_turn_and_warm_ups_are_not_recorded(monkeypatch):
    calls = []

    class Runner(measure.Runner):
        def __init__(self, name):
            self.name = name

        def prepare(self):
            calls.append(f"prepare {self.name}")

        def step(self):
            calls.append(self.name)

        def reset(self):
            calls.append(f"reset {self.name}")

    def number_of_calls(step):
        step()
        return float(len(calls))

    monkeypatch.setitem(measure.SECONDS, "cpu", number_of_calls)
    times = measure.time_in_turn({"a": Runner("a"), "g": Runner("g")}, "cpu", warmups=2, pairs=3)
    assert calls == ["prepare a", "a", "reset a", "prepare g", "g", "reset g"] * 5
    assert times == {"a": [14.0, 20.0, 26.0], "g": [17.0, 23.0, 29.0]}


def test_a_runner_with_a_clock_of_its_own_is_believed():
    class Remote(measure.Runner):
        def seconds(self, clock):
            return 42.0

    assert measure.time_in_turn({"base": Remote()}, "cpu", warmups=1, pairs=2) == {"base": [42.0, 42.0]}


def test_csv_has_one_header_and_refuses_other_columns(tmp_path):
    path = tmp_path / "new" / "results.csv"
    columns = all_suites()["infer"].all_columns
    report.check_appendable(path, columns)
    report.append_csv(path, columns, [{"model": "a", "images_per_s": 123.456789, "peak_mem_mb": None}])
    report.check_appendable(path, columns)
    report.append_csv(path, columns, [{"model": "b", "note": "skipped: out of memory"}])
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(columns)
    rows = list(csv.DictReader(lines))
    assert [row["model"] for row in rows] == ["a", "b"]
    assert rows[0]["images_per_s"] == "123.457"
    assert rows[0]["peak_mem_mb"] == ""
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        report.append_csv(path, columns, [{"speed": 1}])
    with pytest.raises(ValueError, match="other columns"):
        report.check_appendable(path, all_suites()["ops"].all_columns)
    path.write_text("model,speed\n")
    with pytest.raises(ValueError, match="other columns"):
        report.check_appendable(path, columns)


@pytest.mark.parametrize("suite", ["infer", "train"])
def test_a_run(suite, tmp_path, capsys, tiny):
    out = tmp_path / "results.csv"
    assert cli.main(["--suite", suite, *RUN, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    expected = ["ours", "timm-nchw", "timm-nhwc", "reference", *(["folded"] if suite == "infer" else [])]
    assert [row["contender"] for row in rows] == expected
    for row in rows:
        assert row["suite"] == suite
        assert (row["model"], row["dtype"], row["batch"], row["img_size"]) == ("mixer_s16", "fp32", "1", "64")
        assert float(row["ms_q1"]) <= float(row["ms_median"]) <= float(row["ms_q3"])
        assert float(row["images_per_s"]) == pytest.approx(1e3 / float(row["ms_median"]), rel=1e-4)
        assert (row["ratio_median"] == "") == (row["contender"] == "ours")
        assert str(tmp_path) not in str(row)
        assert row["peak_mem_mb"] == row["note"] == ""
    table = capsys.readouterr().out
    assert "timm-nhwc" in table
    assert "images_per_s" not in table, "absolute speeds of a CPU are not for people"


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["infer", "train"])
def test_compiled_contenders_meet_compiled_ones(suite, tmp_path, tiny):
    out = tmp_path / "results.csv"
    words = ["--suite", suite, *RUN, "--compile", "--peers", "timm-nchw", "reference", "--out", str(out)]
    assert cli.main(words) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    expected = [(name, compiled) for compiled in "01" for name in ("ours", "timm-nchw", "reference")]
    assert [(row["contender"], row["compiled"]) for row in rows] == expected
    assert all(row["note"] == "" for row in rows)
    assert all(float(row["ratio_median"]) > 0 for row in rows if row["contender"] != "ours")


def wrong_logits(name, ours, options):
    contender = models.timm_nchw(name, ours, options)
    contender.model.head.bias = torch.nn.Parameter(contender.model.head.bias + 1e-3)
    return contender


def wrong_activation(name, ours, options):
    contender = models.timm_nchw(name, ours, options)
    for block in contender.model.blocks:
        block.mlp_tokens.act = torch.nn.GELU()
    return contender


def wrong_gradient(name, ours, options):
    contender = models.timm_nchw(name, ours, options)
    contender.model.head.register_full_backward_hook(lambda module, given, taken: (1.001 * given[0],))
    return contender


@pytest.mark.parametrize(
    ("suite", "builder", "wrong"),
    [
        pytest.param("infer", wrong_logits, "output is", id="bias"),
        pytest.param("infer", wrong_activation, "output is", id="erf-gelu"),
        pytest.param("train", wrong_gradient, "gradient of", id="gradient"),
    ],
)
def test_a_wrong_peer_shows_no_speed(suite, builder, wrong, monkeypatch, tmp_path, capsys, tiny):
    monkeypatch.setitem(models.PEERS, "timm-nchw", builder)
    out = tmp_path / "results.csv"
    assert cli.main(["--suite", suite, *RUN, "--out", str(out)]) == 1
    assert not out.exists()
    printed = capsys.readouterr()
    assert f"RED: mixer_s16: timm-nchw does not compute what ours does in float64: its {wrong}" in printed.err
    assert "time / ours" not in printed.out


def test_an_inexact_contender_shows_no_speed(monkeypatch, tmp_path, capsys, tiny):
    def noisy(name, ours, options):
        contender = models.timm_nchw(name, ours, options)

        def add_noise(module, args, logits):
            return logits + 1e-3 * torch.ones_like(logits) if logits.dtype == torch.float32 else None

        contender.model.register_forward_hook(add_noise)
        return contender

    monkeypatch.setitem(models.PEERS, "timm-nchw", noisy)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--out", str(out)]) == 1
    assert not out.exists()
    assert "RED: mixer_s16 fp32 eager batch 1 size 64: timm-nchw is not exact enough" in capsys.readouterr().err


def test_a_missing_gradient_is_an_infinite_error():
    output = {OUTPUT: torch.ones(2, 10)}
    assert errors(output, {**output, "head.bias": torch.ones(10)}) == {"head.bias": float("inf")}


def test_memory_too_small_for_a_peer_is_a_note(monkeypatch, tmp_path, tiny):
    feed = Trial.feed

    def feed_unless_channels_last(self, images, gradient):
        if self.memory_format == torch.channels_last and self.module.head.weight.dtype == torch.float32:
            raise torch.OutOfMemoryError("no room")
        feed(self, images, gradient)

    monkeypatch.setattr(Trial, "feed", feed_unless_channels_last)
    out = tmp_path / "results.csv"
    assert cli.main([*RUN, "--out", str(out)]) == 0
    rows = {row["contender"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert rows["timm-nhwc"]["note"] == "skipped: out of memory"
    assert rows["timm-nhwc"]["ms_median"] == ""
    assert rows["timm-nchw"]["note"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--models", "mixer_b61"], "unknown model 'mixer_b61'; the nearest: mixer_b16", id="model"),
        pytest.param(["--models", "mixer_b16", "--img-size", "30"], "does not divide into patches", id="size"),
        pytest.param(["--models", "mixer_b16", "--batch", "0"], "'0' is not a whole number of 1 or more", id="batch"),
        pytest.param(["--models", "mixer_b16", "--pairs", "1"], "quartiles need two values", id="pairs"),
        pytest.param(["--models", "mixer_b16", "--suite", "fly"], "there are: detection, infer", id="suite"),
        pytest.param(["--models", "vip_s7", "--img-size", "96"], "cannot be built for images of 96×96", id="grid"),
        pytest.param(
            ["--models", "mixer_b16", "--sizes", "64"],
            "goes with the suites detection, restoration, size, not",
            id="sizes",
        ),
        pytest.param(["--models", "mixer_b16", "--ops", "linear"], "--ops goes with the suites ops, not", id="ops"),
        pytest.param(["--models", "mixer_b16", "--plot", __file__], "--plot: ", id="plot"),
        pytest.param(
            ["--models", "mixer_b16", "--suite", "size", "--sizes", "8x8x8"], "write 224, or 800x1344", id="size-text"
        ),
        pytest.param(["--suite", "trian"], "unknown suite 'trian'; the nearest: train", id="near-suite"),
        pytest.param(["--models", "mixer_b16", "--peers", "tim"], "unknown peer 'tim'", id="peer"),
        pytest.param(["--models", "mixer_b16", "--pears", "2"], "unknown option '--pears'", id="option"),
        pytest.param(["mixer_b16"], "'mixer_b16' is no option", id="positional"),
        pytest.param(["--suite", "memory", "--models", "mixer_b16", "--device", "cuda"], "there are: cpu", id="device"),
        pytest.param([], "the following arguments are required: --models", id="nothing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_cuda_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--models", "mixer_b16", "--device", "cuda"])
    assert stopped.value.code == 2
    assert "sees no CUDA device" in capsys.readouterr().err


def test_dry_run_measures_nothing_and_spells_out_the_defaults(monkeypatch, capsys):
    monkeypatch.setattr(models, "build", None)
    assert cli.main(["--models", "mixer_s*", "--dry-run", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    peers = "timm-nchw timm-nhwc reference folded"
    assert f"--models mixer_s32 mixer_s16 --device cpu --batch 1 8 --peers {peers} --dtype fp32 --pairs 15" in printed
    assert "results go to infer-cpu.csv" in printed


def test_trials_are_kept_only_where_the_user_says(tmp_path):
    few, _ = parse(RUN, all_suites())
    enough, _ = parse([*RUN, "--pairs", "15"], all_suites())
    said, _ = parse([*RUN, "--pairs", "15", "--trial"], all_suites())
    named, _ = parse([*RUN, "--out", str(tmp_path / "a.csv")], all_suites())
    assert output_file(few) is output_file(said) is None
    assert output_file(named) == tmp_path / "a.csv"
    assert output_file(enough).name == "infer-cpu.csv"


def test_help_lists_every_suite_and_the_options_of_one(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--suite", "size", "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for suite in all_suites().values():
        assert f"  {suite.name} " in printed
        assert suite.summary in printed
    assert "(default: 224 320 448 640)" in " ".join(printed.split())


def test_a_suite_is_one_registered_object(monkeypatch, tmp_path):
    suites = all_suites()
    monkeypatch.setattr("benchmarks.suite.SUITES", dict(suites))

    def run(options, name, base):
        yield [{"contender": "ours", "ms_median": 1.5}]

    options = suites["infer"].options
    register(
        Suite(name="new", summary="a trial", run=run, options=options, columns=("model", *report.WHAT, "ms_median"))
    )
    out = tmp_path / "a.csv"
    assert cli.main(["--suite", "new", *RUN, "--out", str(out)]) == 0
    (row,) = report.read_csv(out)
    assert (row["suite"], row["model"], row["ms_median"]) == ("new", "mixer_s16", "1.5")
    with pytest.raises(ValueError, match="two suites 'new'"):
        register(dataclasses.replace(suites["infer"], name="new"))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([*RUN, "--compile", "--dtype", "bf16", "--peers", "reference"], id="infer"),
        pytest.param(["--suite", "ops", *RUN, "--ops", "linear", "--modes", "training"], id="ops"),
        pytest.param(["--suite", "size", *SIZELESS, "--sizes", "64", "96x128"], id="size"),
        pytest.param(["--suite", "restoration", "--models", "maxim_s1", "--overlap", "0"], id="restoration"),
        pytest.param(["--suite", "training", "--updates", "3"], id="training"),
    ],
)
def test_the_recorded_command_asks_for_the_same_run(words):
    suites = all_suites()
    options, _ = parse(words, suites)
    suite = suites[options.suite]
    again, _ = parse(shlex.split(options.command(suite))[3:], suites)
    for option in suite.options:
        assert getattr(again, option.name) == getattr(options, option.name)


@given(height=st.integers(1, 10**6), width=st.integers(1, 10**6))
def test_sizes_are_read_as_they_are_written(height, width):
    assert Size.parse(str(Size(height, width))) == (height, width)


def test_training_counts_three_times_the_operations_but_for_the_images_gradient():
    options, image = models.model_options("mixer_s32", None)
    forward = models.count_flops("mixer_s32", options, image, train=False)
    both = models.count_flops("mixer_s32", options, image, train=True)
    stem = 2 * 49 * 512 * 3 * 32 * 32
    assert forward == pytest.approx(2.0e9, rel=0.05)
    assert both == 3 * forward - stem


def smallest(family):
    """Of the variants that timm has, the one of the fewest parameters."""
    return min(family.timm_twins, key=lambda name: mlpzoo.model_info(name).parameters)


@pytest.mark.parametrize("name", [name for family in FAMILIES.values() for name in family.timm_twins])
def test_timm_has_every_peer(name):
    assert timm.is_model(models.peer_of(name)[0])


@pytest.mark.parametrize("name", [smallest(family) for family in FAMILIES.values() if family.timm_twins])
def test_a_peer_of_timm_takes_all_our_weights_and_gradients(name):
    options, _ = models.model_options(name, None)
    ours = mlpzoo.create_model(name, **options)
    peer = models.timm_nchw(name, ours, options)
    gradients = {key: torch.ones_like(value) for key, value in ours.named_parameters()}
    found = peer.layout({OUTPUT: torch.zeros(1), **gradients})
    assert torch.equal(found.pop(OUTPUT), torch.zeros(1))
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in peer.model.named_parameters()
    }
    assert all(bool((value == 1).all()) for value in found.values())


def test_a_model_without_a_twin_has_only_its_reference():
    assert models.peers_of("mixer_h14", tuple(models.PEERS), train=True) == ["reference"]


def test_environment_names_no_host_and_no_path():
    described = environment.describe("cpu") | environment.moment()
    assert set(described) == set(report.RUN) - {"suite", "command"}
    assert described["capability"] == torch.backends.cpu.get_cpu_capability()
    for value in map(str, described.values()):
        assert str(environment.ROOT) not in value
        assert not platform.node() or platform.node() not in value


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_table(device, capsys):
    common = {"model": "mixer_b16", "dtype": "bf16", "compiled": 1, "batch": 64, "gemm_share": 0.5, "tflops": 300.0}
    common |= {"images_per_s": 12345.6, "ms_median": 5.2, "peak_mem_mb": 900.0}
    ratio = {"ratio_median": 1.25, "ratio_q1": 1.2, "ratio_q3": 1.3}
    skipped = {"model": "mixer_b16", "dtype": "bf16", "compiled": 1, "batch": 1024, "contender": "ours"}
    report.print_table(
        [
            {**common, "contender": "ours"},
            {**common, **ratio, "contender": "reference"},
            {**skipped, "note": "skipped: out of memory"},
        ],
        device,
    )
    heading, ours, reference, last = capsys.readouterr().out.splitlines()
    assert ours.split()[:5] == ["mixer_b16", "bf16", "compiled", "64", "ours"]
    assert reference.split()[4:8] == ["reference", "1.25", "1.200–1.300", "0.5"]
    assert last.endswith("skipped: out of memory")
    assert "op" not in heading.split()
    assert ("images_per_s" in heading) == ("1.235e+04" in ours) == (device == "cuda")
