"""Triton kernels of `trivd.ops.differences`; windows are (B, c, places, cells), cells innermost."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.library import launch

CHANNELS = 4  # of either kind in a block: each value that is read takes part in as many differences
CELLS = 64  # of a block
PLACES = 16  # of a block of gradients


@triton.jit
def _largest(
    now, before, result, places, cells, channels, PLACE: tl.constexpr, CHANNELS: tl.constexpr, CELLS: tl.constexpr
):
    """The largest difference of each pair of channels and cell, or its first place: -1 if it is not positive."""
    blocks = tl.cdiv(channels, CHANNELS)
    sample = tl.program_id(0).to(tl.int64)
    j = (tl.program_id(1) // blocks * CHANNELS + tl.arange(0, CHANNELS))[:, None, None]
    i = (tl.program_id(1) % blocks * CHANNELS + tl.arange(0, CHANNELS))[None, :, None]
    cell = (tl.program_id(2) * CELLS + tl.arange(0, CELLS))[None, None, :]
    of_before, of_now = (j < channels) & (cell < cells), (i < channels) & (cell < cells)
    row_before = (sample * channels + j) * places * cells + cell
    row_now = (sample * channels + i) * places * cells + cell
    most = wide(tl.zeros((CHANNELS, CHANNELS, CELLS), now.dtype.element_ty)) - float("inf")
    at = tl.zeros((CHANNELS, CHANNELS, CELLS), tl.int32)
    for place in range(places):
        a = wide(tl.load(now + row_now + place * cells, mask=of_now, other=0))
        b = wide(tl.load(before + row_before + place * cells, mask=of_before, other=0))
        difference = wide((a - b).to(now.dtype.element_ty))  # rounded first: it decides which are equal
        better = (difference > most) | (difference != difference)
        most = tl.where(better, difference, most)
        at = tl.where(better, place, at)
    target = result + ((sample * channels + j) * channels + i) * cells + cell
    if PLACE:
        tl.store(target, tl.where(most > 0, at, -1), mask=of_now & of_before)
    else:
        most = tl.maximum(most, 0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(target, most, mask=of_now & of_before)


@triton.jit
def _add_gradients(
    gradient, at, for_now, for_before, places, cells, channels, PLACES: tl.constexpr, CELLS: tl.constexpr
):
    """Gradients of a block of a channel's places and cells: the first half of programs for now, the others before."""
    samples = tl.num_programs(0) // 2
    of_now = tl.program_id(0) < samples
    sample = (tl.program_id(0) % samples).to(tl.int64)
    blocks = tl.cdiv(places, PLACES)
    channel = tl.program_id(1) // blocks
    place = (tl.program_id(1) % blocks * PLACES + tl.arange(0, PLACES))[:, None]
    cell = (tl.program_id(2) * CELLS + tl.arange(0, CELLS))[None, :]
    # Of pairs (j, i), i is the channel now and j the one before.
    own, other = tl.where(of_now, 1, channels), tl.where(of_now, channels, 1)
    start = (sample * channels * channels + channel * own) * cells + cell
    total = wide(tl.zeros((PLACES, CELLS), gradient.dtype.element_ty))
    for pair in range(channels):
        row = start + other.to(tl.int64) * pair * cells
        chosen = tl.load(at + row, mask=cell < cells, other=-1)
        value = wide(tl.load(gradient + row, mask=cell < cells, other=0))
        total += tl.where(chosen == place, value, 0)
    target = ((sample * channels + channel) * places + place) * cells + cell
    inside = (place < places) & (cell < cells)
    if of_now:
        tl.store(for_now + target, total, mask=inside)
    else:
        tl.store(for_before + target, -total, mask=inside)


def _compare(now: Tensor, before: Tensor, result: Tensor) -> Tensor:
    """Write to `result` (B, c, c, cells): the largest differences, or their places if it has integers."""
    samples, channels, places, cells = now.shape
    block = min(CELLS, triton.next_power_of_2(cells))
    launch(
        _largest,
        (samples, triton.cdiv(channels, CHANNELS) ** 2, triton.cdiv(cells, block)),
        *(now, before, result, places, cells, channels),
        PLACE=not result.is_floating_point(),
        CHANNELS=CHANNELS,
        CELLS=block,
    )
    return result


def pooled_differences(now: Tensor, before: Tensor) -> Tensor:
    samples, channels, _, cells = now.shape
    return _compare(now.contiguous(), before.contiguous(), now.new_empty(samples, channels, channels, cells))


def pooled_differences_backward(gradient: Tensor, now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    gradient, now, before = gradient.contiguous(), now.contiguous(), before.contiguous()
    samples, channels, places, cells = now.shape
    at = _compare(now, before, now.new_empty(gradient.shape, dtype=torch.int16 if places < 2**15 else torch.int32))
    for_now, for_before = torch.empty_like(now), torch.empty_like(before)
    tile = {
        "PLACES": min(PLACES, triton.next_power_of_2(places)),
        "CELLS": min(CELLS, triton.next_power_of_2(cells)),
    }
    grid = 2 * samples, channels * triton.cdiv(places, tile["PLACES"]), triton.cdiv(cells, tile["CELLS"])
    launch(_add_gradients, grid, gradient, at, for_now, for_before, places, cells, channels, **tile)
    return for_now, for_before
