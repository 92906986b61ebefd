"""What a layer needs to fold itself: weights that are fixed once training is over, merged with those around them.

A layer says what it becomes by a method `folded(self) -> nn.Module`, which `mlpzoo.deploy.fold` calls on a copy in
evaluation mode: the method may take the layer apart, and returns the layer itself or a module of another class, which
is folded in its turn. A layer in which a BatchNorm directly follows a convolution or linear layer, and nothing else
reads what is between, needs no method: it names the pairs in `norm_after`, a mapping from the one to the other. Both
count for the very class that defines them: a subclass may compute something else. Everything is computed in float64
and rounded once.

Shape suffixes: B batch, C channels, H × W positions.
"""

import copy
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from mlpzoo.ops import _torch

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d, nn.Conv2d)
Class = TypeVar("Class", bound=type[nn.Module])
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm

LINEAR_MAPS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
MERGEABLE: set[type[nn.Module]] = {*LINEAR_MAPS, *NORMS}


def mergeable(cls: Class) -> Class:
    """Decorate a layer whose parameters another layer's `folded` may merge with its own, see `may_merge`."""
    MERGEABLE.add(cls)
    return cls


def has_hooks(*modules: nn.Module) -> bool:
    """Whether anybody waits for one of these to be called: by a hook, or by a `forward` put in place of its own."""
    return any(_torch.own_hooks(module) or "forward" in vars(module) for module in modules)


def may_merge(*modules: nn.Module) -> bool:
    """Whether these compute what their parameters say and no more, and nobody waits for them to be called.

    Adapters, quantizers and parametrizations put other classes in place of a layer's, or hooks on it.
    """
    return all(type(module) in MERGEABLE for module in modules) and not has_hooks(*modules)


def wide(value: Tensor) -> Tensor:
    """A weight in float64; on the CPU where the device has no such type."""
    return value.to("cpu" if value.device.type == "mps" else value.device, torch.float64)


def rounded(value: Tensor, like: Tensor) -> nn.Parameter:
    """A parameter of this value, on the device and in the type of the weight that it comes from."""
    return nn.Parameter(value.to(like.device, like.dtype), requires_grad=False)


def with_values(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """The same layer with other values; a new one, for the old one may have a place elsewhere too."""
    layer = copy.deepcopy(layer)
    like = layer.get_parameter("weight")
    layer.weight, layer.bias = rounded(weight, like), rounded(bias, like)
    return layer


def is_fixed(norm: nn.Module) -> TypeGuard[Norm]:
    """Whether this is a BatchNorm that may be merged, and normalizes by statistics that it keeps."""
    return isinstance(norm, NORMS) and may_merge(norm) and norm.running_var is not None


def scale_and_shift(norm: Norm) -> tuple[Tensor, Tensor]:
    """What a BatchNorm multiplies by and adds, channel by channel, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = (wide(norm.running_var) + norm.eps).rsqrt()
    shift_C = -scale_C * wide(norm.running_mean)
    if norm.affine:
        weight_C = wide(norm.weight)
        scale_C, shift_C = weight_C * scale_C, weight_C * shift_C + wide(norm.bias)
    return scale_C, shift_C


def bias_of(layer: Layer) -> Tensor:
    """A layer's bias in float64; zeros where it has none."""
    weight = layer.get_parameter("weight")
    return wide(weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias)


def with_norm_after(layer: Layer, norm: Norm) -> Layer:
    """A convolution or linear layer that does what a BatchNorm after it does as well: s · (W x + b) + t.

    Exact with any padding and any groups. A linear layer's outputs are the channels of the norm.
    """
    scale_C, shift_C = scale_and_shift(norm)
    weight = wide(layer.get_parameter("weight"))
    scaled = weight * scale_C.view(-1, *[1] * (weight.ndim - 1))
    return with_values(layer, scaled, scale_C * bias_of(layer) + shift_C)


def with_map_before(layer: Layer, scale_C: Tensor, shift_C: Tensor) -> Layer:
    """A convolution or linear layer that does what a scale and a shift before it do as well: W (s · x + t) + b.

    The convolution has one group and pads nothing: what is padded knows no t.

    Args:
        layer: the layer.
        scale_C: s, of each channel that the layer reads, in float64; for a BatchNorm, see `scale_and_shift`.
        shift_C: t, likewise.
    """
    weight = wide(layer.get_parameter("weight"))
    kernel = [1] * (weight.ndim - 2)
    shift = (weight * shift_C.view(1, -1, *kernel)).flatten(1).sum(1)
    return with_values(layer, weight * scale_C.view(1, -1, *kernel), bias_of(layer) + shift)


class ChannelScale(nn.Module):
    """What a BatchNorm is once its statistics are fixed: one factor and one summand a channel.

    Args:
        scale_C: the factors.
        shift_C: the summands.

    Shape:
        `(batch, channels, height, width)` to the same.
    """

    def __init__(self, scale_C: nn.Parameter, shift_C: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale_C
        self.shift = shift_C

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to the same, in one pass."""
        return torch.addcmul(self.shift[:, None, None], self.scale[:, None, None], x_BCHW)


def channel_scale(norm: Norm) -> ChannelScale:
    """A BatchNorm with its statistics fixed."""
    scale_C, shift_C = scale_and_shift(norm)
    return ChannelScale(rounded(scale_C, norm.weight), rounded(shift_C, norm.weight))
