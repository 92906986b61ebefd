"""Layers of MLP-like vision networks, one concept a file, each usable alone."""

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.mixer import MixerBlock
from mlpzoo.layers.mixing import ChannelMixing, TokenLinear, TokenMixing
from mlpzoo.layers.mlp import MlpBlock
from mlpzoo.layers.patch_embed import PatchEmbed

__all__ = ["ChannelMixing", "MixerBlock", "MlpBlock", "PatchEmbed", "TokenLinear", "TokenMixing", "create_activation"]
