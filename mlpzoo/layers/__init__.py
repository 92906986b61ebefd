"""Layers of MLP-like vision networks, one concept a file, each usable alone."""

from mlpzoo.layers.activation import create_activation
from mlpzoo.layers.affine import Affine
from mlpzoo.layers.attention import Attention
from mlpzoo.layers.batch_norm import BatchNormNHWC
from mlpzoo.layers.channel_attention import ChannelAttention, ConvAttentionBlock, MlpAttentionBlock
from mlpzoo.layers.conv_embed import ConvEmbed, Downsample, PaddedEmbed
from mlpzoo.layers.conv_mixer import ConvActNorm, ConvMixerBlock, ConvMixerStem
from mlpzoo.layers.conv_nhwc import ConvNHWC, UpsampleNHWC
from mlpzoo.layers.cross_gating import CrossGating, MultiAxisGate
from mlpzoo.layers.cycle_fc import CycleFC
from mlpzoo.layers.cycle_mlp import CycleMLP
from mlpzoo.layers.encoder import EncoderBlock
from mlpzoo.layers.grid_bound import GridBound
from mlpzoo.layers.group_norm import GroupNorm1
from mlpzoo.layers.mixer import MixerBlock
from mlpzoo.layers.mixing import ChannelMixing, TokenLinear, TokenMixing
from mlpzoo.layers.mlp import MlpBlock
from mlpzoo.layers.multi_axis_mlp import MultiAxisMlp, PartitionedGatedMlp
from mlpzoo.layers.patch_embed import PatchEmbed
from mlpzoo.layers.patch_merging import PatchMerging
from mlpzoo.layers.permute_mlp import AxisLinear, WeightedPermuteMLP
from mlpzoo.layers.pointwise import PointwiseConv, pointwise
from mlpzoo.layers.resample import GatherLevels, Resample
from mlpzoo.layers.residual import ResidualBlock
from mlpzoo.layers.resmlp import ResMLPBlock
from mlpzoo.layers.resnet_stem import ResNetStem, StdConv
from mlpzoo.layers.spatial_gating import GMLPBlock, SpatialGatingMlp, SpatialGatingUnit, TinyAttention
from mlpzoo.layers.split_reweight import SplitReweight
from mlpzoo.layers.supervised_attention import SupervisedAttention

__all__ = [
    "Affine",
    "Attention",
    "AxisLinear",
    "BatchNormNHWC",
    "ChannelAttention",
    "ChannelMixing",
    "ConvActNorm",
    "ConvAttentionBlock",
    "ConvEmbed",
    "ConvMixerBlock",
    "ConvMixerStem",
    "ConvNHWC",
    "CrossGating",
    "CycleFC",
    "CycleMLP",
    "Downsample",
    "EncoderBlock",
    "GMLPBlock",
    "GatherLevels",
    "GridBound",
    "GroupNorm1",
    "MixerBlock",
    "MlpAttentionBlock",
    "MlpBlock",
    "MultiAxisGate",
    "MultiAxisMlp",
    "PaddedEmbed",
    "PartitionedGatedMlp",
    "PatchEmbed",
    "PatchMerging",
    "PointwiseConv",
    "ResMLPBlock",
    "ResNetStem",
    "Resample",
    "ResidualBlock",
    "SpatialGatingMlp",
    "SpatialGatingUnit",
    "SplitReweight",
    "StdConv",
    "SupervisedAttention",
    "TinyAttention",
    "TokenLinear",
    "TokenMixing",
    "UpsampleNHWC",
    "WeightedPermuteMLP",
    "create_activation",
    "pointwise",
]
