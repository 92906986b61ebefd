"""Memory layouts of maps.

Shape suffixes: B batch, C channels, H × W positions.
"""

import torch
from torch import Tensor


def channels_second(x_BHWC: Tensor) -> Tensor:
    """What a convolution takes: the same numbers as `(batch, channels, height, width)`, in the format channels_last.

    Nothing is copied, except where `torch.compile` records gradients.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`, contiguous.
    """
    if torch.compiler.is_dynamo_compiling() and torch.is_grad_enabled():
        return channels_second_copy(x_BHWC)
    return x_BHWC.permute(0, 3, 1, 2)


def channels_last(x_BCHW: Tensor) -> Tensor:
    """The same map in the format channels_last, copied where it is in another; `torch.vmap` runs it, too.

    Args:
        x_BCHW: map, `(batch, channels, height, width)`.
    """
    if torch.compiler.is_compiling():
        return x_BCHW.contiguous(memory_format=torch.channels_last)
    # `contiguous` could do it by the format's name, but not under `torch.vmap`.
    return x_BCHW.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


@torch.library.custom_op("mlpzoo::channels_second_copy", mutates_args=())
def channels_second_copy(x_BHWC: Tensor) -> Tensor:
    """`channels_second` as a copy that compilers do not look into.

    The map is saved for the gradient of the convolution that reads it. Inductor orders the strides of what is saved,
    and fails at those of a view whose sizes are expressions such as `(s0 - 3) // 4 + 1` (PyTorch 2.14: "cannot
    determine truth value of Relational"). A clone does not help, for it is optimized away.
    """
    return x_BHWC.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)


@channels_second_copy.register_fake
def _(x_BHWC: Tensor) -> Tensor:
    return x_BHWC.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)


channels_second_copy.register_autograd(lambda _, grad_BCHW: grad_BCHW.permute(0, 2, 3, 1))
