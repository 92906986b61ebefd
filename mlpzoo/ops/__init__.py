"""Functions on tensors: the fast ones are exported, each one's reference twin stands beside it in its own file."""

from mlpzoo.ops.attention import attention
from mlpzoo.ops.axial_shift import axial_shift
from mlpzoo.ops.axis_linear import axis_linear
from mlpzoo.ops.cycle_fc import cycle_fc
from mlpzoo.ops.dispatch import fast_path, fusable
from mlpzoo.ops.group_norm import group_norm
from mlpzoo.ops.image_resize import resize_bilinear, resize_nearest
from mlpzoo.ops.layout import channels_last, channels_second
from mlpzoo.ops.linear import linear, linear_halves, linear_of
from mlpzoo.ops.mlp import mlp
from mlpzoo.ops.partition import partition, unpartition
from mlpzoo.ops.regions import gather_regions, scatter_regions
from mlpzoo.ops.resize import resize_input_tokens, resize_output_tokens
from mlpzoo.ops.reweight import mean_of_sum, reweighted_sum
from mlpzoo.ops.spatial_gate import spatial_gate
from mlpzoo.ops.token_linear import token_linear

__all__ = [
    "attention",
    "axial_shift",
    "axis_linear",
    "channels_last",
    "channels_second",
    "cycle_fc",
    "fast_path",
    "fusable",
    "gather_regions",
    "group_norm",
    "linear",
    "linear_halves",
    "linear_of",
    "mean_of_sum",
    "mlp",
    "partition",
    "resize_bilinear",
    "resize_input_tokens",
    "resize_nearest",
    "resize_output_tokens",
    "reweighted_sum",
    "scatter_regions",
    "spatial_gate",
    "token_linear",
    "unpartition",
]
