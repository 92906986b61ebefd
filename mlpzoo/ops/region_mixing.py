"""RaMLP's mixing of a dilated set of positions with the channels of a head.

Shape suffixes: B batch, H × W positions, M channels, V the numbers of a vector, D heads of a channel group, P × Q bands
of rows and columns, R × C positions in a band, G groups of channels.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import one_call
from mlpzoo.ops.token_linear import token_linear


def region_mixing_reference(x_BHWM: Tensor, w_VV: Tensor, bands: int) -> Tensor:
    """The same map as `region_mixing`, as the paper has it: gather vectors, divide, linear, scatter."""
    head = len(w_VV) // bands**2
    vectors = rearrange(x_BHWM, "b (p r) (q c) (g d) -> b r c g (d p q)", p=bands, q=bands, d=head)
    mixed = F.linear(vectors / len(w_VV), w_VV)
    return rearrange(mixed, "b r c g (d p q) -> b (p r) (q c) (g d)", p=bands, q=bands).contiguous()


@one_call
def region_mixing(x_BHWM: Tensor, w_VV: Tensor, bands: int, impl: str = "auto") -> Tensor:
    """Mix, for each position of a band, the positions at the same place of all bands and the channels of a head.

    Rows and columns are cut into bands; a vector holds one position of each, which lie as far apart as a band is wide,
    and the channels of one head. All vectors of all groups of channels meet the same weight. With one band nothing is
    copied; with heads of one channel whole rows of channels are; otherwise the channels of a head stay side by side.

    Source: the token mixer of xiaolai-sqlai/RaMLP, `models/ramlp.py` at 2852377.

    Args:
        x_BHWM: map, `(batch, height, width, channels)`; `bands` divides height and width.
        w_VV: weight, both sides indexed by channel of the head × band of rows × band of columns.
        bands: bands along each side.
        impl: `"auto"` or `"reference"`.

    Returns:
        A map of the same shape, contiguous.

    Raises:
        ValueError: for an unknown `impl`.
    """
    if impl == "reference":
        return region_mixing_reference(x_BHWM, w_VV, bands)
    if impl != "auto":
        raise ValueError(f"unknown impl '{impl}' of region_mixing: choose 'auto' or 'reference'")
    size, places = len(w_VV), bands**2
    # A power of two: dividing the weight instead of the map rounds nothing.
    w_VV = w_VV / size
    x_BPRQCM = x_BHWM.unflatten(2, (bands, -1)).unflatten(1, (bands, -1))
    if size == places:
        x_BPQRCM = x_BPRQCM.transpose(2, 3)
        mixed = token_linear(x_BPQRCM.flatten(3).flatten(1, 2), w_VV).view(x_BPQRCM.shape)
        return mixed.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    # Both sides of the weight from head × bands to bands × head.
    if places > 1:
        w_VV = w_VV.unflatten(1, (-1, places)).mT.flatten(1).unflatten(0, (-1, places)).transpose(0, 1).flatten(0, 1)
    x_BRCGPQD = x_BPRQCM.unflatten(5, (-1, size // places)).permute(0, 2, 4, 5, 1, 3, 6)
    mixed = F.linear(x_BRCGPQD.flatten(4), w_VV).view(x_BRCGPQD.shape)
    return mixed.permute(0, 4, 1, 5, 2, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)
