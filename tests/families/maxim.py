"""MAXIM for the tests: a small one, and files of it as its authors would release them."""

import numpy as np
from cases import Case

from families import FamilyCase
from mlpzoo.models import maxim_files
from mlpzoo.restoration import create_restorer

CASE = FamilyCase(
    family="maxim",
    conformance=(Case("MAXIM-S-1", "maxim_s1"), Case("MAXIM-S-2", "maxim_s2", slow=True)),
    task="restoration",
)
TINY = {"embed_dim": 4, "depth": 2, "num_groups": 1, "block_size_hr": 2, "grid_size_hr": 4, "block_size_lr": 2}


def tiny(**options):
    options = {"num_supervision_scales": 2, **TINY, **options}
    return create_restorer("maxim_s1", **options)


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
