"""A linear map over the positions of each window of a map, one for each group of channels (Swin-MLP, PosMLP).

Shape suffixes: B batch, C channels, H × W positions, Z groups, K channels of a group, P × Q windows of R × S positions,
T positions of a window read, U positions of a window written, N columns of a product.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import one_call


def window_padding(height: int, width: int, window: int, shift: int = 0) -> tuple[int, int, int]:
    """Zeros that make whole windows of a map: above and on the left, below, on the right.

    Args:
        height: of the map.
        width: of the map.
        window: side of a window in positions.
        shift: how many positions at the upper and left border are in a window with nothing but zeros before them. It
            counts for nothing where the shorter side of the map fits in one window.
    """
    before = window - shift if shift and min(height, width) > window else 0
    below, right = (-(-(side + before) // window) * window - side - before for side in (height, width))
    return before, below, right


def window_mixing_reference(
    x_BHWC: Tensor, w_ZUT: Tensor, b_ZU: Tensor, window: int, shift: int = 0, interleaved: bool = False
) -> Tensor:
    """The same map as `window_mixing`, as the authors of Swin-MLP write it: windows, and a grouped convolution."""
    height, width = x_BHWC.shape[1:3]
    before, below, right = window_padding(height, width, window, shift)
    x = F.pad(x_BHWC, (0, 0, before, right, before, below))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    channels = "(k z)" if interleaved else "(z k)"
    map_of = f"b (p r) (q s) {channels}"
    sizes = {"r": window, "s": window, "z": len(w_ZUT)}
    x = rearrange(x, f"{map_of} -> (b p q) (z r s) k", **sizes)
    y = F.conv1d(x, w_ZUT.flatten(0, 1).unsqueeze(2), b_ZU.flatten(), groups=len(w_ZUT))
    y = rearrange(y, f"(b p q) (z r s) k -> {map_of}", **sizes, p=rows, q=columns)
    return y[:, before : before + height, before : before + width].contiguous()


@one_call
def window_mixing(
    x_BHWC: Tensor,
    w_ZUT: Tensor,
    b_ZU: Tensor,
    window: int,
    shift: int = 0,
    interleaved: bool = False,
    impl: str = "auto",
) -> Tensor:
    """Mix the positions of each window, in each group of channels by its own weight.

    Windows do not overlap. Where a map is no multiple of them, they reach beyond its border, over zeros that are
    dropped afterwards. One copy brings groups and positions to the front, so all windows and channels are columns of
    one product for each group.

    Source: `SwinMLPBlock` in microsoft/Swin-Transformer, `models/swin_mlp.py` at f82860b.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        w_ZUT: weight, `(groups, positions written, positions read)`, both window², by row first.
        b_ZU: bias, `(groups, positions written)`.
        window: side of a window in positions.
        shift: 0 for windows that begin at the upper left corner; else how many positions there are in the first one,
            which begins with zeros. It counts for nothing where the shorter side of the map fits in one window.
        interleaved: whether channel c belongs to group c modulo groups, and not c // (channels / groups).
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return window_mixing_reference(x_BHWC, w_ZUT, b_ZU, window, shift, interleaved)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of window_mixing: choose 'auto' or 'reference'")
    height, width = x_BHWC.shape[1:3]
    groups = len(w_ZUT)
    before, below, right = window_padding(height, width, window, shift)
    if before or torch.compiler.is_compiling() or below or right:
        x_BHWC = F.pad(x_BHWC, (0, 0, before, right, before, below))
    x = x_BHWC.unflatten(3, (-1, groups) if interleaved else (groups, -1))
    # (B, P, R, Q, S, Z, K), or K before Z, to (Z, R, S, B, P, Q, K).
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    group, channel = (6, 5) if interleaved else (5, 6)
    x_ZTBPQK = x.permute(group, 2, 4, 0, 1, 3, channel).flatten(1, 2)
    y_ZUN = torch.baddbmm(b_ZU.unsqueeze(2), w_ZUT, x_ZTBPQK.flatten(2))
    y = y_ZUN.view(groups, window, window, *x_ZTBPQK.shape[2:])
    y = y.permute((3, 4, 1, 5, 2, 6, 0) if interleaved else (3, 4, 1, 5, 2, 0, 6))
    y_BHWC = y.flatten(5).flatten(3, 4).flatten(1, 2)
    return y_BHWC[:, before : before + height, before : before + width]
