"""Triton kernels of `trivd.ops.crop`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import block_of
from trivd.ops.cuda.library import launch


@triton.jit
def _window(
    source,
    result,
    tops,
    lefts,
    planes,  # of a sample: frames x channels
    height,
    width,  # of the source
    rows,
    columns,  # of the result
    count,
    INVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each pixel of the result read in the source at its place plus the window's, or minus it; beyond it is zero."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    plane = place // (rows * columns)
    top = tl.load(tops + plane // planes, mask=inside, other=0)
    left = tl.load(lefts + plane // planes, mask=inside, other=0)
    if INVERSE:
        top, left = -top, -left
    row = place // columns % rows + top
    column = place % columns + left
    read = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    x = tl.load(source + (plane * height + row) * width + column, mask=read, other=0)
    tl.store(result + place, x, mask=inside)


def _cut(source: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int, *, inverse: bool) -> Tensor:
    source, tops, lefts = source.contiguous(), tops.contiguous(), lefts.contiguous()
    result = torch.empty((*source.shape[:3], height, width), dtype=source.dtype, device=source.device)
    planes, count = source.shape[1] * source.shape[2], result.numel()
    block = block_of(count)
    sizes = planes, *source.shape[3:], height, width, count
    launch(_window, (triton.cdiv(count, block),), source, result, tops, lefts, *sizes, INVERSE=inverse, BLOCK=block)
    return result


def crop(video: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    return _cut(video, tops, lefts, height, width, inverse=False)


def crop_backward(gradient: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    return _cut(gradient, tops, lefts, height, width, inverse=True)
