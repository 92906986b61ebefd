"""Released formats of ViP."""

from mlpzoo.weights._keymap import KeyMap
from mlpzoo.weights._network import number_stages, stage_rules

KEY_MAPS = (KeyMap("the authors' .pth", stage_rules(r"mlp_[chw]"), rename=number_stages),)
