"""Triton kernels of `trivd.ops.softmax`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import block_of, wide
from trivd.ops.cuda.library import launch


@triton.jit
def softmax_rows(x, valid):
    """Softmax of each row (ROWS, WIDTH) over the columns that are valid."""
    x = tl.where(valid, x, -float("inf"))
    shares = tl.exp(x - tl.max(x, axis=1, keep_dims=True))
    return shares / tl.sum(shares, axis=1, keep_dims=True)


@triton.jit
def softmax_slope(gradient, y):
    """Gradient of each row's logits, from that of y = softmax(logits)."""
    weighted = gradient * y
    return weighted - y * tl.sum(weighted, axis=1, keep_dims=True)


@triton.jit
def _softmax(x, result, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < width)
    values = wide(tl.load(x + row * width + column, mask=inside, other=0))
    tl.store(result + row * width + column, softmax_rows(values, column < width), mask=inside)


@triton.jit
def _softmax_backward(gradient, y, result, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (column < width)
    g = wide(tl.load(gradient + row * width + column, mask=inside, other=0))
    values = wide(tl.load(y + row * width + column, mask=inside, other=0))
    tl.store(result + row * width + column, softmax_slope(g, values), mask=inside)


def _by_rows(kernel: object, *tensors: Tensor) -> None:
    """Run a kernel on contiguous tensors (..., width)."""
    count, width = tensors[0].numel(), tensors[0].shape[-1]
    rows, across = count // max(width, 1), triton.next_power_of_2(width)
    down = max(1, block_of(count) // across)
    launch(kernel, (triton.cdiv(rows, down),), *tensors, rows, width, ROWS=down, WIDTH=across)


def softmax(x: Tensor) -> Tensor:
    x = x.contiguous()
    result = torch.empty_like(x)
    _by_rows(_softmax, x, result)
    return result


def softmax_backward(gradient: Tensor, y: Tensor) -> Tensor:
    gradient, y = gradient.contiguous(), y.contiguous()
    result = torch.empty_like(y)
    _by_rows(_softmax_backward, gradient, y, result)
    return result
