"""The weighted sum of three branches in one pass, and its gradients in another.

The softmax over a channel's three logits is computed anew in every tile: three numbers a channel, where a tile has many
positions.

Shape suffixes: B batch, P positions, C channels, K the three branches, Z parts that a sum over positions is cut into.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="import-untyped, import-not-found"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlpzoo.ops._triton._define import operator, wrap_triton

TILE = 4096
"""Elements of a tile."""
POSITIONS = 256
"""Positions that one program of the gradient sums over, tile by tile."""


@triton.jit
def softmax_of_three(logits, image, channel_C, channels):
    """The weights of the branches, in float32; a channel's logits stand side by side."""
    first = logits + image.to(tl.int64) * 3 * channels + 3 * channel_C
    there_C = channel_C < channels
    h_C = tl.load(first, mask=there_C, other=0.0).to(tl.float32)
    w_C = tl.load(first + 1, mask=there_C, other=0.0).to(tl.float32)
    c_C = tl.load(first + 2, mask=there_C, other=0.0).to(tl.float32)
    largest_C = tl.maximum(h_C, tl.maximum(w_C, c_C))
    h_C, w_C, c_C = tl.exp(h_C - largest_C), tl.exp(w_C - largest_C), tl.exp(c_C - largest_C)
    sum_C = h_C + w_C + c_C
    return h_C / sum_C, w_C / sum_C, c_C / sum_C


