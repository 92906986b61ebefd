"""MAXIM's variants, its checkpoints and its names. That its numbers are the authors' is shown in tests/conformance."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mlpzoo.models import maxim_files
from mlpzoo.restoration import (
    MAXIM,
    RELEASES,
    TASKS,
    MaximConfig,
    _create,
    create_restorer,
    list_restorers,
    load_checkpoint,
    save_restorer,
)
from mlpzoo.restoration.maxim import VARIANTS
from mlpzoo.weights import CheckpointError

TINY = {"embed_dim": 4, "depth": 2, "num_groups": 1, "block_size_hr": 2, "grid_size_hr": 4, "block_size_lr": 2}
THREE_STAGES = {**TINY, "depth": 3, "num_stages": 3, "num_groups": 2, "high_res_stages": 1, "num_supervision_scales": 2}


def tiny(**options):
    options = {"num_supervision_scales": 2, **TINY, **options}
    return create_restorer("maxim_s1", **options)


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
    assert count(dataclasses.replace(VARIANTS[name], num_supervision_scales=1)) == AUTHORS_COUNTS[name]


def test_parameters_with_the_released_three_scales():
    # The README of the authors says 14.1 and 22.2 million.
    assert count(VARIANTS["maxim_s2"]) == 14_176_178
    assert round(count(VARIANTS["maxim_s3"]) / 1e6, 1) == 22.2


def authors_names(config):
    """Every name of the authors' flax parameters, by the rules of their code."""

    def dense(name, norm=False):
        return [f"{name}/scale" if norm else f"{name}/kernel", f"{name}/bias"]

    def gating(name, upsample):
        names = dense(f"{name}/ConvTranspose_0") if upsample else []
        names += dense(f"{name}/Conv_0") + dense(f"{name}/Conv_1")
        for side in "xy":
            names += dense(f"{name}/LayerNorm_{side}", True)
            names += dense(f"{name}/in_project_{side}") + dense(f"{name}/out_project_{side}")
            inside = f"{name}/SplitHeadMultiAxisGating_{side}"
            names += dense(f"{inside}/LayerNorm_in", True)
            for layer in ("in_project", "Dense_0", "Dense_1", "out_project"):
                names += dense(f"{inside}/{layer}")
        return names

    def groups(name, attention, middle):
        names = []
        for i in range(config.num_groups):
            inside = f"{name}/SplitHeadMultiAxisGmlpLayer_{i}"
            names += dense(f"{inside}/LayerNorm_in", True)
            names += dense(f"{inside}/in_project") + dense(f"{inside}/out_project")
            for axis in ("Grid", "Block"):
                gmlp = f"{inside}/{axis}GmlpLayer"
                names += dense(f"{gmlp}/LayerNorm", True) + dense(f"{gmlp}/in_project") + dense(f"{gmlp}/out_project")
                names += dense(f"{gmlp}/{axis}GatingUnit/intermediate_layernorm", True)
                names += dense(f"{gmlp}/{axis}GatingUnit/Dense_0")
            inside = f"{name}/{attention}{i}"
            names += dense(f"{inside}/LayerNorm", True)
            for layer in (*middle, "channel_attention/Conv_0", "channel_attention/Conv_1"):
                names += dense(f"{inside}/{layer}")
        return names

    convolutions, mlp = ("conv1", "conv2"), ("channel_mixing/Dense_0", "channel_mixing/Dense_1")
    names = []
    for s in range(config.num_stages):
        last = s == config.num_stages - 1
        for i in range(config.num_supervision_scales):
            names += dense(f"stage_{s}_input_conv_{i}")
            names += gating(f"stage_{s}_input_fuse_sam_{i}", False) if s else []
            for layer in () if last else range(3):
                names += dense(f"stage_{s}_supervised_attention_module_{i}/Conv_{layer}")
            names += dense(f"stage_{s}_output_conv_{i}") if last else []
        for i in range(config.depth):
            encoder = f"stage_{s}_encoder_block_{i}"
            names += dense(f"{encoder}/Conv_0") + dense(f"{encoder}/Conv_1")
            names += groups(encoder, "channel_attention_block_1", convolutions)
            names += gating(f"{encoder}/cross_gating_block", False) if s else []
            names += gating(f"stage_{s}_cross_gating_block_{i}", True)
            decoder = f"stage_{s}_decoder_block_{i}"
            names += dense(f"{decoder}/ConvTranspose_0") + dense(f"{decoder}/UNetEncoderBlock_0/Conv_0")
            names += groups(f"{decoder}/UNetEncoderBlock_0", "channel_attention_block_1", convolutions)
        for i in range(config.num_bottleneck_blocks):
            names += dense(f"stage_{s}_global_block_{i}/input_proj")
            names += groups(f"stage_{s}_global_block_{i}", "channel_attention_block_1_", mlp)
    for i in range(config.num_stages * 2 * config.depth**2):
        names += dense(f"UpSampleRatio_{i}/Conv_0")
    return names


