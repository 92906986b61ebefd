"""Initial values that flax and its users draw, where PyTorch's own differ."""

import math

from torch import Tensor, nn


def flax_default_(module: nn.Module) -> None:
    """Draw a linear layer's or a convolution's parameters by flax's defaults: LeCun normal kernel, zero bias.

    The normal distribution is cut at two of its deviations and widened, so that 1 / fan-in is the variance left.

    Args:
        module: a linear layer, a `Conv2d`, or a `ConvTranspose2d`, whose inputs stand first in its weight.
    """
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    inputs = weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else weight.shape[1]
    deviation = math.sqrt(1 / (inputs * math.prod(weight.shape[2:]))) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)


def normal_002_(module: nn.Module, bias: float = 0.0) -> None:
    """Draw a weight from a normal distribution of deviation 0.02 and set the bias to a constant.

    Args:
        module: a layer with a `weight` and perhaps a `bias`.
        bias: the constant.
    """
    assert isinstance(module.weight, Tensor)
    nn.init.normal_(module.weight, std=0.02)
    if isinstance(module.bias, Tensor):
        nn.init.constant_(module.bias, bias)
