"""Released formats of MLP-Mixer."""

import re
from collections.abc import Sequence

from torch import Tensor

from mlpzoo.models._keymap import KeyMap, Rule, conv_kernel, dense_kernel, flat, same, writer

BLOCK = r"MixerBlock_(\d+)"
OLD_BLOCK = r"Mixer/encoderblock_(\d+)"


def old_dense_kernel(kernel: Tensor) -> Tensor:
    """The older files' `(in, out)` among axes of length one, to PyTorch's `(out, in)`."""
    return kernel.reshape([side for side in kernel.shape if side > 1]).T


def number_by_kind(names: Sequence[str]) -> list[str]:
    """Count modules as flax does today, each class from 0: the older flax counted all of a block together."""
    kinds: dict[tuple[str, str], set[int]] = {}
    found = [re.fullmatch(rf"({OLD_BLOCK}/)([A-Za-z]\w*)_(\d{{1,4}})(/.*)", name) for name in names]
    for match in found:
        if match:
            kinds.setdefault((match[1], match[3]), set()).add(int(match[4]))

    def renumbered(match: re.Match[str]) -> str:
        number = sorted(kinds[match[1], match[3]]).index(int(match[4]))
        return f"{match[1]}{match[3]}_{number}{match[5]}"

    return [renumbered(match) if match else name for name, match in zip(names, found, strict=True)]


FORMATS = (
    KeyMap(
        "the authors' flax .npz",
        (
            Rule(r"stem/kernel", r"stem.proj.weight", conv_kernel),
            Rule(r"stem/bias", r"stem.proj.bias"),
            Rule(rf"{BLOCK}/LayerNorm_0/scale", r"blocks.\1.norm1.weight"),
            Rule(rf"{BLOCK}/LayerNorm_0/bias", r"blocks.\1.norm1.bias"),
            Rule(rf"{BLOCK}/LayerNorm_1/scale", r"blocks.\1.norm2.weight"),
            Rule(rf"{BLOCK}/LayerNorm_1/bias", r"blocks.\1.norm2.bias"),
            Rule(rf"{BLOCK}/(token|channel)_mixing/Dense_0/kernel", r"blocks.\1.mlp_\2s.fc1.weight", dense_kernel),
            Rule(rf"{BLOCK}/(token|channel)_mixing/Dense_0/bias", r"blocks.\1.mlp_\2s.fc1.bias"),
            Rule(rf"{BLOCK}/(token|channel)_mixing/Dense_1/kernel", r"blocks.\1.mlp_\2s.fc2.weight", dense_kernel),
            Rule(rf"{BLOCK}/(token|channel)_mixing/Dense_1/bias", r"blocks.\1.mlp_\2s.fc2.bias"),
            Rule(r"pre_head_layer_norm/scale", r"norm.weight"),
            Rule(r"pre_head_layer_norm/bias", r"norm.bias"),
            Rule(r"head/kernel", r"head.weight", dense_kernel),
            Rule(r"head/bias", r"head.bias"),
        ),
    ),
    # What big_vision's `models/mlp_mixer.py` still reads (0127fb6).
    KeyMap(
        "the authors' flax .npz in its older naming",
        (
            Rule(r"embedding/kernel", r"stem.proj.weight", conv_kernel),
            Rule(r"embedding/bias", r"stem.proj.bias"),
            Rule(rf"{OLD_BLOCK}/LayerNorm_0/scale", r"blocks.\1.norm1.weight", flat),
            Rule(rf"{OLD_BLOCK}/LayerNorm_0/bias", r"blocks.\1.norm1.bias", flat),
            Rule(rf"{OLD_BLOCK}/LayerNorm_1/scale", r"blocks.\1.norm2.weight", flat),
            Rule(rf"{OLD_BLOCK}/LayerNorm_1/bias", r"blocks.\1.norm2.bias", flat),
            Rule(
                rf"{OLD_BLOCK}/(token|channel)_mixing_phase_0/kernel([12])",
                r"blocks.\1.mlp_\2s.fc\3.weight",
                old_dense_kernel,
            ),
            Rule(rf"{OLD_BLOCK}/(token|channel)_mixing_phase_0/bias([12])", r"blocks.\1.mlp_\2s.fc\3.bias", flat),
            Rule(r"Mixer/encoder_norm/scale", r"norm.weight", flat),
            Rule(r"Mixer/encoder_norm/bias", r"norm.bias", flat),
            Rule(r"head/kernel", r"head.weight", dense_kernel),
            Rule(r"head/bias", r"head.bias"),
        ),
        rename=number_by_kind,
    ),
)
# timm keeps its Mixers under the names used here.
TO_TIMM = writer(
    "timm's layout",
    same(
        "stem.proj.*",
        "blocks.*.norm1.*",
        "blocks.*.norm2.*",
        "blocks.*.*.fc1.*",
        "blocks.*.*.fc2.*",
        "norm.*",
        "head.*",
    ),
)
