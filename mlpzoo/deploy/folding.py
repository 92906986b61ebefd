"""Fold what is fixed once training is over into the weights around it.

One rule a layer, and a walk that applies them. A rule is there only where it is exact everywhere, borders included,
and saves time. All are computed in float64 and rounded once. What a block gives out stays what it was, so features are
those of the plain model too: the last norm is not folded into the head.

Shape suffixes: T tokens, C channels, E hidden units.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mlpzoo.deploy.folded import (
    ChannelScale,
    FoldedConvMixerBlock,
    FoldedResMLPBlock,
    FoldedSpatialGatingMlp,
    SamePaddedConv,
)
from mlpzoo.deploy.packed import PackedLinear
from mlpzoo.layers import (
    Affine,
    Attention,
    ConvMixerBlock,
    ConvMixerStem,
    MlpBlock,
    ResMLPBlock,
    SpatialGatingMlp,
    SpatialGatingUnit,
    SplitReweight,
    StdConv,
    TokenLinear,
)
from mlpzoo.layers.linear import Linear
from mlpzoo.layers.resnet_stem import standardize_kernel

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def fold(model: nn.Module) -> nn.Module:
    """An equal, faster model for inference.

    ResMLP loses its affine maps and scales, ConvMixer half of its BatchNorms, ViT's ResNet stems the standardization of
    their kernels, and every model its dropouts; linear layers become `PackedLinear`. Whatever else is inside is copied
    as it is, so any module may be given. The result gives the same logits and features and takes another image size as
    the plain model does. It is frozen, for inference alone, and its state dict is its own: released files and
    checkpoints fit the plain model, before folding.

    Args:
        model: the model, in evaluation mode; it is left as it is and shares no memory with the result.

    Returns:
        The folded copy, on the same devices and in the same types, in evaluation mode.

    Raises:
        TypeError: when `model` is not a module, or is compiled already.
        ValueError: when `model` or a part of it is in training mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fold takes a model, got {type(model).__name__}")
    if hasattr(model, "_orig_mod"):
        raise TypeError(f"fold takes a model of plain modules, got {type(model).__name__}: fold first, compile after")
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"got a model in training mode ({training[0]}), in which norms and dropout depend on the batch: call "
            "model.eval() before folding it"
        )
    with torch.no_grad():
        return _folded(copy.deepcopy(model)).eval().requires_grad_(False)


def _folded(module: nn.Module) -> nn.Module:
    """Apply the rule for a module, then those for its parts. A subclass may compute something else: it has no rule."""
    rule = RULES.get(type(module))
    module = rule(module) if rule else module
    for name, child in module.named_children():
        setattr(module, name, _folded(child))
    return module


def fold_resmlp_block(block: ResMLPBlock) -> nn.Module:
    """Put both affine maps and both scales of a block into its linears.

    The token linear mixes tokens channel by channel, so it commutes with a factor a channel:
    W (α x + β) + b = α · (W x) + (β · rowsum W + b).
    """
    tokens, fc1, fc2 = block.linear_tokens, block.mlp_channels.fc1, block.mlp_channels.fc2
    if not is_plain(block.norm1, tokens, block.norm2, fc1, fc2):
        return block
    assert tokens.bias is not None
    ls1_C, ls2_C = wide(block.ls1), wide(block.ls2)
    constant_TC = wide(tokens.weight).sum(1, keepdim=True) * wide(block.norm1.beta) + wide(tokens.bias)[:, None]
    linear_tokens = TokenLinear(*tokens.weight.shape[::-1], bias=False, impl=tokens.impl, device="meta")
    linear_tokens.weight = tokens.weight
    bias1_E = wide(fc1.bias) + wide(fc1.weight) @ wide(block.norm2.beta)
    scaled1 = with_values(fc1, wide(fc1.weight) * wide(block.norm2.alpha), bias1_E)
    scaled2 = with_values(fc2, ls2_C[:, None] * wide(fc2.weight), ls2_C * wide(fc2.bias))
    return FoldedResMLPBlock(
        linear_tokens,
        rounded(ls1_C * wide(block.norm1.alpha), block.ls1),
        rounded(ls1_C * constant_TC, block.ls1),
        PackedLinear(scaled1, block.mlp_channels.act),
        PackedLinear(scaled2),
        block.grid,
    )


