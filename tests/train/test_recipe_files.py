"""Recipes: strict checking, and the ones that are shipped."""

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from train.tiny import RECIPE, tiny_recipe

import mlpzoo
from mlpzoo.restoration import create_restorer
from mlpzoo.tasks import TASKS, read_recipe, recipe_from, shipped_recipes
from mlpzoo.tasks.classification import build_loss
from mlpzoo.tasks.classification_recipe import ClassificationRecipe
from mlpzoo.train import Recipe, dump_recipe
from mlpzoo.train.optimizers import build_optimizer, build_schedule
from mlpzoo.train.recipe_files import differences, keys


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_build(name):
    recipe = read_recipe(name)
    assert recipe.about.source
    assert recipe.about.command
    assert recipe.about.result
    with torch.device("meta"):
        create = create_restorer if recipe.task == "restoration" else mlpzoo.create_model
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in recipe.model.options.items()}
        model = create(recipe.model.name, **options)
    optimizer = build_optimizer(model, recipe.optimizer)
    schedule = build_schedule(optimizer, recipe.schedule, 100)
    updates = recipe.schedule.updates or recipe.schedule.epochs * 100
    rates = []
    for update in range(0, updates + 1, max(updates // 400, 1)):
        schedule.step_update(update)
        rates.append(max(group["lr"] for group in optimizer.param_groups))
    # timm's schedules fall from the start, so at the end of the warm-up a little of it is gone.
    assert 0.95 * recipe.optimizer.lr < max(rates) <= recipe.optimizer.lr
    assert rates[-1] <= max(recipe.schedule.min_lr, 0.01 * recipe.optimizer.lr)
    if recipe.task != "classification":
        return
    mixes = bool(recipe.augment.mixup or recipe.augment.cutmix)
    labels = torch.full((4, 10), 0.1) if mixes else torch.arange(4)
    assert build_loss(recipe.loss, mixed=mixes)(torch.randn(4, 10), labels).isfinite()


def test_there_are_the_recipes_people_ask_for():
    named = {"digits", "denoise", "detection-digits", "finetune", "finetune_vit_jax", "mixer_b16_i1k", "resmlp_400e"}
    assert named | {"cyclemlp_300e", "vip_300e", "linear_probe"} <= set(shipped_recipes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.lrr=2", "unknown key 'optimizer.lrr': did you mean 'optimizer.lr'"),
        ("lr=2", "did you mean 'optimizer.lr'"),
        ("optimiser.lr=2", "unknown key 'optimiser': did you mean 'optimizer'"),
        ("model.lr=2", "did you mean 'optimizer.lr'"),
        ("zzzz.yyyy=2", "the sections are about, model"),
        ("optimizer.lr=fast", 'optimizer.lr is "fast": input should be a valid number'),
        ("optimizer.lr='1e-3'", "should be a valid number"),
        ("optimizer.lr=-1", "greater than 0"),
        ("optimizer.lr=.inf", "optimizer.lr"),
        ("augment.scale=[1]", "augment.scale"),
        ("augment.hflip=2", "less than or equal to 1"),
        ("run.precision=fp8", "'fp32', 'bf16' or 'fp16'"),
        ("run.compile=1", "valid boolean"),
        ("model=mixer_s16", "'model' is a section: change one of its keys, such as model.name"),
        ("optimizer.lr", "write section.key=value"),
        ("optimizer.options=[", "not readable as YAML"),
        ("schedule.updates=null", "give either epochs or updates"),
        ("task=detection", "the task of a recipe cannot be changed"),
        ("model.pretrained=true", None),
    ],
)
def test_changes(change, message):
    if message is None:
        assert tiny_recipe(change).model.pretrained is True
        return
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as caught:
        tiny_recipe(change)
    assert "\n" not in str(caught.value)


def test_numbers_without_a_point_are_numbers():
    assert tiny_recipe("optimizer.lr=1e-3").optimizer.lr == 1e-3
    assert tiny_recipe("optimizer.options={betas: [0.9, 0.95]}").optimizer.options == {"betas": [0.9, 0.95]}


def test_one_length_replaces_the_other():
    recipe = tiny_recipe("schedule.epochs=3")
    assert (recipe.schedule.epochs, recipe.schedule.updates) == (3, None)
    assert tiny_recipe("schedule.epochs=3", "schedule.updates=5").schedule.epochs is None


def test_a_shorter_run_has_a_shorter_warm_up():
    assert read_recipe("digits", epochs=2).schedule.warmup_epochs == 1
    assert read_recipe("digits", epochs=50).schedule.warmup_epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "should hold sections"),
        ("model: {name: mixer_s16}\nmodel: {name: mixer_b16}\n", "'model' stands twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: [", "not readable as YAML"),
        ("model: !!python/object/apply:os.system ['true']", "not readable as YAML"),
        ("schedule: {epochs: 1}", "the key 'model' is missing"),
        ("task: segmentatoin", 'unknown task "segmentatoin": classification, detection, restoration'),
        ("task: [1]", "unknown task"),
        ("#" * (1 << 21), "longer than"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_unknown_recipes(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'digits'\?.*linear_probe"):
        read_recipe("digts")
    with pytest.raises(ValueError, match="No such file"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", shipped_recipes())
def test_dumping_keeps_everything(name):
    recipe = read_recipe(name)
    assert recipe_from(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_differences_name_what_matters():
    changed = tiny_recipe("optimizer.lr=1", "data.workers=3", "run.log_every=7", "about.source=x")
    assert differences(tiny_recipe(), changed) == ["optimizer.lr"]


@pytest.mark.parametrize("task", TASKS.values())
def test_every_key_has_a_description(task):
    for name, section in task.recipe_type.model_fields.items():
        if name == "task":
            continue
        fields = section.annotation.model_fields
        assert all(field.description for field in fields.values()), section


@given(st.sampled_from(keys(ClassificationRecipe)), st.text(alphabet="abc=.[]{}:-!&*'\"1e5 \n", max_size=12))
def test_any_value_is_taken_or_refused_in_words(key, text):
    try:
        assert isinstance(recipe_from(RECIPE, [f"{key}={text}"]), Recipe)
    except ValueError as error:
        assert str(error)
