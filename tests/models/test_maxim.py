"""MAXIM's variants, its checkpoints and its names. That its numbers are the authors' is shown in tests/conformance."""

import dataclasses

import numpy as np
import pytest
import torch
from families.maxim import TINY, as_released, authors_names, tiny

from mlpzoo.models import maxim_files
from mlpzoo.models.maxim import FAMILY, MAXIM, MaximConfig
from mlpzoo.restoration import create_restorer, list_restorers
from mlpzoo.weights import CheckpointError, load_checkpoint

THREE_STAGES = {**TINY, "depth": 3, "num_stages": 3, "num_groups": 2, "high_res_stages": 1, "num_supervision_scales": 2}

# Counts in the authors' table of variants, in `Model()`, which are for one supervision scale.
AUTHORS_COUNTS = {
    "maxim_s1": 6_108_515,
    "maxim_s2": 13_353_830,
    "maxim_s3": 20_599_145,
    "maxim_m1": 19_361_219,
    "maxim_m2": 40_839_110,
    "maxim_m3": 62_317_001,
}


def count(config):
    return sum(parameter.numel() for parameter in MAXIM(config, device="meta").parameters())


def test_names():
    assert list_restorers() == list(AUTHORS_COUNTS)


@pytest.mark.parametrize("name", AUTHORS_COUNTS)
def test_parameters_of_every_variant(name):
    assert count(dataclasses.replace(FAMILY.variants[name], num_supervision_scales=1)) == AUTHORS_COUNTS[name]


def test_parameters_with_the_released_three_scales():
    # The README of the authors says 14.1 and 22.2 million.
    assert count(FAMILY.variants["maxim_s2"]) == 14_176_178
    assert round(count(FAMILY.variants["maxim_s3"]) / 1e6, 1) == 22.2


@pytest.mark.parametrize(
    "config",
    [*FAMILY.variants.values(), MaximConfig(**THREE_STAGES), MaximConfig(**TINY, num_supervision_scales=1)],
    ids=[*FAMILY.variants, "three-stages", "tiny"],
)
def test_the_authors_names_are_ours_one_for_one(config):
    plan, unknown = maxim_files.FORMATS[0].plan(authors_names(config))
    assert not unknown
    assert all(len(sources) == 1 for sources in plan.values())
    assert set(plan) == set(MAXIM(config, device="meta").state_dict())


def test_values_arrive_in_their_places(tmp_path):
    model = tiny(num_stages=2)
    released = as_released(model)
    np.savez(tmp_path / "checkpoint.npz", **{f"opt/target/{name}": value for name, value in released.items()})
    assert load_checkpoint(model, tmp_path / "checkpoint.npz").format == "the authors' flax .npz"
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    kernel = released["stage_1_decoder_block_1/ConvTranspose_0/kernel"]
    for y in range(2):
        for x in range(2):
            assert np.array_equal(state["stages.1.ups.1.weight"][:, :, y, x], kernel[1 - y, 1 - x])
    name = "stage_0_encoder_block_1/SplitHeadMultiAxisGmlpLayer_0/GridGmlpLayer/GridGatingUnit/Dense_0/kernel"
    assert np.array_equal(state["stages.0.encoders.1.mixings.0.grid.gate.weight"], released[name].T)
    # Depth 2, 8 resamplings a stage: 4 into the skips, of which the third is to level 0 from level 0, then 4 into the
    # decoders, of which the first is to level 1 from level 1.
    for number, ours in (
        (2, "stages.0.to_skips.0.resamplings.0"),
        (3, "stages.0.to_skips.0.resamplings.1"),
        (4, "stages.0.to_decoders.1.resamplings.1"),
        (13, "stages.1.to_decoders.1.resamplings.0"),
    ):
        kernel = released[f"UpSampleRatio_{number}/Conv_0/kernel"]
        assert np.array_equal(state[f"{ours}.proj.weight"], kernel[0, 0].T)


