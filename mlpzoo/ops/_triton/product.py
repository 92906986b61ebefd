"""One linear map over two of four axes, and the gradient of its weight, as kernels.

Every map here is one over the axes L and S of a tensor (A, L, Q, S):

- over channels: (1, 1, positions, channels);
- over tokens: (batch, tokens, channels, 1);
- over lines of a map and channels of a segment, as in `mlpzoo.ops.axis_linear`.

Elements of a tile lie where its rows (a, q) start plus where its columns (l, s) lie. Transposes therefore happen on the
way between memory and registers, and none is ever stored.

A map over channels may also shift: each channel lies some positions further along an axis, zero outside. The product
shifts what it loads. Its gradient shifts what it stores, the other way round.

Letters: A, L, Q, S as above; M rows (a, q), K columns (l, s) in, N columns out; Z parts that a sum is cut into.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="import-untyped, import-not-found"

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from mlpzoo.ops._triton._define import INTERPRETED, tuned, wrap_triton

WIDENED = tl.constexpr(INTERPRETED)
"""Whether factors are made float32 first. The interpreter takes the bits of a bfloat16 for an integer's."""


@triton.jit
def row_starts(row_M, lines, columns, segment):
    """Where the rows of a tensor of (A, L, Q = lines, S = segment), L × S = columns, start."""
    outer_M = (row_M // lines).to(tl.int64)
    return outer_M * columns * lines + (row_M % lines).to(tl.int64) * segment


@triton.jit
def column_places(column_K, lines, segment):
    """Where the columns lie, as seen from where a row starts."""
    return column_K // segment * lines * segment + column_K % segment


@triton.jit
def channel_offsets(channel_K, offsets, channels, step, dilation):
    """How many positions ahead channels read: the cycle's offsets, unless there are others."""
    if offsets is not None:
        return tl.load(offsets + channel_K, mask=channel_K < channels, other=0)
    return ((channel_K + step // 2) % step - step // 2) * dilation


@triton.jit
def load_tile(
    x, row_M, column_K, offsets, rows, lines, columns, segment, length, stride, step, dilation, SHIFTS: tl.constexpr
):
    """A tile (M, K), zero outside the tensor; where it shifts, each channel from some positions ahead."""
    place_K = column_places(column_K, lines, segment)
    inside_MK = (row_M < rows)[:, None] & (column_K < columns)[None, :]
    if SHIFTS:
        ahead_K = channel_offsets(column_K, offsets, columns, step, dilation)
        there_MK = (row_M // stride % length)[:, None] + ahead_K[None, :]
        inside_MK = inside_MK & (there_MK >= 0) & (there_MK < length)
        place_K += ahead_K * stride * columns
    start_M = x + row_starts(row_M, lines, columns, segment)
    return tl.load(start_M[:, None] + place_K[None, :], mask=inside_MK, other=0.0)


@triton.jit
def multiply(a_MK, b_KN, sum_MN, PRECISION: tl.constexpr):
    """Add a product to a sum in float32."""
    if WIDENED:
        a_MK, b_KN = a_MK.to(tl.float32), b_KN.to(tl.float32)
    return tl.dot(a_MK, b_KN, sum_MN, input_precision=PRECISION)


@triton.jit
def activate(h, ACT: tl.constexpr):
    """GELU in its exact or its tanh form, or nothing."""
    if ACT == "gelu":
        return 0.5 * h * (1.0 + tl.erf(h * 0.7071067811865476))
    if ACT == "gelu_tanh":
        # (1 + tanh u) / 2 is the sigmoid of 2 u.
        return h * tl.sigmoid(1.5957691216057308 * (h + 0.044715 * h * h * h))
    return h


@tuned(
    [
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}, num_warps=4, num_stages=4),
        triton.Config({"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 64}, num_warps=4, num_stages=3),
        triton.Config({"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32}, num_warps=8, num_stages=4),
        triton.Config({"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64}, num_warps=8, num_stages=3),
    ],
    key=["K", "N", "in_segment", "SHIFT", "ACT"],
)
@triton.jit
def product_kernel(
    x,
    w,
    b,
    y,
    pre,
    offsets,
    rows,
    lines,
    K,
    N,
    in_segment,
    out_segment,
    w_row,
    w_column,
    w_rows,
    w_columns,
    length,
    stride,
    step,
    dilation,
    SHIFT: tl.constexpr,
    ACT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile (M, N) of y = act(x wᵀ + b); `pre`, if given, gets what the activation is applied to.

    The weight may have more rows and columns than are used, zeros all.
    """
    # Programs that read the same rows of x run side by side.
    tiles_N = tl.cdiv(N, BLOCK_N)
    row_M = tl.program_id(0) // tiles_N * BLOCK_M + tl.arange(0, BLOCK_M)
    column_N = tl.program_id(0) % tiles_N * BLOCK_N + tl.arange(0, BLOCK_N)
    sum_MN = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        column_K = start + tl.arange(0, BLOCK_K)
        x_MK = load_tile(
            x, row_M, column_K, offsets, rows, lines, K, in_segment, length, stride, step, dilation, SHIFT == "load"
        )
        w_KN = tl.load(
            w + column_K[:, None] * w_column + column_N[None, :] * w_row,
            mask=(column_K < w_columns)[:, None] & (column_N < w_rows)[None, :],
            other=0.0,
        )
        sum_MN = multiply(x_MK, w_KN, sum_MN, PRECISION)
    if b is not None:
        sum_MN += tl.load(b + column_N, mask=column_N < N, other=0.0).to(tl.float32)[None, :]
    place_MN = column_places(column_N, lines, out_segment)[None, :]
    if SHIFT == "store":
        # What leaves the map comes in again at its other end, as a zero: there, nothing else is ever stored.
        ahead_N = channel_offsets(column_N, offsets, N, step, dilation)
        reads_N = tl.abs(ahead_N) < length
        ahead_N = tl.where(reads_N, ahead_N, 0)
        there_MN = (row_M // stride % length)[:, None] + ahead_N[None, :]
        sum_MN = tl.where((there_MN >= 0) & (there_MN < length) & reads_N[None, :], sum_MN, 0.0)
        turn_MN = tl.where(there_MN < 0, length, 0) - tl.where(there_MN < length, 0, length)
        place_MN += (ahead_N[None, :] + turn_MN) * (stride * N)
    start_M = row_starts(row_M, lines, N, out_segment)
    inside_MN = (row_M < rows)[:, None] & (column_N < N)[None, :]
    if pre is not None:
        tl.store((pre + start_M)[:, None] + place_MN, sum_MN, mask=inside_MN)
    tl.store((y + start_M)[:, None] + place_MN, activate(sum_MN, ACT), mask=inside_MN)


@tuned(
    [
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64}, num_warps=4, num_stages=3),
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64}, num_warps=4, num_stages=3),
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 128}, num_warps=8, num_stages=3),
    ],
    key=["K", "N", "in_segment", "SHIFT"],
)
@triton.jit
def weight_gradient_kernel(
    g,
    x,
    w_grad,
    b_grad,
    offsets,
    rows,
    parts,
    lines,
    K,
    N,
    in_segment,
    out_segment,
    length,
    stride,
    step,
    dilation,
    SHIFT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile (N, K) of gᵀ x, and the sum of g, over the blocks of rows that are this part's: every `parts`-th."""
    tiles_K = tl.cdiv(K, BLOCK_K)
    column_N = tl.program_id(0) // tiles_K * BLOCK_N + tl.arange(0, BLOCK_N)
    column_K = tl.program_id(0) % tiles_K * BLOCK_K + tl.arange(0, BLOCK_K)
    part = tl.program_id(1)
    sum_NK = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    sum_N = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(part * BLOCK_M, rows, parts * BLOCK_M):
        row_M = start + tl.arange(0, BLOCK_M)
        g_MN = load_tile(
            g, row_M, column_N, offsets, rows, lines, N, out_segment, length, stride, step, dilation, False
        )
        x_MK = load_tile(
            x, row_M, column_K, offsets, rows, lines, K, in_segment, length, stride, step, dilation, SHIFT == "load"
        )
        sum_NK = multiply(tl.trans(g_MN), x_MK, sum_NK, PRECISION)
        sum_N += tl.sum(g_MN.to(tl.float32), axis=0)
    place_NK = part.to(tl.int64) * N * K + column_N[:, None] * K + column_K[None, :]
    tl.store(w_grad + place_NK, sum_NK, mask=(column_N < N)[:, None] & (column_K < K)[None, :])
    if tl.program_id(0) % tiles_K == 0:
        tl.store(b_grad + part * N + column_N, sum_N, mask=column_N < N)


class Shift:
    """Which positions the channels of a map `(batch, height, width, channels)` read."""

    def __init__(
        self, shape: torch.Size, axis: int, step: int, dilation: int, offsets: list[int] | None, device: torch.device
    ) -> None:
        self.length = shape[axis]
        self.stride = shape[2] if axis == 1 else 1
        self.step, self.dilation = step, dilation
        self.offsets = None if offsets is None else torch.tensor(offsets, dtype=torch.int32, device=device)


def precision() -> str:
    """How the products of float32 tensors round, as PyTorch is told to."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def aligned(w: Tensor) -> Tensor:
    """A weight whose rows start at multiples of 16 elements, with zeros after what was there.

    Otherwise its elements would be loaded one by one. Weights are small, so a copy costs little.
    """
    return F.pad(w, [0, -w.shape[1] % 16]) if w.shape[1] % 16 else w.contiguous()


def product(
    x_ALQS: Tensor,
    w: Tensor,
    b_N: Tensor | None,
    out_shape: tuple[int, int, int, int],
    *,
    transposed: bool = False,
    load_shift: Shift | None = None,
    store_shift: Shift | None = None,
    act: str = "none",
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """Multiply the axes L and S by a weight.

    Args:
        x_ALQS: contiguous.
        w: weight, `(columns out, columns in)`.
        b_N: bias, or None.
        out_shape: the output's four axes, of which the first and the third are those of the input.
        transposed: whether the weight is `(columns in, columns out)`.
        load_shift: how the input is shifted before the product.
        store_shift: how the output is shifted back after it.
        act: `"none"`, `"gelu"` or `"gelu_tanh"`.
        keep: whether what the activation is applied to is wanted as well.

    Returns:
        The output, contiguous, and what the activation is applied to, which has no elements if not kept.

    Raises:
        ValueError: when weight or bias do not fit the axes. The kernel would read what is not theirs.
    """
    N, K = w.shape[::-1] if transposed else w.shape
    if x_ALQS.shape[1] * x_ALQS.shape[3] != K or (b_N is not None and b_N.shape[0] != N):
        bias = "" if b_N is None else f" and a bias of {tuple(b_N.shape)}"
        raise ValueError(
            f"a weight of {(N, K)}{bias} do not map the {x_ALQS.shape[1] * x_ALQS.shape[3]} numbers that each line has"
        )
    y = torch.empty(out_shape, dtype=x_ALQS.dtype, device=x_ALQS.device)
    pre = torch.empty_like(y) if keep else x_ALQS.new_empty(0)
    outer, _, lines, segment = x_ALQS.shape
    rows = outer * lines
    shift = load_shift or store_shift
    if rows == 0:
        return y, pre
    w, b_N = aligned(w), None if b_N is None else b_N.contiguous()

    def grid(meta: dict[str, int]) -> tuple[int, ...]:
        return (triton.cdiv(rows, meta["BLOCK_M"]) * triton.cdiv(N, meta["BLOCK_N"]),)

    with torch.cuda.device_of(x_ALQS):
        wrap_triton(product_kernel)[grid](
            x_ALQS,
            w,
            b_N,
            y,
            pre if keep else None,
            shift.offsets if shift else None,
            rows,
            lines,
            K,
            N,
            segment,
            out_shape[3],
            *((1, w.stride(0)) if transposed else (w.stride(0), 1)),
            *(w.shape[::-1] if transposed else w.shape),
            shift.length if shift else 1,
            shift.stride if shift else 1,
            shift.step if shift else 1,
            shift.dilation if shift else 1,
            SHIFT="load" if load_shift else "store" if store_shift else "none",
            ACT=act,
            PRECISION=precision(),
        )
    return y, pre


PROGRAMS = 4 if INTERPRETED else 264
"""Programs that a sum over all rows is shared by: two for each multiprocessor of an H100 or H200."""


def weight_gradient(g_ALQS: Tensor, x_ALQS: Tensor, shift: Shift | None = None) -> tuple[Tensor, Tensor]:
    """Gradients of the weight and the bias of `product`, in the input's dtype.

    Every program sums a share of the rows, and the shares are added in a fixed order: the same input gives the same
    gradients, bit by bit.

    Args:
        g_ALQS: gradient of the output, contiguous.
        x_ALQS: the input, contiguous.
        shift: how the input is shifted before the product.

    Returns:
        `(columns out, columns in)` and `(columns out,)`.
    """
    outer, out_length, lines, out_segment = g_ALQS.shape
    in_segment = x_ALQS.shape[3]
    N, K = out_length * out_segment, x_ALQS.shape[1] * in_segment
    # Not by the number of rows: that may be a symbol while a compiler looks on.
    parts = max(1, PROGRAMS // (triton.cdiv(N, 64) * triton.cdiv(K, 64)))
    w_ZNK = torch.empty(parts, N, K, dtype=torch.float32, device=x_ALQS.device)
    b_ZN = torch.empty(parts, N, dtype=torch.float32, device=x_ALQS.device)

    def grid(meta: dict[str, int]) -> tuple[int, ...]:
        return (triton.cdiv(N, meta["BLOCK_N"]) * triton.cdiv(K, meta["BLOCK_K"]), parts)

    with torch.cuda.device_of(x_ALQS):
        wrap_triton(weight_gradient_kernel)[grid](
            g_ALQS,
            x_ALQS,
            w_ZNK,
            b_ZN,
            shift.offsets if shift else None,
            outer * lines,
            parts,
            lines,
            K,
            N,
            in_segment,
            out_segment,
            shift.length if shift else 1,
            shift.stride if shift else 1,
            shift.step if shift else 1,
            shift.dilation if shift else 1,
            SHIFT="load" if shift else "none",
            PRECISION=precision(),
        )
    return w_ZNK.sum(0).to(x_ALQS.dtype), b_ZN.sum(0).to(x_ALQS.dtype)
