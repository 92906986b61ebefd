"""Released formats of ResMLP."""

from torch import Tensor

from mlpzoo.weights._keymap import KeyMap, Pair, Rule, flat, reader, same, writer


def as_tokens(value: Tensor) -> Tensor:
    """A vector of channels as one token of a batch, the shape timm keeps it in."""
    return value.reshape(1, 1, -1)


TIMM = (
    *same("stem.proj.*", "blocks.*.linear_tokens.*", "blocks.*.mlp_channels.*.*", "blocks.*.ls1", "blocks.*.ls2"),
    *(
        Pair(name, name, read=flat, write=as_tokens)
        for norm in ("blocks.*.norm1", "blocks.*.norm2", "norm")
        for name in (f"{norm}.alpha", f"{norm}.beta")
    ),
    *same("head.*"),
)

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
    reader("timm's layout", TIMM),
)
TO_TIMM = writer("timm's layout", TIMM)
