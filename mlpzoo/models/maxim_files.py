"""The released files of MAXIM and their format."""

import re
from collections.abc import Sequence

from torch import Tensor

from mlpzoo.models._family import Weights
from mlpzoo.models._keymap import KeyMap, Layout, Rule, as_is, conv_kernel, dense_kernel


def pointwise_kernel(kernel: Tensor) -> Tensor:
    """flax's 1×1 convolution `(1, 1, in, out)` to a linear layer's `(out, in)`."""
    return kernel.flatten(0, -2).T


def upsampling_kernel(kernel: Tensor) -> Tensor:
    """flax's transposed convolution `(height, width, in, out)` to PyTorch's `(in, out, height, width)`.

    flax slides the kernel over the input spread out, as it is; PyTorch stamps it, which mirrors it.
    """
    return kernel.flip(0, 1).permute(2, 3, 0, 1)


def number_resamplings(names: Sequence[str]) -> list[str]:
    """Say where each resampling leads: `UpSampleRatio_5/` becomes `stage_0_to_skips_1_2/`, to level 1 from level 2.

    flax counts the resamplings through the network in the order they run: in every stage those into the skips, then
    those into the decoders; both from the lowest level to the top, the former reading from the top down, the latter
    from the lowest level up.
    """
    depth = 1 + max(
        (int(i) for name in names for i in re.findall(r"^stage_0_encoder_block_(\d{1,2})/", name)), default=0
    )

    def numbered(match: re.Match[str]) -> str:
        stage, rest = divmod(int(match[1]), 2 * depth**2)
        half, rest = divmod(rest, depth**2)
        to, nth = divmod(rest, depth)
        source = depth - 1 - nth if half else nth
        return f"stage_{stage}_to_{('skips', 'decoders')[half]}_{depth - 1 - to}_{source}/"

    return [re.sub(r"^UpSampleRatio_(\d{1,6})/", numbered, name) for name in names]


def _layer(name: str, target: str, kernel: Layout) -> list[Rule]:
    """The kernel and the bias of a dense layer or a convolution."""
    return [Rule(f"{name}/kernel", f"{target}.weight", kernel), Rule(f"{name}/bias", f"{target}.bias", as_is)]


def _norm(name: str, target: str) -> list[Rule]:
    """The scale and the bias of a norm."""
    return [Rule(f"{name}/scale", f"{target}.weight"), Rule(f"{name}/bias", f"{target}.bias")]


def _cross_gating(name: str, target: str) -> list[Rule]:
    """A cross gating; `name` has two groups, so those here count from three."""
    gate = rf"{name}/SplitHeadMultiAxisGating_([xy])"
    return [
        *_layer(rf"{name}/ConvTranspose_0", rf"{target}.upsample_y", upsampling_kernel),
        *_layer(rf"{name}/Conv_0", rf"{target}.in_x", pointwise_kernel),
        *_layer(rf"{name}/Conv_1", rf"{target}.in_y", pointwise_kernel),
        *_norm(rf"{name}/LayerNorm_([xy])", rf"{target}.norm_\3"),
        *_layer(rf"{name}/in_project_([xy])", rf"{target}.fc_\3", dense_kernel),
        *_layer(rf"{name}/out_project_([xy])", rf"{target}.out_\3", dense_kernel),
        *_norm(rf"{gate}/LayerNorm_in", rf"{target}.gate_\3.norm"),
        *_layer(rf"{gate}/in_project", rf"{target}.gate_\3.fc1", dense_kernel),
        *_layer(rf"{gate}/Dense_0", rf"{target}.gate_\3.grid", dense_kernel),
        *_layer(rf"{gate}/Dense_1", rf"{target}.gate_\3.block", dense_kernel),
        *_layer(rf"{gate}/out_project", rf"{target}.gate_\3.fc2", dense_kernel),
    ]


def _groups(name: str, target: str, attention: str) -> list[Rule]:
    """Multi-axis MLPs and channel attentions; `name` has two groups, `attention` stands before the group's number."""
    mixing, mixed = rf"{name}/SplitHeadMultiAxisGmlpLayer_(\d+)", rf"{target}.mixings.\3"
    attn, attended = rf"{name}/{attention}(\d+)", rf"{target}.attns.\3"
    rules = [
        *_norm(rf"{mixing}/LayerNorm_in", rf"{mixed}.norm"),
        *_layer(rf"{mixing}/in_project", rf"{mixed}.fc1", dense_kernel),
        *_layer(rf"{mixing}/out_project", rf"{mixed}.fc2", dense_kernel),
        *_norm(rf"{attn}/LayerNorm", rf"{attended}.norm"),
        *_layer(rf"{attn}/conv([12])", rf"{attended}.conv\4", conv_kernel),
        *_layer(rf"{attn}/channel_mixing/Dense_0", rf"{attended}.mlp.fc1", dense_kernel),
        *_layer(rf"{attn}/channel_mixing/Dense_1", rf"{attended}.mlp.fc2", dense_kernel),
        *_layer(rf"{attn}/channel_attention/Conv_0", rf"{attended}.attn.fc1", pointwise_kernel),
        *_layer(rf"{attn}/channel_attention/Conv_1", rf"{attended}.attn.fc2", pointwise_kernel),
    ]
    for axis, kind in (("Grid", "grid"), ("Block", "block")):
        gmlp, ours = rf"{mixing}/{axis}GmlpLayer", rf"{mixed}.{kind}"
        rules += [
            *_norm(rf"{gmlp}/LayerNorm", rf"{ours}.norm"),
            *_layer(rf"{gmlp}/in_project", rf"{ours}.fc1", dense_kernel),
            *_norm(rf"{gmlp}/{axis}GatingUnit/intermediate_layernorm", rf"{ours}.gate_norm"),
            *_layer(rf"{gmlp}/{axis}GatingUnit/Dense_0", rf"{ours}.gate", dense_kernel),
            *_layer(rf"{gmlp}/out_project", rf"{ours}.fc2", dense_kernel),
        ]
    return rules


