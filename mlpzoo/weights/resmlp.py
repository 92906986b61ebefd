"""Released formats of ResMLP."""

from mlpzoo.weights._keymap import KeyMap, Rule

KEY_MAPS = (
    KeyMap(
        "the authors' .pth",
        (
            Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
            Rule(r"blocks\.(\d+)\.(norm[12])\.(alpha|beta)", r"blocks.\1.\2.\3"),
            Rule(r"blocks\.(\d+)\.attn\.(weight|bias)", r"blocks.\1.linear_tokens.\2"),
            Rule(r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"blocks.\1.mlp_channels.\2.\3"),
            Rule(r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2"),
            Rule(r"norm\.(alpha|beta)", r"norm.\1"),
            Rule(r"head\.(weight|bias)", r"head.\1"),
        ),
    ),
)
