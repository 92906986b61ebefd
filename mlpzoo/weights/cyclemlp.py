"""Released formats of CycleMLP."""

from mlpzoo.weights._keymap import KeyMap, Rule
from mlpzoo.weights._network import number_stages, stage_rules

KEY_MAPS = (
    KeyMap(
        "the authors' .pth",
        (
            # Offsets are fixed by the architecture: we compute them where they are needed.
            Rule(r"network\.\d+\.\d+\.attn\.sfc_[hw]\.offset", None),
            *stage_rules(r"mlp_c|sfc_[hw]"),
        ),
        rename=number_stages,
    ),
)
