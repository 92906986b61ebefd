"""Released formats of gMLP: timm's alone, whose names and shapes are ours."""

from mlpzoo.weights._keymap import KeyMap, same, writer

KEY_MAPS: tuple[KeyMap, ...] = ()
TO_TIMM = writer(
    "timm's layout",
    (
        *same("stem.proj.*", "blocks.*.norm.*", "blocks.*.mlp_channels.fc1.*", "blocks.*.mlp_channels.fc2.*"),
        *same("blocks.*.mlp_channels.gate.norm.*", "blocks.*.mlp_channels.gate.proj.*", "norm.*", "head.*"),
    ),
)