def test_files_that_do_not_fit_change_nothing(tmp_path):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    released = as_released(model)
    some = "stage_0_input_conv_0/kernel"

    def assert_refused(tensors, message):
        np.savez(tmp_path / "file.npz", **tensors)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(model, tmp_path / "file.npz")
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    assert_refused({name: value for name, value in released.items() if name != some}, "no value for 1 parameters")
    assert_refused({**released, "stage_0_extra/kernel": released[some]}, "1 of .* names are unknown .stage_0_extra")
    assert_refused({**released, some: released[some][:2]}, "input_convs.0.weight is .* Is it of another variant")
    assert_refused({**released, some: np.zeros(3, np.float32)}, "unusable shapes")
    assert_refused(as_released(tiny(num_stages=2)), "the model does not have")
    assert_refused({"head/kernel": np.zeros((3, 3))}, "no MAXIM checkpoint")
    own = {name: value.numpy() for name, value in before.items()}
    assert_refused({**own, "head.weight": np.zeros((3, 3))}, "1 the model does not have .head.weight")
    assert_refused({name: value for name, value in own.items() if "input_convs.0" not in name}, "no value for 2 param")
    other = create_restorer("maxim_s1", **TINY, num_supervision_scales=2, in_chans=1).state_dict()
    assert_refused({name: value.numpy() for name, value in other.items()}, r"is 4×1×3×3 in the file and 4×3×3×3")
    (tmp_path / "file.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="neither a NumPy archive"):
        load_checkpoint(model, tmp_path / "file.npz")


def test_outputs_are_every_stages_and_scales_smallest_first():
    model = tiny(num_stages=3).eval()
    assert model.size_multiple == 8
    with torch.no_grad():
        outputs = model(torch.rand(2, 3, 16, 24))
    assert [[tuple(image.shape) for image in stage] for stage in outputs] == [[(2, 3, 8, 12), (2, 3, 16, 24)]] * 3


def test_the_images_of_a_batch_do_not_touch():
    model = tiny(num_stages=2, dtype=torch.float64).eval()
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        together = model(images)[-1][-1]
        alone = model(images[1:2])[-1][-1]
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize(
    ("options", "multiple"),
    [
        ({}, 64),
        ({"num_bottleneck_blocks": 0}, 32),
        ({"depth": 2, "num_supervision_scales": 2}, 32),
        ({"block_size_hr": 8, "grid_size_hr": 12}, 192),
        ({"high_res_stages": 3}, 64),
    ],
)
def test_what_divides_an_image(options, multiple):
    small = {"embed_dim": 4, "num_groups": 1}
    model = create_restorer("maxim_s1", **small, **options).eval()
    assert model.size_multiple == multiple
    with torch.no_grad():
        assert model(torch.rand(1, 3, multiple, multiple))[-1][-1].shape == (1, 3, multiple, multiple)
    for shape in ((1, 3, multiple, multiple // 2), (1, 3, 0, multiple), (1, 4, multiple, multiple), (3, 64, 64)):
        with pytest.raises(ValueError, match=r"restore pads and crops|expected images \(batch, 3"):
            model(torch.rand(shape))


def test_every_parameter_learns():
    model = tiny(num_stages=2)
    sum(image.square().mean() for stage in model(torch.rand(1, 3, 16, 16)) for image in stage).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_drawing_anew():
    torch.manual_seed(3)
    model = tiny(num_stages=2)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(9.0)
    model.reset_parameters()
    for name, value in model.named_parameters():
        assert not (value == 9).any()
        if value.numel() > 500:
            assert float(value.detach().std()) == pytest.approx(float(before[name].std()), rel=0.2)


def test_devices_and_dtypes():
    model = tiny()
    assert next(create_restorer("maxim_m3", device="meta").parameters()).is_meta
    assert {parameter.dtype for parameter in tiny(dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    assert model(torch.rand(1, 3, 16, 16))[0][0].dtype == torch.float32
