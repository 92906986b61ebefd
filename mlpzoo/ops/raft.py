"""Lines of a map with some of their channels, as RaftMLP mixes them.

A vector of numbers to be mixed holds, for every position of a line, one channel of each of so many equal parts of the
channels (a raft), by part first.

Shape suffixes: B batch, H × W positions, C channels, A parts of the channels, K channels of a part, T numbers mixed,
N what they are mixed for alike.
"""

from einops import rearrange
from torch import Tensor

from mlpzoo.ops.dispatch import one_call


def gather_raft_reference(x_BHWC: Tensor, raft: int, axis: int) -> Tensor:
    """The same as `gather_raft`, in einops."""
    order = "b (a h) (w k)" if axis == 1 else "(b h) (a w) k"
    return rearrange(x_BHWC, f"b h w (a k) -> {order}", a=raft).contiguous()


def scatter_raft_reference(x_NTC: Tensor, raft: int, axis: int, height: int, width: int) -> Tensor:
    """The same as `scatter_raft`, in einops."""
    order = "b (a h) (w k)" if axis == 1 else "(b h) (a w) k"
    return rearrange(x_NTC, f"{order} -> b h w (a k)", a=raft, h=height, w=width).contiguous()


@one_call
def gather_raft(x_BHWC: Tensor, raft: int, axis: int, impl: str = "auto") -> Tensor:
    """Bring the numbers of a line that are mixed into one axis, in front of all that is mixed alike.

    A linear map over them is one product for each image or row, whose other side has the channels last.

    Args:
        x_BHWC: map, `(batch, height, width, channels)`.
        raft: parts of the channels; it divides them.
        axis: 1 for lines along the height, 2 along the width.
        impl: `"auto"` or `"reference"`.

    Returns:
        `(batch, raft × height, width × channels / raft)`, or `(batch × height, raft × width, channels / raft)`.

    Raises:
        ValueError: for an unknown `impl` or `axis`.
    """
    if _is_reference("gather_raft", axis, impl):
        return gather_raft_reference(x_BHWC, raft, axis)
    x_BHWAK = x_BHWC.unflatten(3, (raft, -1))
    if axis == 1:
        return x_BHWAK.permute(0, 3, 1, 2, 4).flatten(3).flatten(1, 2)
    return x_BHWAK.transpose(2, 3).flatten(0, 1).flatten(1, 2)


@one_call
def scatter_raft(x_NTC: Tensor, raft: int, axis: int, height: int, width: int, impl: str = "auto") -> Tensor:
    """Undo `gather_raft`.

    Args:
        x_NTC: what `gather_raft` gives.
        raft: as in `gather_raft`.
        axis: as in `gather_raft`.
        height: of the map.
        width: of the map.
        impl: `"auto"` or `"reference"`.

    Returns:
        The map, `(batch, height, width, channels)`.

    Raises:
        ValueError: for an unknown `impl` or `axis`.
    """
    if _is_reference("scatter_raft", axis, impl):
        return scatter_raft_reference(x_NTC, raft, axis, height, width)
    if axis == 1:
        return x_NTC.unflatten(2, (width, -1)).unflatten(1, (raft, height)).permute(0, 2, 3, 1, 4).flatten(3)
    return x_NTC.unflatten(1, (raft, width)).unflatten(0, (-1, height)).transpose(2, 3).flatten(3)


def _is_reference(op: str, axis: int, impl: str) -> bool:
    if axis not in (1, 2):
        raise ValueError(f"got axis {axis} of {op}: 1 is the height, 2 the width")
    if impl not in ("auto", "reference"):
        raise ValueError(f"unknown impl '{impl}' of {op}: choose 'auto' or 'reference'")
    return impl == "reference"
