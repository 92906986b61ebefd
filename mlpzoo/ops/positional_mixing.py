"""Mixing inside windows by weights that depend on nothing but where two positions are (PosMLP).

Shape suffixes: B batch, H × W positions, C channels, Z groups, M positions of a window written, N positions read,
D positions along one side, R × S those of a position written, P × Q those of a position read.
"""

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mlpzoo.ops.dispatch import fast_path, one_call
from mlpzoo.ops.window_mixing import window_mixing, window_mixing_reference

_maps = WeakIdKeyDictionary()
"""The centres of a map, while they live, to the window, the centres and spreads that it was made of, and the map."""


def positional_map_reference(centers_Z2: Tensor, spreads_Z22: Tensor, window: int) -> Tensor:
    """The same map as `positional_map`: the quadratic form of every pair of positions, as the paper has it."""
    rows_N, columns_N = _positions(window, centers_Z2)
    offsets_MN2 = torch.stack([columns_N - columns_N[:, None], rows_N[:, None] - rows_N], 2)
    apart_ZMN2 = offsets_MN2 - centers_Z2[:, None, None]
    precision_Z22 = spreads_Z22 @ spreads_Z22.transpose(1, 2)
    return (-0.5 * torch.einsum("zmni,zij,zmnj->zmn", apart_ZMN2, precision_Z22, apart_ZMN2)).softmax(2)


def _positions(window: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each position of a window, by row first."""
    place = torch.arange(window, dtype=like.dtype, device=like.device)
    return place.repeat_interleave(window), place.repeat(window)


@one_call
def positional_map(centers_Z2: Tensor, spreads_Z22: Tensor, window: int, impl: str = "auto") -> Tensor:
    """How much each position of a window is to each other one, in each group: softmax of a Gaussian of their offset.

    The logit of reading n at m is −½ (d − c)ᵀ A Aᵀ (d − c), with the offset d, as many columns as n is right of m and
    as many rows as it is above, the group's centre c and its spread A. Most of it is computed for pairs of columns and
    pairs of rows, which are few. No image has a part in it: where nobody asks for gradients on a CPU, it is kept while
    centres and spreads live and stay what they are.

    Source: `PosGU` of Zhicaiwww/PosMLP, `models/posmlp.py` at 654f020.

    Args:
        centers_Z2: centres in positions, `(groups, 2)`.
        spreads_Z22: spreads, `(groups, 2, 2)`.
        window: side of a window in positions.
        impl: `"auto"` or `"reference"`.

    Returns:
        `(groups, positions written, positions read)`, both window², by row first; each written one's sum to 1.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return positional_map_reference(centers_Z2, spreads_Z22, window)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of positional_map: choose 'auto' or 'reference'")
    may_keep = not torch.is_grad_enabled() and centers_Z2.device.type == "cpu" and fast_path(centers_Z2, spreads_Z22)
    if not may_keep:
        return _positional_map(centers_Z2, spreads_Z22, window)
    kept = _maps.get(centers_Z2)
    # Their values are compared, few as they are: counters of changes miss those through `.data`.
    if (
        kept
        and kept[0] == window
        and kept[1].dtype == centers_Z2.dtype
        and torch.equal(kept[1], centers_Z2)
        and torch.equal(kept[2], spreads_Z22)
    ):
        made: Tensor = kept[3]
        return made
    made = _positional_map(centers_Z2, spreads_Z22, window)
    _maps[centers_Z2] = (window, centers_Z2.detach().clone(), spreads_Z22.detach().clone(), made)
    return made


def _positional_map(centers_Z2: Tensor, spreads_Z22: Tensor, window: int) -> Tensor:
    place_D = torch.arange(window, dtype=centers_Z2.dtype, device=centers_Z2.device)
    apart_DD = place_D - place_D[:, None]
    groups = len(centers_Z2)
    # Of position (r, s) reading (p, q): columns in the places of s and q, rows in those of r and p.
    x_Z1S1Q = (apart_DD - centers_Z2[:, :1, None]).view(groups, 1, window, 1, window)
    y_ZR1P1 = (-apart_DD - centers_Z2[:, 1:, None]).view(groups, window, 1, window, 1)
    precision_Z22 = (spreads_Z22 @ spreads_Z22.transpose(1, 2)).view(groups, 2, 2, 1, 1, 1, 1)
    along = precision_Z22[:, 0, 0] * x_Z1S1Q.square() + precision_Z22[:, 1, 1] * y_ZR1P1.square()
    logits = torch.addcmul(-0.5 * along, -precision_Z22[:, 0, 1] * y_ZR1P1, x_Z1S1Q)
    return logits.view(groups, window**2, window**2).softmax(2)


@one_call
def positional_mixing(x_BHWC: Tensor, map_ZMN: Tensor, b_M: Tensor, window: int, impl: str = "auto") -> Tensor:
    """Mix the positions of each window by a map of each group of channels; channel c is in group c modulo groups.

    Where windows reach beyond the border of a map, what is beyond is left out of the means, and the rest counts for
    more.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        map_ZMN: `(groups, positions written, positions read)`, see `positional_map`.
        b_M: bias of each position written.
        window: side of a window in positions.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        mix = window_mixing_reference
    elif impl == "auto":
        mix = window_mixing
    else:
        raise ValueError(f"unknown impl '{impl}' of positional_mixing: choose 'auto' or 'reference'")
    height, width = x_BHWC.shape[1:3]
    groups = len(map_ZMN)
    b_ZM = b_M.expand(groups, -1)
    if height % window == 0 and width % window == 0:
        return mix(x_BHWC, map_ZMN, b_ZM, window, 0, True)
    mixed = mix(x_BHWC, map_ZMN, torch.zeros_like(b_ZM), window, 0, True)
    here = map_ZMN.new_ones(1, height, width, groups)
    share_1HWZ = mix(here, map_ZMN, torch.zeros_like(b_ZM), window, 0, True)
    bias_1HWZ = mix(torch.zeros_like(here), map_ZMN, b_ZM, window, 0, True)
    least = torch.finfo(share_1HWZ.dtype).tiny
    mean = mixed.unflatten(3, (-1, groups)) / share_1HWZ.clamp(min=least).unsqueeze(3)
    return (mean + bias_1HWZ.unsqueeze(3)).flatten(3)
