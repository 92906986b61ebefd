"""Every value of a recipe is checked before anything starts."""

import pytest
import torch
import yaml
from PIL import Image
from train.tiny import RECIPE, tiny_recipe

from mlpzoo import demos  # noqa: F401  their recipes
from mlpzoo.tasks import plan, read_recipe, train
from mlpzoo.train import RecipeError, recipe_files
from mlpzoo.train.optimizers import SCHEDULES, build_optimizer, build_schedule

# A change, and what the error says.
READ = [
    ("schedule.name=cosin", "unknown schedule 'cosin' .*did you mean 'cosine'"),
    ("schedule.name=plateau", "unknown schedule 'plateau'"),
    ("schedule.name=Cosine", "did you mean 'cosine'"),
    ("schedule.options={foo: 1}", "cannot build the schedule 'cosine' .*foo"),
    ("schedule.warmup_updates=12", "schedule.warmup_updates is 12, which leaves nothing of schedule.updates, 12"),
    ("schedule.min_lr=1", r"schedule.min_lr is 1, above optimizer.lr, 0.004"),
    ("run.trackers=[tensorbord]", "'tensorbord', which accelerate does not know.*did you mean 'tensorboard'"),
    ("run.trackers=[tensorboard, aim]", "'aim', whose package is not installed: pip install aim"),
    ("run.trackers=tensorboard", "run.trackers is .*array"),
    ("augment.auto_augment=rnd-m9", "unknown policy 'rnd-m9'.*did you mean 'rand'"),
    ("augment.auto_augment=random-m9", "unknown policy"),
    ("augment.auto_augment=rand-m9-foo1", "'foo1' in 'rand-m9-foo1' is no setting of rand"),
    ("augment.auto_augment=rand-m9-w0", "'w0' in"),
    ("augment.auto_augment=rand-mfoo", "'mfoo' in"),
    ("augment.auto_augment=rand-foo", "'foo' in"),
    ("augment.auto_augment=rand-m9.5", "'m9.5' in"),
    ("augment.auto_augment=rand-m15", "magnitude of 'rand-m15' is above 10: add mmax15"),
    ("augment.auto_augment=rand-p2", "probability"),
    ("augment.auto_augment=rand-inc2", "'inc2' in"),
    ("augment.auto_augment=original-m3", "'m3' in"),
    ("augment.auto_augment=augmix-n3", "'n3' in"),
    ("augment.auto_augment=''", "unknown policy ''"),
    ("augment.interpolation=bicubc", "augment.interpolation: unknown interpolation 'bicubc' .*did you mean 'bicubic'"),
    ("data.interpolation=lanczos3", "data.interpolation: unknown interpolation 'lanczos3' .*did you mean 'lanczos'"),
    ("data.interpolation=random", "unknown interpolation 'random'"),
    ("augment.scale=[0.5, 0.4]", r"augment.scale: must be the lower bound.*got \[0.5, 0.4\]"),
    ("augment.scale=[0, 1]", "augment.scale: must be the lower bound, above 0"),
    ("augment.scale=[0.5, 1.5]", "augment.scale: .*at most 1"),
    ("augment.ratio=[1.5, 0.5]", "augment.ratio: must be the lower bound"),
    ("data.mean=[127]", "data.mean: is of pixels in .*from 0 to 1"),
    ("data.std=[0]", "data.std: .*above 0 to 1"),
    ("data.std=[57.0]", "data.std: .*above 0 to 1"),
    ("data.length=5", "data.length is for streams"),
    ("loss.label_smoothing=1", "loss.label_smoothing is 1"),
    ("loss.teacher_checkpoint=x.pth", "loss.teacher_checkpoint is the file of a teacher"),
    ("optimizer.name=adamx", "unknown optimizer 'adamx' .*did you mean 'adam"),
    ("optimizer.options={betas: [0.9]}", "cannot build the optimizer 'adamw' .optimizer.options."),
    ("optimizer.options={betas: [0.9, 2.0]}", "cannot build the optimizer"),
    ("optimizer.options={eps: small}", "cannot build the optimizer"),
    ("optimizer.options={epsilon: 1e-8}", "cannot build the optimizer"),
    ("optimizer.options={weight_decay: 1}", "optimizer.options has weight_decay, which is a key of its own"),
    ("run.ema_decay=1.0", "run.ema_decay"),
    ("data.held_out=1", "data.held_out"),
]


