"""Triton kernels of `trivd.ops.gates`; features are matrices of one row per position, channels innermost."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import block_of, wide
from trivd.ops.cuda.library import launch
from trivd.ops.operator import channels_innermost, empty

_RELU: tl.constexpr = tl.constexpr(1)  # places in trivd.ops.gates.ACTIVATIONS
_SIGMOID: tl.constexpr = tl.constexpr(2)
_TANH: tl.constexpr = tl.constexpr(3)


@triton.jit
def _activated(x, activation: tl.constexpr):
    if activation == _RELU:
        x = tl.maximum(x, 0, propagate_nan=tl.PropagateNan.ALL)
    elif activation == _SIGMOID:
        x = 1 / (1 + tl.exp(-x))
    elif activation == _TANH:
        x = 1 - 2 / (tl.exp(2 * x) + 1)
    return x


@triton.jit
def _slope(y, activation: tl.constexpr):
    """The activation's derivative, from its value."""
    if activation == _RELU:
        y = tl.where(y > 0, 1.0, 0.0).to(y.dtype)
    elif activation == _SIGMOID:
        y = y * (1 - y)
    elif activation == _TANH:
        y = 1 - y * y
    else:
        y = tl.full(y.shape, 1, y.dtype)
    return y


@triton.jit
def _activate(
    raw,
    given,
    parts,
    channels: tl.constexpr,
    activations: tl.constexpr,
    rows,
    width,
    HAS_GIVEN: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    first = 0
    block = tl.program_id(1)
    for part in tl.static_range(len(channels)):
        if (block >= 0) & (block * ACROSS < channels[part]):
            channel = block * ACROSS + tl.arange(0, ACROSS)[None, :]
            inside = (row < rows) & (channel < channels[part])
            place = row * width + first + channel
            x = wide(tl.load(raw + place, mask=inside, other=0))
            if HAS_GIVEN:
                x += wide(tl.load(given + place, mask=inside, other=0))
            tl.store(parts[part] + row * channels[part] + channel, _activated(x, activations[part]), mask=inside)
        first += channels[part]
        block -= tl.cdiv(channels[part], ACROSS)


@triton.jit
def _activate_backward(
    gradients,
    parts,
    result,
    channels: tl.constexpr,
    activations: tl.constexpr,
    given: tl.constexpr,
    rows,
    width,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    first = 0
    block = tl.program_id(1)
    for part in tl.static_range(len(channels)):
        if (block >= 0) & (block * ACROSS < channels[part]):
            channel = block * ACROSS + tl.arange(0, ACROSS)[None, :]
            inside = (row < rows) & (channel < channels[part])
            place = row * channels[part] + channel
            if given[part]:
                y = wide(tl.load(parts[part] + place, mask=inside, other=0))
                g = wide(tl.load(gradients[part] + place, mask=inside, other=0)) * _slope(y, activations[part])
            else:
                g = tl.zeros((ROWS, ACROSS), tl.float32)
            tl.store(result + row * width + first + channel, g, mask=inside)
        first += channels[part]
        block -= tl.cdiv(channels[part], ACROSS)


@triton.jit
def _mix(content, past, gate, result, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    c = wide(tl.load(content + place, mask=inside, other=0))
    p = wide(tl.load(past + place, mask=inside, other=0))
    u = wide(tl.load(gate + place, mask=inside, other=0))
    tl.store(result + place, c + u * (p - c), mask=inside)


@triton.jit
def _mix_backward(gradient, content, past, gate, for_content, for_past, for_gate, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    g = wide(tl.load(gradient + place, mask=inside, other=0))
    c = wide(tl.load(content + place, mask=inside, other=0))
    p = wide(tl.load(past + place, mask=inside, other=0))
    u = wide(tl.load(gate + place, mask=inside, other=0))
    tl.store(for_content + place, g - g * u, mask=inside)
    tl.store(for_past + place, g * u, mask=inside)
    tl.store(for_gate + place, g * (p - c), mask=inside)


def _tile(rows: int, channels: Sequence[int]) -> tuple[int, int, int]:
    """Blocks of channels of all parts, each a program's; rows and channels of one."""
    across = min(triton.next_power_of_2(max(channels)), 128)
    down = max(1, block_of(rows * sum(channels)) // across)
    return sum(triton.cdiv(count, across) for count in channels), down, across


def activate(raw: Tensor, given: Tensor | None, channels: Sequence[int], activations: Sequence[int]) -> list[Tensor]:
    raw = channels_innermost(raw)
    given = None if given is None else channels_innermost(given)
    parts = [empty(raw, count) for count in channels]
    rows, width = raw.numel() // raw.shape[1], raw.shape[1]
    blocks, down, across = _tile(rows, channels)
    launch(
        _activate,
        (triton.cdiv(rows, down), blocks),
        *(raw, given, tuple(parts), tuple(channels), tuple(activations), rows, width),
        HAS_GIVEN=given is not None,
        ROWS=down,
        ACROSS=across,
    )
    return parts


def activate_backward(
    gradients: Sequence[Tensor | None], parts: Sequence[Tensor], activations: Sequence[int]
) -> Tensor:
    parts = [channels_innermost(part) for part in parts]
    given = tuple(gradient is not None for gradient in gradients)
    # A pointer of the right type stands for a gradient of zeros, which is not read.
    read = [part if g is None else channels_innermost(g) for g, part in zip(gradients, parts, strict=True)]
    channels = tuple(part.shape[1] for part in parts)
    result = empty(parts[0], sum(channels))
    rows, width = result.numel() // result.shape[1], result.shape[1]
    blocks, down, across = _tile(rows, channels)
    launch(
        _activate_backward,
        (triton.cdiv(rows, down), blocks),
        *(tuple(read), tuple(parts), result, channels, tuple(activations), given, rows, width),
        ROWS=down,
        ACROSS=across,
    )
    return result


def mix(content: Tensor, past: Tensor, gate: Tensor) -> Tensor:
    content, past, gate = map(channels_innermost, (content, past, gate))
    result = torch.empty_like(content)
    count, block = result.numel(), block_of(result.numel())
    launch(_mix, (triton.cdiv(count, block),), content, past, gate, result, count, BLOCK=block)
    return result


def mix_backward(gradient: Tensor, content: Tensor, past: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    tensors = tuple(map(channels_innermost, (gradient, content, past, gate)))
    results = torch.empty_like(tensors[0]), torch.empty_like(tensors[0]), torch.empty_like(tensors[0])
    count, block = results[0].numel(), block_of(results[0].numel())
    launch(_mix_backward, (triton.cdiv(count, block),), *tensors, *results, count, BLOCK=block)
    return results
