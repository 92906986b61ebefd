"""Strip-MLP's mixing of whole lines with their two neighbours, one weight a group of channels.

Shape suffixes: B batch, C channels, H × W positions, G groups, K channels of a group, L positions of a line read,
M positions of a line written, O lines, T the three neighbours, N columns of a product.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import fast_path, one_call


def strip_mixing_reference(x_BCHW: Tensor, w_GMLT: Tensor, b_N: Tensor, axis: int) -> Tensor:
    """The same map as `strip_mixing`, as the authors write it: lines in the place of channels, a grouped convolution.

    The convolution's kernel spans the neighbouring lines, its channels are the groups' positions.
    """
    groups = len(w_GMLT)
    line, other = ("h", "w") if axis == 2 else ("w", "h")
    x = rearrange(x_BCHW, f"b (k g) h w -> b (g {line}) k {other}", g=groups)
    y = F.conv2d(x, w_GMLT.flatten(0, 1).unsqueeze(2), b_N, padding=(0, 1), groups=groups)
    return rearrange(y, f"b (g {line}) k {other} -> b (k g) h w", g=groups)


@one_call
def strip_mixing(x_BCHW: Tensor, w_GMLT: Tensor, b_N: Tensor, axis: int, impl: str = "auto") -> Tensor:
    """Mix the positions of three neighbouring lines along an axis, in each group of channels by its own weight.

    Channel c belongs to group c modulo groups. The lines beyond the border are zeros. One copy brings the groups and
    the positions of a line to the front, with a line of zeros at each end; the three neighbours are then slices of it,
    and their products are summed where they arise.

    Source: `proj_h` and `proj_w` of the token mixing in Med-Process/Strip_MLP, `models/strip_mlp.py` at 492d705.

    Args:
        x_BCHW: map, `(batch, channels, height, width)`, best in PyTorch's channels-last format.
        w_GMLT: weight, `(groups, positions written, positions read, 3)`; the last are the line before, the line itself
            and the line after.
        b_N: bias, `(groups × positions written,)`.
        axis: 2 for lines along the height, 3 along the width.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape, in channels-last format unless `"reference"`.

    Raises:
        ValueError: for an unknown `impl` or `axis`.
    """
    if axis not in (2, 3):
        raise ValueError(f"got axis {axis} of strip_mixing: 2 is the height, 3 the width")
    if impl == "reference":
        return strip_mixing_reference(x_BCHW, w_GMLT, b_N, axis)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of strip_mixing: choose 'auto' or 'reference'")
    groups, length = w_GMLT.shape[:2]
    lines = x_BCHW.shape[5 - axis]
    # (B, K, G, H, W) to (G, L, O, B, K).
    order = (2, axis + 1, 6 - axis, 0, 1)
    x_GLOBK = F.pad(x_BCHW.unflatten(1, (-1, groups)).permute(order), (0, 0, 0, 0, 1, 1)).contiguous()
    # Products of batches want dense matrices; the weights are small.
    before, own, after = w_GMLT.permute(3, 0, 1, 2).contiguous()
    y_GMN = torch.baddbmm(b_N.view(groups, length, 1), own, x_GLOBK[:, :, 1 : lines + 1].flatten(2))
    # In place is safe: the gradient of a sum of products needs their factors alone. Autocast wants to choose the type.
    in_place = fast_path(x_BCHW, w_GMLT, b_N) and x_BCHW.dtype == w_GMLT.dtype == y_GMN.dtype
    add = torch.Tensor.baddbmm_ if in_place else torch.baddbmm
    y_GMN = add(y_GMN, before, x_GLOBK[:, :, :lines].flatten(2))
    y_GMN = add(y_GMN, after, x_GLOBK[:, :, 2:].flatten(2))
    y_GMOBK = y_GMN.unflatten(2, (lines, x_BCHW.shape[0], -1))
    # To (B, H, W, K, G), whose last two are the channels.
    back = (3, 1, 2, 4, 0) if axis == 2 else (3, 2, 1, 4, 0)
    return y_GMOBK.permute(back).flatten(3).permute(0, 3, 1, 2)
