"""Layers of MLP-like vision networks, one concept a file, each usable alone."""

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.affine import Affine
from mlpzoo.layers.attention import Attention
from mlpzoo.layers.conv_embed import ConvEmbed, Downsample
from mlpzoo.layers.conv_mixer import ConvActNorm, ConvMixerBlock, ConvMixerStem
from mlpzoo.layers.cycle_fc import CycleFC
from mlpzoo.layers.cycle_mlp import CycleMLP
from mlpzoo.layers.encoder import EncoderBlock
from mlpzoo.layers.grid_bound import GridBound
from mlpzoo.layers.mixer import MixerBlock
from mlpzoo.layers.mixing import ChannelMixing, TokenLinear, TokenMixing
from mlpzoo.layers.mlp import MlpBlock
from mlpzoo.layers.patch_embed import PatchEmbed
from mlpzoo.layers.permute_mlp import AxisLinear, WeightedPermuteMLP
from mlpzoo.layers.residual import ResidualBlock
from mlpzoo.layers.resmlp import ResMLPBlock
from mlpzoo.layers.resnet_stem import ResNetStem, StdConv
from mlpzoo.layers.spatial_gating import GMLPBlock, SpatialGatingMlp, SpatialGatingUnit, TinyAttention
from mlpzoo.layers.split_reweight import SplitReweight

__all__ = [
    "Affine",
    "Attention",
    "AxisLinear",
    "ChannelMixing",
    "ConvActNorm",
    "ConvEmbed",
    "ConvMixerBlock",
    "ConvMixerStem",
    "CycleFC",
    "CycleMLP",
    "Downsample",
    "EncoderBlock",
    "GMLPBlock",
    "GridBound",
    "MixerBlock",
    "MlpBlock",
    "PatchEmbed",
    "ResMLPBlock",
    "ResNetStem",
    "ResidualBlock",
    "SpatialGatingMlp",
    "SpatialGatingUnit",
    "SplitReweight",
    "StdConv",
    "TinyAttention",
    "TokenLinear",
    "TokenMixing",
    "WeightedPermuteMLP",
    "create_activation",
]