STAGE = r"stage_(\d+)"
ENCODER, BOTTLENECK = rf"{STAGE}_encoder_block_(\d+)", rf"{STAGE}_global_block_(\d+)"
DECODER = rf"{STAGE}_decoder_block_(\d+)"
INSIDE = rf"{DECODER}/UNetEncoderBlock_0"
ATTENTION = rf"{STAGE}_supervised_attention_module_(\d+)"

FORMATS = (
    KeyMap(
        "the authors' flax .npz",
        (
            *_layer(rf"{STAGE}_input_conv_(\d+)", r"stages.\1.input_convs.\2", conv_kernel),
            *_cross_gating(rf"{STAGE}_input_fuse_sam_(\d+)", r"stages.\1.input_fusions.\2"),
            *_layer(rf"{ENCODER}/Conv_0", r"stages.\1.encoders.\2.proj", pointwise_kernel),
            *_groups(ENCODER, r"stages.\1.encoders.\2", "channel_attention_block_1"),
            *_cross_gating(rf"{ENCODER}/cross_gating_block", r"stages.\1.encoders.\2.cross_gating"),
            *_layer(rf"{ENCODER}/Conv_1", r"stages.\1.downs.\2", conv_kernel),
            *_layer(rf"{BOTTLENECK}/input_proj", r"stages.\1.bottleneck.\2.proj", pointwise_kernel),
            *_groups(BOTTLENECK, r"stages.\1.bottleneck.\2", "channel_attention_block_1_"),
            *_layer(
                rf"{STAGE}_to_(skips|decoders)_(\d+)_(\d+)/Conv_0",
                r"stages.\1.to_\2.\3.resamplings.\4.proj",
                pointwise_kernel,
            ),
            *_cross_gating(rf"{STAGE}_cross_gating_block_(\d+)", r"stages.\1.skips.\2"),
            *_layer(rf"{DECODER}/ConvTranspose_0", r"stages.\1.ups.\2", upsampling_kernel),
            *_layer(rf"{INSIDE}/Conv_0", r"stages.\1.decoders.\2.proj", pointwise_kernel),
            *_groups(INSIDE, r"stages.\1.decoders.\2", "channel_attention_block_1"),
            *_layer(rf"{ATTENTION}/Conv_0", r"stages.\1.outputs.\2.conv", conv_kernel),
            *_layer(rf"{ATTENTION}/Conv_1", r"stages.\1.outputs.\2.to_image", conv_kernel),
            *_layer(rf"{ATTENTION}/Conv_2", r"stages.\1.outputs.\2.to_mask", conv_kernel),
            *_layer(rf"{STAGE}_output_conv_(\d+)", r"stages.\1.outputs.\2", conv_kernel),
        ),
        rename=number_resamplings,
    ),
)

BUCKET = "https://storage.googleapis.com/gresearch/maxim/ckpt"
README = "the authors, README of google-research/maxim at 3c82651"


def _weights(path: str, **scores: tuple[float, float]) -> Weights:
    """A released file and its published PSNR and SSIM, by test set."""
    return Weights(
        url=f"{BUCKET}/{path}/checkpoint.npz",
        # The repository's; no other is named for the files.
        license="Apache-2.0",
        scores={name.replace("_", "-"): {"psnr": psnr, "ssim": ssim} for name, (psnr, ssim) in scores.items()},
        scores_source=README,
    )


# A tag is what the file undoes and, after the first underscore, what it was trained on. All have three supervision
# scales. A task's first file is its default.
WEIGHTS = {
    "maxim_s3.denoising_sidd": _weights("Denoising/SIDD", SIDD=(39.96, 0.960), DND=(39.84, 0.954)),
    "maxim_s3.deblurring_gopro": _weights("Deblurring/GoPro", GoPro=(32.86, 0.961), HIDE=(32.83, 0.956)),
    "maxim_s3.deblurring_reds": _weights("Deblurring/REDS", REDS=(28.93, 0.865)),
    "maxim_s3.deblurring_realblur_r": _weights("Deblurring/RealBlur_R", RealBlur_R=(39.45, 0.962)),
    "maxim_s3.deblurring_realblur_j": _weights("Deblurring/RealBlur_J", RealBlur_J=(32.84, 0.935)),
    "maxim_s2.deraining_rain13k": _weights("Deraining/Rain13k", Rain13k=(33.24, 0.933)),
    "maxim_s2.deraining_raindrop": _weights("Deraining/Raindrop", Raindrop=(31.87, 0.935)),
    "maxim_s2.dehazing_sots_indoor": _weights("Dehazing/SOTS-Indoor", RESIDE_Indoor=(38.11, 0.991)),
    "maxim_s2.dehazing_sots_outdoor": _weights("Dehazing/SOTS-Outdoor", RESIDE_Outdoor=(34.19, 0.985)),
    "maxim_s2.enhancement_lol": _weights("Enhancement/LOL", LOL=(23.43, 0.863)),
    "maxim_s2.enhancement_fivek": _weights("Enhancement/FiveK", FiveK=(26.15, 0.945)),
}
