"""A linear map over the rows or over the columns of a map, shared by all channels (sMLPNet, Caterpillar).

Shape suffixes: B batch, C channels, H × W positions, L positions of a line read, M positions of a line written.
"""

import torch.nn.functional as F
from torch import Tensor

from mlpzoo.ops.dispatch import one_call
from mlpzoo.ops.token_linear import token_linear


def axis_mixing_reference(x_BCHW: Tensor, w_ML: Tensor, b_M: Tensor | None, axis: int) -> Tensor:
    """The same map as `axis_mixing`, as the authors write it: the axis in the place of channels, a 1×1 convolution."""
    order = (0, 2, 1, 3) if axis == 2 else (0, 3, 2, 1)
    return F.conv2d(x_BCHW.permute(order), w_ML[:, :, None, None], b_M).permute(order)


@one_call
def axis_mixing(x_BCHW: Tensor, w_ML: Tensor, b_M: Tensor | None, axis: int, impl: str = "auto") -> Tensor:
    """Mix the positions of each line along one axis, the same way in every channel and every line.

    With the channels last in memory nothing changes its place: a line along the height is a row of a matrix whose
    columns are width × channels, and a line along the width one whose columns are the channels.

    Source: `proj_h` and `proh_w` of `sMLPBlock` in microsoft/SPACH, `models/smlp.py` at dcede1e.

    Args:
        x_BCHW: map, `(batch, channels, height, width)`, best in PyTorch's channels-last format.
        w_ML: weight, `(positions written, positions read)`.
        b_M: bias of each position written, or None.
        axis: 2 to mix along the height, 3 along the width.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map with another size along the axis where the weight is not square, in channels-last format.

    Raises:
        ValueError: for an unknown `impl` or `axis`.
    """
    if axis not in (2, 3):
        raise ValueError(f"got axis {axis} of axis_mixing: 2 is the height, 3 the width")
    if impl == "reference":
        return axis_mixing_reference(x_BCHW, w_ML, b_M, axis)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of axis_mixing: choose 'auto' or 'reference'")
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    if axis == 2:
        y_BHWC = token_linear(x_BHWC.flatten(2), w_ML, b_M).unflatten(2, x_BHWC.shape[2:])
    else:
        y_BHWC = token_linear(x_BHWC.flatten(0, 1), w_ML, b_M).unflatten(0, x_BHWC.shape[:2])
    return y_BHWC.permute(0, 3, 1, 2)