@pytest.mark.parametrize(
    "config",
    [*VARIANTS.values(), MaximConfig(**THREE_STAGES), MaximConfig(**TINY, num_supervision_scales=1)],
    ids=[*VARIANTS, "three-stages", "tiny"],
)
def test_the_authors_names_are_ours_one_for_one(config):
    plan, unknown = maxim_files.FORMATS[0].plan(authors_names(config))
    assert not unknown
    assert all(len(sources) == 1 for sources in plan.values())
    assert set(plan) == set(MAXIM(config, device="meta").state_dict())


def as_released(model, seed=0):
    """A checkpoint in the authors' layout with random values that fits the model."""
    generator = np.random.default_rng(seed)
    plan, _ = maxim_files.FORMATS[0].plan(authors_names(model.config))
    state = model.state_dict()
    wanted = {sources[0].name: tuple(state[ours].shape) for ours, sources in plan.items()}

    def authors_shape(name, shape):
        if len(shape) == 1:
            return shape
        if len(shape) == 4:
            return (*shape[2:], *(shape[:2] if "ConvTranspose" in name else shape[1::-1]))
        pointwise = "Conv_" in name or name.endswith("input_proj/kernel")
        return (1, 1, *shape[::-1]) if pointwise else shape[::-1]

    return {
        name: generator.standard_normal(authors_shape(name, shape)).astype(np.float32) for name, shape in wanted.items()
    }


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
    with pytest.raises(TypeError, match="needs a MAXIM, got Linear"):
        load_checkpoint(torch.nn.Linear(1, 1), tmp_path / "file.npz")


def test_our_own_folders(tmp_path):
    model = tiny(num_stages=2)
    save_restorer(model, tmp_path / "run", architecture="maxim_s2", about={"note": "tiny"})
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "model.safetensors"}
    again = create_restorer(f"local-dir:{tmp_path / 'run'}")
    assert again.config == model.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    into = tiny(num_stages=2)
    assert load_checkpoint(into, tmp_path / "run" / "model.safetensors").format == "our own layout"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for wrong, message in (
        ({"architecture": "mixer_b16"}, "no restoration network"),
        ({"model_args": ["x"]}, "no table of options"),
    ):
        (tmp_path / "run" / "config.json").write_text(json.dumps({**config, **wrong}))
        with pytest.raises(CheckpointError, match=message):
            create_restorer(f"local-dir:{tmp_path / 'run'}")


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


def test_tasks():
    assert TASKS == ("denoising", "deblurring", "deraining", "dehazing", "enhancement")
    assert len({release.url for release in RELEASES}) == len(RELEASES) == 11
    for release in RELEASES:
        assert release.url.startswith("https://storage.googleapis.com/gresearch/maxim/ckpt/")
        assert release.model == ("maxim_s3" if release.task in ("denoising", "deblurring") else "maxim_s2")
        assert all(20 < score.psnr < 41 and 0.8 < score.ssim < 1 for score in release.scores)
    model = create_restorer(task="dehazing", device="meta")
    assert model.config == VARIANTS["maxim_s2"]
    assert create_restorer("maxim_s3", task="denoising", dataset="sidd", device="meta").config == VARIANTS["maxim_s3"]


def test_pretrained_asks_for_the_tasks_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(_create, "fetch", lambda url: asked.append(url) or tmp_path / "file.npz")
    model = create_restorer(task="deblurring", **TINY, num_supervision_scales=2)
    released = as_released(model)
    np.savez(tmp_path / "file.npz", **{f"opt/target/{name}": value for name, value in released.items()})
    options = {**TINY, "num_supervision_scales": 2}
    loaded = create_restorer(task="deblurring", dataset="reds", pretrained=True, **options)
    assert asked == ["https://storage.googleapis.com/gresearch/maxim/ckpt/Deblurring/REDS/checkpoint.npz"]
    bias = loaded.state_dict()["stages.0.input_convs.0.bias"].numpy()
    assert np.array_equal(bias, released["stage_0_input_conv_0/bias"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "give a name .maxim_s1, .* or a task"),
        (("maxim_s4",), {}, "unknown restoration network 'maxim_s4'. The nearest: maxim_s"),
        ((), {"task": "upscaling"}, "unknown task 'upscaling': there is denoising, deblurring"),
        ((), {"task": "denoising", "dataset": "gopro"}, "no checkpoint for denoising .* there is sidd"),
        (("maxim_s2",), {"task": "denoising"}, "is a maxim_s3, not a maxim_s2"),
        (("maxim_s3",), {"pretrained": True}, "pretrained=True needs a task"),
        (("maxim_s3",), {"dataset": "sidd"}, "dataset needs a task"),
        ((), {"task": "denoising", "pretrained": True, "checkpoint_path": "x"}, "either pretrained=True or"),
        (("maxim_s1",), {"depth": 0}, "depth must be an integer of 1 or more, got 0"),
        (("maxim_s1",), {"embed_dim": 1.5}, "embed_dim must be an integer of 1 or more, got 1.5"),
        (("maxim_s1",), {"num_supervision_scales": 4}, "at most depth, got 4 of 3"),
    ],
)
def test_mistakes(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        create_restorer(*arguments, **options)


def test_unknown_options():
    with pytest.raises(TypeError, match="unknown options features. The known ones: embed_dim, depth"):
        create_restorer("maxim_s1", features=32)
