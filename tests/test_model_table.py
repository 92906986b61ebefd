import dataclasses

import pytest

import mlpzoo
from mlpzoo import registry
from mlpzoo._model_table import PATH, ModelSize, digest, read_table, table_text
from mlpzoo._names import family_of
from mlpzoo.models import FAMILIES
from mlpzoo.registry import measure_size, size_digest

# Without its cache: what these tests change must not be remembered.
describe = mlpzoo.model_info.__wrapped__
SMALLEST = list(
    {family_of(name).name: name for (name, _), _ in sorted(read_table().items(), key=lambda row: -row[1].macs)}.values()
)


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def measured(name):
        raise AssertionError(f"{name} was measured")

    monkeypatch.setattr(registry, "measure_size", measured)


def test_the_table_holds_every_model_as_it_is():
    assert set(read_table()) == {(name, size_digest(name)) for name in mlpzoo.list_models()}, "run `make table`"
    assert table_text(read_table()) == PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SMALLEST, key=lambda name: mlpzoo.model_info(name).gmacs)[:8])
def test_the_smallest_networks_are_measured_again(name):
    assert measure_size(name) == read_table()[name, size_digest(name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", mlpzoo.list_models())
def test_each_model_is_measured_again(name):
    assert measure_size(name) == read_table()[name, size_digest(name)]


def test_no_model_is_built_to_describe_it(nothing_is_measured):
    assert all(describe(name).parameters > 0 for name in mlpzoo.list_models())
    # Weights of the same network.
    assert describe("mixer_b16.goog_in1k").parameters == describe("mixer_b16").parameters


def test_weights_with_another_head_are_measured():
    assert describe("mixer_s32").parameters < describe("mixer_b16").parameters
    classes = 21843 - 1000
    assert describe("mixer_b16.goog_in21k").parameters == describe("mixer_b16").parameters + classes * (768 + 1)


def test_a_changed_config_is_measured(monkeypatch):
    variants = FAMILIES["mixer"].variants
    before = describe("mixer_s32")
    monkeypatch.setitem(variants, "mixer_s32", dataclasses.replace(variants["mixer_s32"], depth=1))
    after = describe("mixer_s32")
    assert after.parameters < before.parameters / 4
    assert after.gmacs < before.gmacs / 4


def test_a_model_that_is_not_in_the_table_is_measured(monkeypatch):
    expected = describe("mixer_s32")
    monkeypatch.setattr(registry, "read_table", dict)
    assert describe("mixer_s32") == expected


def test_a_digest_is_of_every_value_and_the_same_in_every_process():
    config = FAMILIES["mixer"].variants["mixer_s32"]
    assert digest(config, 1) != digest(config, 2)
    assert digest(config) != digest(dataclasses.replace(config, norm_eps=1e-5))
    assert digest("mixer", (3, 224, 224), 1000) == "0d5400ea4602cb44"


def test_rows_are_sorted_by_name():
    sizes = {("b", "2"): ModelSize(3, 4), ("a", "1"): ModelSize(1, 2)}
    assert table_text(sizes) == "name,digest,parameters,macs\na,1,1,2\nb,2,3,4\n"