@triton.jit
def reweighted_sum_kernel(h, w, c, logits, y, positions, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """One tile (P, C) of the sum."""
    tiles_C = tl.cdiv(channels, BLOCK_C)
    image = tl.program_id(1)
    position_P = tl.program_id(0) // tiles_C * BLOCK_P + tl.arange(0, BLOCK_P)
    channel_C = tl.program_id(0) % tiles_C * BLOCK_C + tl.arange(0, BLOCK_C)
    place_PC = (image.to(tl.int64) * positions + position_P)[:, None] * channels + channel_C[None, :]
    inside_PC = (position_P < positions)[:, None] & (channel_C < channels)[None, :]
    h_C, w_C, c_C = softmax_of_three(logits, image, channel_C, channels)
    sum_PC = tl.load(h + place_PC, mask=inside_PC, other=0.0).to(tl.float32) * h_C[None, :]
    sum_PC += tl.load(w + place_PC, mask=inside_PC, other=0.0).to(tl.float32) * w_C[None, :]
    sum_PC += tl.load(c + place_PC, mask=inside_PC, other=0.0).to(tl.float32) * c_C[None, :]
    tl.store(y + place_PC, sum_PC, mask=inside_PC)


@triton.jit
def branch_gradient(g_PC, branch, gradient, weight_C, place_PC, inside_PC):
    """Store the gradient of a branch; return that of its weight, from these positions."""
    tl.store(gradient + place_PC, g_PC * weight_C[None, :], mask=inside_PC)
    return tl.sum(g_PC * tl.load(branch + place_PC, mask=inside_PC, other=0.0).to(tl.float32), axis=0)


@triton.jit
def reweighted_sum_gradient_kernel(
    g,
    h,
    w,
    c,
    logits,
    h_grad,
    w_grad,
    c_grad,
    weight_grad,
    positions,
    share,
    parts,
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The gradients of the branches over a share of the positions, and that of the weights from there."""
    tiles_C = tl.cdiv(channels, BLOCK_C)
    image = tl.program_id(1)
    part = tl.program_id(0) // tiles_C
    channel_C = tl.program_id(0) % tiles_C * BLOCK_C + tl.arange(0, BLOCK_C)
    h_C, w_C, c_C = softmax_of_three(logits, image, channel_C, channels)
    h_sum_C = tl.zeros((BLOCK_C,), dtype=tl.float32)
    w_sum_C = tl.zeros((BLOCK_C,), dtype=tl.float32)
    c_sum_C = tl.zeros((BLOCK_C,), dtype=tl.float32)
    for start in range(part * share, tl.minimum(part * share + share, positions), BLOCK_P):
        position_P = start + tl.arange(0, BLOCK_P)
        place_PC = (image.to(tl.int64) * positions + position_P)[:, None] * channels + channel_C[None, :]
        inside_PC = (position_P < positions)[:, None] & (channel_C < channels)[None, :]
        g_PC = tl.load(g + place_PC, mask=inside_PC, other=0.0).to(tl.float32)
        h_sum_C += branch_gradient(g_PC, h, h_grad, h_C, place_PC, inside_PC)
        w_sum_C += branch_gradient(g_PC, w, w_grad, w_C, place_PC, inside_PC)
        c_sum_C += branch_gradient(g_PC, c, c_grad, c_C, place_PC, inside_PC)
    place_C = weight_grad + (image.to(tl.int64) * parts + part) * 3 * channels + 3 * channel_C
    there_C = channel_C < channels
    # Through the softmax: each weight times how far its gradient is from their mean under the weights.
    mean_C = h_sum_C * h_C + w_sum_C * w_C + c_sum_C * c_C
    tl.store(place_C, h_C * (h_sum_C - mean_C), mask=there_C)
    tl.store(place_C + 1, w_C * (w_sum_C - mean_C), mask=there_C)
    tl.store(place_C + 2, c_C * (c_sum_C - mean_C), mask=there_C)


def _blocks(channels: int) -> dict[str, int]:
    """Tiles as wide as the channels up to 128, which is 256 bytes of a half-precision row."""
    width = min(triton.next_power_of_2(channels), 128)
    return {"BLOCK_P": min(TILE // width, POSITIONS), "BLOCK_C": width}


def _fake_sum(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor) -> Tensor:
    return h_BHWC.new_empty(h_BHWC.shape)


@operator("reweighted_sum", _fake_sum)
def reweighted_sum(h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor) -> Tensor:
    """Add three branches, each channel weighted by a softmax over them."""
    batch, height, width, channels = h_BHWC.shape
    if not h_BHWC.shape == w_BHWC.shape == c_BHWC.shape or logits.shape != (batch, 3 * channels):
        shapes = ", ".join(str(tuple(x.shape)) for x in (h_BHWC, w_BHWC, c_BHWC, logits))
        raise ValueError(f"three branches of one shape want (batch, 3 × channels) logits; got {shapes}")
    y_BHWC = torch.empty_like(h_BHWC, memory_format=torch.contiguous_format)
    positions, blocks = height * width, _blocks(channels)
    if y_BHWC.numel() == 0:
        return y_BHWC
    tiles = triton.cdiv(positions, blocks["BLOCK_P"]) * triton.cdiv(channels, blocks["BLOCK_C"])
    with torch.cuda.device_of(h_BHWC):
        wrap_triton(reweighted_sum_kernel)[(tiles, batch)](
            h_BHWC.contiguous(),
            w_BHWC.contiguous(),
            c_BHWC.contiguous(),
            logits.contiguous(),
            y_BHWC,
            positions,
            channels,
            **blocks,
        )
    return y_BHWC


def _fake_gradients(
    g_BHWC: Tensor, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    h, w, c = (h_BHWC.new_empty(h_BHWC.shape) for _ in range(3))
    return h, w, c, logits.new_empty(logits.shape)


@operator("reweighted_sum_gradients", _fake_gradients)
def reweighted_sum_gradients(
    g_BHWC: Tensor, h_BHWC: Tensor, w_BHWC: Tensor, c_BHWC: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of every input of `reweighted_sum`."""
    batch, height, width, channels = h_BHWC.shape
    h, w, c = (torch.empty_like(h_BHWC, memory_format=torch.contiguous_format) for _ in range(3))
    if h.numel() == 0:
        return h, w, c, torch.zeros_like(logits)
    positions, blocks = height * width, _blocks(channels)
    parts = triton.cdiv(positions, POSITIONS)
    logits_BZ = torch.empty(batch, parts, 3 * channels, dtype=torch.float32, device=h.device)
    with torch.cuda.device_of(h):
        wrap_triton(reweighted_sum_gradient_kernel)[(parts * triton.cdiv(channels, blocks["BLOCK_C"]), batch)](
            g_BHWC.contiguous(),
            h_BHWC.contiguous(),
            w_BHWC.contiguous(),
            c_BHWC.contiguous(),
            logits.contiguous(),
            h,
            w,
            c,
            logits_BZ,
            positions,
            POSITIONS,
            parts,
            channels,
            **blocks,
        )
    return h, w, c, logits_BZ.sum(1).to(logits.dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return reweighted_sum_gradients(g, *ctx.saved_tensors)


reweighted_sum.register_autograd(_gradients, setup_context=_remember)
