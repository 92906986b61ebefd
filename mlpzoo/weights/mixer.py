"""Released formats of MLP-Mixer."""

from mlpzoo.weights._keymap import KeyMap, Rule, conv_kernel, dense_kernel

BLOCK = r"MixerBlock_(\d+)"

KEY_MAPS = (
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
)