@pytest.mark.parametrize(("change", "message"), READ, ids=[change for change, _ in READ])
def test_values_are_refused_when_they_are_read(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny_recipe(change)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


GOOD = [
    *(f"augment.auto_augment={text}" for text in ("rand-m9-mstd0.5-inc1", "rand-m15-mmax30", "rand-n2-p0.5-tweights")),
    *(f"augment.auto_augment={text}" for text in ("augmix-m5-w4-d2-b1", "original-mstd0.5", "v0r", "3a", "null")),
    *(f"augment.interpolation={name}" for name in ("random", "lanczos", "box")),
    "optimizer.name=lookahead_adam",
    "data.mean=[0]",
    "schedule.warmup_updates=11",
    "run.trackers=[tensorboard]",
]


@pytest.mark.parametrize("change", GOOD)
def test_what_timm_takes_is_taken(change):
    recipe = tiny_recipe(change)
    assert plan(recipe).updates == 12


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedules_are_timms(name):
    options = {"multistep": {"decay_milestones": [4, 8]}, "wsd": {"decay_epochs": 3}}.get(name, {})
    if name == "rsqrt":
        with pytest.raises(RecipeError, match="stable_timescale"):
            tiny_recipe("schedule.name=rsqrt")
        assert tiny_recipe("schedule.name=rsqrt", "schedule.warmup_updates=3").schedule.name == name
        return
    section = tiny_recipe("schedule.name=cosine").schedule.model_copy(update={"name": name, "options": options})
    schedule = build_schedule(build_optimizer(torch.nn.Linear(1, 1), tiny_recipe().optimizer), section, 4)
    schedule.step_update(3)


BUILT = [
    (["data.mean=[0.5, 0.5, 0.5]"], "data.mean has 3 values, but the network takes 1 channels"),
    (["data.std=[0.5, 0.5]"], "data.std has 2 values"),
    (["data.dataset=digts"], "unknown data set 'digts' .*did you mean 'digits'"),
    (["schedule.epochs=1", "schedule.warmup_updates=22"], "the warm-up takes all of the schedule, 1 of 1 epochs"),
    (["schedule.updates=9", "schedule.warmup_epochs=1"], "the warm-up takes all of the schedule, 22 of 9 updates"),
    (["model.name=mixer_s17"], "unknown model 'mixer_s17'.*mixer_s16"),
    (["model.options={img_size: big}"], "model.options"),
    (["model.options={depht: 2}"], "model.options: .*did you mean 'depth'"),
    (["model.options={drop_rate: 1.5}"], r"drop_rate must be in \[0, 1\)"),
    (["model.options={features_only: true}"], "model.options has features_only"),
    (["model.options={impl: fast}"], "impl 'fast': choose auto, reference, triton"),
    (["model.pretrained=true"], "released|weights"),
    (["model.frozen_stages=3"], "model.frozen_stages must be from -1 to 2"),
    (["data.batch_size=10000"], "data.batch_size is 10000, but there are only 1437"),
    (["loss.teacher=mixer_s15"], "unknown model 'mixer_s15'"),
]


@pytest.mark.parametrize(("changes", "message"), BUILT, ids=[row[0][-1] for row in BUILT])
def test_values_are_refused_before_anything_starts(changes, message, tmp_path):
    recipe = tiny_recipe(*changes)
    with pytest.raises(RecipeError, match=message) as caught:
        plan(recipe)
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match=message):
        train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("denoise", "data.tile=10", "tile must be a multiple of 32"),
        ("denoise", "data.tile=64 data.overlap=48", "overlap must be"),
        ("denoise", "data.overlap=32 data.tile=null", "overlap is between tiles"),
        ("denoise", "data.crop=50", "data.crop is 50"),
        ("detection-digits", "model.detector={min_size:\xa0abc}", "min_size must be a whole number"),
        ("detection-digits", "model.detector={min_size:\xa0900,max_size:\xa0100}", "min_size must be at most max_size"),
        ("detection-digits", "model.detector={nms_thresh:\xa02}", "nms_thresh must be from 0 to 1"),
    ],
)
def test_other_tasks(name, change, message):
    recipe = read_recipe(name, [part.replace("\xa0", " ") for part in change.split(" ")])
    with pytest.raises(RecipeError, match=message):
        plan(recipe)


@pytest.mark.parametrize(
    "text", ["2024-01-01", "2024-01-01T10:00:00Z", "12:30:45", "190:20:30", "1_0", "0o17", "yes", "007"]
)
def test_text_stays_text(text, tmp_path):
    assert tiny_recipe(f"about.source={text}", f"data.train_split={text}").about.source == text
    assert tiny_recipe(f"data.train_split={text}").data.train_split == text
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(RECIPE) + f"about: {{source: '{text}'}}\n")
    assert read_recipe(path).about.source == text
    if text[4:5] == "-" or ":" in text:
        path.write_text(yaml.safe_dump(RECIPE) + f"about:\n  source: {text}\n")
        assert read_recipe(path).about.source == text
        assert tiny_recipe(f"about.result={text}").about.result == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1.5", 1.5), (".5", 0.5), ("+2", 2), ("1_000", 1000), ("-3.5e+2", -350.0), ("0x10", 16)],
)
def test_numbers_stay_numbers(text, value):
    assert yaml.load(text, recipe_files._Loader) == value


@pytest.mark.parametrize("text", ["null", "~"])
def test_null_is_no_text(text):
    assert tiny_recipe(f"data.validation_split={text}").data.validation_split is None


def test_a_year_is_a_split(tmp_path):
    for split in ("2007", "2012"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                Image.new("L", (8, 8)).save(tmp_path / split / name / f"{i}.png")
    changes = ["data.dataset=folder", f"data.root={tmp_path}", "data.batch_size=2"]
    found = plan(tiny_recipe(*changes, "data.train_split=2007", "data.validation_split=2012"))
    assert (found.images, found.validation_images) == (4, 4)


def test_the_command_exits_with_2(tmp_path, capsys):
    from mlpzoo.cli import run

    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    for change in ("schedule.name=cosin", "run.trackers=[aim]", "model.frozen_stages=3", "data.dataset=digts"):
        for more in ([], ["--dry-run"]):
            assert run(["train", str(path), change, "--out", str(tmp_path / "run"), "--device", "cpu", *more]) == 2
            captured = capsys.readouterr()
            assert captured.out == ""
            assert captured.err.startswith("mlpzoo: error: ")
            assert captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
