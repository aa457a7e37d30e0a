"""What the kernels share: types of sums, and sizes of blocks."""

import triton
import triton.language as tl

BUSY = 264  # programs that keep a large GPU busy: two for each of its processors
LARGEST_BLOCK = 1024  # elements that a program of four warps computes at once


@triton.jit
def wide(x):
    """x in the type of sums: float64 as it is, all else in float32."""
    return x if x.dtype == tl.float64 else x.to(tl.float32)


def block_of(elements: int) -> int:
    """Elements of a block, a power of two: the largest with which there are programs enough to keep a GPU busy."""
    block = LARGEST_BLOCK
    while block > 128 and elements < BUSY * block:
        block //= 2
    return block


def tile_of(rows: int, channels: int) -> tuple[int, int]:
    """Rows and channels of a block of a matrix (rows, channels) whose channels are innermost; powers of two."""
    across = min(triton.next_power_of_2(channels), 256)
    return max(1, min(block_of(rows * channels) // across, triton.next_power_of_2(rows))), across
