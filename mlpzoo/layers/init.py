"""How flax draws parameters unless told otherwise."""

import math

import torch
from torch import nn


def flax_default_(module: nn.Module) -> None:
    """Draw a linear layer's or a convolution's parameters by flax's defaults: LeCun normal kernel, zero bias.

    Args:
        module: a `Linear`, `Conv2d`, or a `ConvTranspose2d`, whose inputs stand first in its weight.
    """
    weight, bias = module.weight, module.bias
    assert isinstance(weight, nn.Parameter)
    inputs = weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else weight.shape[1]
    truncated_normal_(weight, math.sqrt(1 / (inputs * math.prod(weight.shape[2:]))))
    if isinstance(bias, nn.Parameter):
        nn.init.zeros_(bias)


def truncated_normal_(weight: torch.Tensor, std: float) -> None:
    """Draw from a normal distribution cut at two of its deviations, scaled so that `std` is left after the cut."""
    std_of_cut = 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std / std_of_cut, a=-2 * std / std_of_cut, b=2 * std / std_of_cut)
