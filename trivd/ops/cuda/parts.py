"""Rows of features divided among programs, and their mean and variance, taken in parts."""

import triton
import triton.language as tl

from trivd.ops.cuda.arithmetic import BUSY, wide

ELEMENTS = 2048  # of a tile of features: 16 to each thread of four warps
PARTIAL = (64, 16)  # rows and channels of a tile of partial sums
PROGRAMS = 4 * BUSY  # that keep enough reads under way


class Division:
    """How matrices of rows are divided among programs: in parts of so many tiles of rows, and tiles of channels."""

    def __init__(self, matrices: int, rows: int, channels: int) -> None:
        across = channels & -channels  # without remainder where that leaves rows of 64 bytes
        self.across = min(across if across >= 32 else triton.next_power_of_2(channels), 128)
        self.down = min(ELEMENTS // self.across, triton.next_power_of_2(rows))
        columns, tiles = triton.cdiv(channels, self.across), triton.cdiv(rows, self.down)
        self.tiles = triton.cdiv(tiles, triton.cdiv(PROGRAMS, max(1, matrices * columns)))
        self.parts = triton.cdiv(tiles, self.tiles)
        self.grid = (matrices, self.parts, columns)

    @property
    def constants(self) -> dict[str, int]:
        return {"ROWS": self.down, "ACROSS": self.across}


def partial_grid(rows: int, channels: int) -> tuple[int, int]:
    """Programs that each add up the partial sums of a row, for PARTIAL[1] channels."""
    return rows, triton.cdiv(channels, PARTIAL[1])


@triton.jit
def part_of_rows(rows, tiles, ROWS: tl.constexpr):
    """The first row of this program's part of a matrix, and its number of rows."""
    first = tl.program_id(1) * tiles * ROWS
    return first, tl.minimum(tiles * ROWS, rows - first)


@triton.jit
def statistics_of_parts(x, means, squares, rows, channels, tiles, ROWS: tl.constexpr, ACROSS: tl.constexpr):
    """Mean and sum of squared deviations of each part of a frame's rows, (T, parts, C)."""
    first, count = part_of_rows(rows, tiles, ROWS)
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)
    start = x + (tl.program_id(0).to(tl.int64) * rows + first) * channels
    mean = tl.zeros((ROWS, ACROSS), means.dtype.element_ty)
    square = tl.zeros((ROWS, ACROSS), means.dtype.element_ty)
    number = tl.zeros((1, 1), means.dtype.element_ty)
    for tile in range(tl.cdiv(count, ROWS)):  # Welford's recurrence in each lane
        number += 1
        row = tile * ROWS + lane
        inside = (row < count) & (channel < channels)[None, :]
        value = wide(tl.load(start + row.to(tl.int64) * channels + channel[None, :], mask=inside, other=0))
        step = tl.where(inside, value - mean, 0)
        mean += step * (1 / number)
        square += step * (value - mean)
    taken = tl.maximum((count - lane + ROWS - 1) // ROWS, 0)  # values of each lane
    whole = tl.sum(mean * taken, axis=0) / count
    apart = mean - whole[None, :]
    total = tl.sum(square + apart * apart * taken, axis=0)
    place = (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * channels + channel
    tl.store(means + place, whole, mask=channel < channels)
    tl.store(squares + place, total, mask=channel < channels)


@triton.jit
def combine_parts(
    means, squares, mean, variance, rows, most, parts, channels, ROWS: tl.constexpr, ACROSS: tl.constexpr
):
    """Mean and variance of frames from those of their parts (Chan et al. 1979), of `most` rows each but the last."""
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    start = tl.program_id(0).to(tl.int64) * parts * channels + channel
    total = tl.zeros((ROWS, ACROSS), mean.dtype.element_ty)
    for first in range(0, parts, ROWS):
        part = first + lane
        inside = (part < parts) & (channel < channels)
        count = tl.minimum(most, rows - part * most)
        total += tl.load(means + start + part * channels, mask=inside, other=0) * count
    whole = tl.sum(total, axis=0)[None, :] / rows
    total = tl.zeros((ROWS, ACROSS), mean.dtype.element_ty)
    for first in range(0, parts, ROWS):
        part = first + lane
        inside = (part < parts) & (channel < channels)
        count = tl.minimum(most, rows - part * most)
        apart = tl.load(means + start + part * channels, mask=inside, other=0) - whole
        square = tl.load(squares + start + part * channels, mask=inside, other=0)
        total += tl.where(inside, square + apart * apart * count, 0)
    place = tl.program_id(0).to(tl.int64) * channels + channel
    tl.store(mean + place, whole, mask=channel < channels)
    tl.store(variance + place, tl.sum(total, axis=0)[None, :] / rows, mask=channel < channels)
