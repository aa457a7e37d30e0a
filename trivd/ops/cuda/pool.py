"""Triton kernels of `trivd.ops.pool`; features are matrices of one row per position, channels innermost."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.library import launch
from trivd.ops.operator import channels_innermost

ELEMENTS = 1024  # of a block
WARP = 256  # elements to each warp
_NOWHERE: tl.constexpr = tl.constexpr(2**31 - 1)


@triton.jit
def _pooled_features(
    x, pooled, places, height, width, channels, SIZE: tl.constexpr, ROWS: tl.constexpr, ACROSS: tl.constexpr
):
    """A program for each image, window, and block of channels."""
    image, window = tl.program_id(0).to(tl.int64), tl.program_id(1)
    top, left = window // SIZE * height // SIZE, window % SIZE * width // SIZE
    high = tl.cdiv((window // SIZE + 1) * height, SIZE) - top
    broad = tl.cdiv((window % SIZE + 1) * width, SIZE) - left
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)[None, :]
    lane = tl.arange(0, ROWS)[:, None]
    start = x + image * height * width * channels + channel
    most = wide(tl.zeros((ROWS, ACROSS), x.dtype.element_ty)) - float("inf")
    place = tl.full((ROWS, ACROSS), _NOWHERE, tl.int32)
    for first in range(0, high * broad, ROWS):
        number = first + lane
        position = (top + number // broad) * width + left + number % broad
        inside = (number < high * broad) & (channel < channels)
        value = wide(tl.load(start + position.to(tl.int64) * channels, mask=inside, other=0))
        better = inside & ((value > most) | (value != value) | (place == _NOWHERE))
        most = tl.where(better, value, most)
        place = tl.where(better, position, place)
    # A value that is not a number is passed on; as infinity it takes part in the comparison.
    numbers = tl.where(most != most, float("inf"), most)
    largest = tl.max(numbers, axis=0)[None, :]
    first_place = tl.min(tl.where(numbers == largest, place, _NOWHERE), axis=0)[None, :]
    largest = tl.where(tl.max((most != most).to(tl.int32), axis=0)[None, :] > 0, float("nan"), largest)
    inside = channel < channels
    result = tl.maximum(largest, 0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(pooled + (image * channels + channel) * SIZE * SIZE + window, result, mask=inside)
    chosen = tl.where(largest > 0, first_place, -1)
    tl.store(places + (image * SIZE * SIZE + window) * channels + channel, chosen, mask=inside)


@triton.jit
def _pooled_features_backward(
    gradient,
    places,
    for_x,
    height,
    width,
    channels,
    SIZE: tl.constexpr,
    DOWN: tl.constexpr,
    RIGHT: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """A program for each image and block of positions and channels; DOWN x RIGHT windows at most share a position."""
    image = tl.program_id(0).to(tl.int64)
    position = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)[None, :]
    inside = (position < height * width) & (channel < channels)
    top, left = position // width * SIZE // height, position % width * SIZE // width  # of the first windows there
    total = wide(tl.zeros((ROWS, ACROSS), gradient.dtype.element_ty))
    for down in tl.static_range(DOWN):
        for right in tl.static_range(RIGHT):
            window = (top + down) * SIZE + left + right
            there = inside & (top + down < SIZE) & (left + right < SIZE)
            place = tl.load(places + (image * SIZE * SIZE + window) * channels + channel, mask=there, other=-1)
            taken = there & (place == position)
            total += wide(tl.load(gradient + (image * channels + channel) * SIZE * SIZE + window, mask=taken, other=0))
    row = image * height * width + position
    tl.store(for_x + row * channels + channel, total, mask=inside)


def _tile(rows: int, channels: int) -> dict[str, int]:
    """Sizes of blocks of up to so many rows, and the warps that compute one."""
    across = min(triton.next_power_of_2(channels), 64)
    down = min(triton.next_power_of_2(rows), ELEMENTS // across)
    return {"ROWS": down, "ACROSS": across, "num_warps": max(1, down * across // WARP)}


def _sharing(length: int, size: int) -> int:
    """How many windows at most share a place."""
    bounds = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    return max(sum(first <= place < end for first, end in bounds) for place in {first for first, _ in bounds})


def pooled_features(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    x = channels_innermost(x)
    batch, channels, height, width = x.shape
    pooled = x.new_empty(batch, channels * size**2)
    places = x.new_empty(batch, size**2, channels, dtype=torch.int32)
    tile = _tile((-(-height // size)) * (-(-width // size)), channels)
    grid = batch, size**2, triton.cdiv(channels, tile["ACROSS"])
    launch(_pooled_features, grid, x, pooled, places, height, width, channels, SIZE=size, **tile)
    return pooled, places


def pooled_features_backward(gradient: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    gradient, places = gradient.contiguous(), places.contiguous()
    batch, windows, channels = places.shape
    size = round(windows**0.5)
    for_x = gradient.new_empty(batch, height, width, channels).movedim(3, 1)
    tile = _tile(height * width, channels)
    grid = batch, triton.cdiv(height * width, tile["ROWS"]), triton.cdiv(channels, tile["ACROSS"])
    shared = {"DOWN": _sharing(height, size), "RIGHT": _sharing(width, size)}
    launch(
        _pooled_features_backward, grid, gradient, places, for_x, height, width, channels, SIZE=size, **shared, **tile
    )
    return for_x