def fold_conv_mixer_block(block: ConvMixerBlock) -> nn.Module:
    """Take the first BatchNorm of a block apart, h ↦ s · h + t, between its skip and its pointwise convolution P.

    P (x + s · h + t) + b = P (x + s · h) + (P t + b), since P pads nothing. The depthwise convolutions pad with zeros,
    which know no t, so the BatchNorms before those stay.
    """
    depthwise, proj = block.depthwise, block.pointwise.proj
    if not is_plain(depthwise.proj, depthwise.norm, proj, block.pointwise.norm):
        return block
    scale_C, shift_C = scale_and_shift(depthwise.norm)
    assert proj.bias is not None
    bias_C = wide(proj.bias) + wide(proj.weight).flatten(1) @ shift_C
    return FoldedConvMixerBlock(
        depthwise.proj,
        depthwise.act,
        rounded(scale_C, depthwise.norm.weight),
        nn.Sequential(
            with_values(proj, wide(proj.weight), bias_C), block.pointwise.act, channel_scale(block.pointwise.norm)
        ),
    )


def fold_conv_mixer_stem(stem: ConvMixerStem) -> nn.Module:
    """Fix the BatchNorm of the stem; it stays, for a depthwise convolution follows."""
    if is_plain(stem.norm):
        stem.register_module("norm", channel_scale(stem.norm))
    return stem


def fold_std_conv(conv: StdConv) -> nn.Module:
    """Standardize the kernel once and for all."""
    kind = nn.Conv2d if conv.stride == (1, 1) else SamePaddedConv
    size, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    assert isinstance(padding, int)
    folded = kind(conv.in_channels, conv.out_channels, size, stride, padding, bias=False, device="meta")
    folded.weight = rounded(standardize_kernel(wide(conv.weight), conv.eps), conv.weight)
    return folded


def fold_linear(linear: nn.Linear) -> nn.Module:
    """Lay the weight out for the kernel that reads it."""
    return PackedLinear(linear)


def fold_spatial_gating(block: SpatialGatingMlp) -> nn.Module:
    """Cut the first linear in two: a norm would copy half of what it gives out as one."""
    if not is_plain(block.fc1) or type(block.gate) is not SpatialGatingUnit:
        return block
    assert block.fc1.bias is not None
    halves = []
    for weight, bias in zip(block.fc1.weight.chunk(2), block.fc1.bias.chunk(2), strict=True):
        half = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        half.weight, half.bias = rounded(weight.clone(), weight), rounded(bias.clone(), bias)
        halves.append(PackedLinear(half, copy.deepcopy(block.act)))
    first, second = halves
    return FoldedSpatialGatingMlp(block.attn, first, second, block.gate, block.fc2)


def fold_activation(block: MlpBlock | SplitReweight) -> nn.Module:
    """Apply the activation while the result of the first linear is in registers."""
    if is_plain(block.fc1):
        block.fc1, block.act = PackedLinear(block.fc1, block.act), nn.Identity()
    return block


def fold_attention(attention: Attention) -> nn.Module:
    """Drop nothing, in whatever mode the model is put."""
    attention.attn_drop = 0.0
    return attention


def fold_dropout(dropout: nn.Module) -> nn.Module:
    """Drop nothing."""
    return nn.Identity()


RULES: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    ResMLPBlock: fold_resmlp_block,
    ConvMixerBlock: fold_conv_mixer_block,
    ConvMixerStem: fold_conv_mixer_stem,
    StdConv: fold_std_conv,
    MlpBlock: fold_activation,
    SpatialGatingMlp: fold_spatial_gating,
    SplitReweight: fold_activation,
    Linear: fold_linear,
    nn.Linear: fold_linear,
    Attention: fold_attention,
    nn.Dropout: fold_dropout,
    DropPath: fold_dropout,
}
"""What becomes of a layer. The argument is a copy, which a rule may take apart."""


def is_plain(*modules: nn.Module) -> bool:
    """Whether these compute what their parameters say: adapters, quantizers and parametrizations put other classes."""
    return all(
        type(module) in (Affine, TokenLinear, Linear, nn.Linear, nn.Conv2d, nn.BatchNorm2d) for module in modules
    )


def wide(value: Tensor) -> Tensor:
    """A weight in float64; on the CPU where the device has no such type."""
    return value.to("cpu" if value.device.type == "mps" else value.device, torch.float64)


def rounded(value: Tensor, like: Tensor) -> nn.Parameter:
    """A parameter of this value, on the device and in the type of the weight that it comes from."""
    return nn.Parameter(value.to(like.device, like.dtype), requires_grad=False)


def with_values(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """The same layer with other values; a new one, for the old one may have a place elsewhere too."""
    layer = copy.deepcopy(layer)
    layer.weight, layer.bias = rounded(weight, layer.weight), rounded(bias, layer.weight)
    return layer


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm multiplies by and adds, channel by channel, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = wide(norm.weight) / (wide(norm.running_var) + norm.eps).sqrt()
    return scale_C, wide(norm.bias) - scale_C * wide(norm.running_mean)


def channel_scale(norm: nn.BatchNorm2d) -> ChannelScale:
    """A BatchNorm with its statistics fixed."""
    scale_C, shift_C = scale_and_shift(norm)
    return ChannelScale(rounded(scale_C, norm.weight), rounded(shift_C, norm.weight))
