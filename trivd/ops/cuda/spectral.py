"""Triton kernels of `trivd.ops.spectral`, each for all weights of a network at once.

A weight is a matrix of `rows` rows, channels of the input innermost. Its address and sizes are read in a table on the
device, and so is, for each program, the weight that it works on. Both are made once for the same weights: a CUDA graph
reads them again at every replay.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.library import launch
from trivd.ops.precision import exact_dtype
from trivd.ops.spectral import SMALLEST, as_matrix, padded

# Rows of the table of sizes.
_ROWS: tl.constexpr = tl.constexpr(0)
_COLUMNS: tl.constexpr = tl.constexpr(1)
_INPUTS: tl.constexpr = tl.constexpr(2)
_LEFT: tl.constexpr = tl.constexpr(3)  # where in the vectors u of all weights
_RIGHT: tl.constexpr = tl.constexpr(4)
_FLAT: tl.constexpr = tl.constexpr(5)  # where in the normalised weights
_PARTIAL: tl.constexpr = tl.constexpr(6)  # where in the partial sums of W^T u
_FIRST: tl.constexpr = tl.constexpr(7)  # first program, of the kernel's way to divide the work

_CHUNK: tl.constexpr = tl.constexpr(64)  # rows that a program adds up for W^T u
_ACROSS: tl.constexpr = tl.constexpr(256)  # columns for which it does
_DOWN: tl.constexpr = tl.constexpr(4)  # rows of W v
_BLOCK: tl.constexpr = tl.constexpr(2048)  # elements


@triton.jit
def _size(sizes, layers, row: tl.constexpr, layer):
    return tl.load(sizes + row * layers + layer)


@triton.jit
def _address(addresses, layer, like):
    """The weight's first element; all are aligned to 16 bytes."""
    return tl.multiple_of(tl.load(addresses + layer).to(like.dtype), 16)


@triton.jit
def _count(sizes, layers, layer, UNIT: tl.constexpr):
    """Elements of the weight; all have a multiple of UNIT, so that loads of that many are whole."""
    count = _size(sizes, layers, _ROWS, layer) * _size(sizes, layers, _COLUMNS, layer)
    return tl.multiple_of(count.to(tl.int32), UNIT)


@triton.jit
def _flat(sizes, layers, layer):
    """Where the normalised weight begins."""
    return tl.multiple_of(tl.load(sizes + _FLAT * layers + layer), 128)


@triton.jit
def _transposed_products(addresses, lefts, like, left_like, sizes, owners, layers, partials):
    """Partial sums of W^T u over some rows."""
    layer = tl.load(owners + tl.program_id(0))
    weight = _address(addresses, layer, like)
    left = tl.load(lefts + layer).to(left_like.dtype)
    rows, columns = _size(sizes, layers, _ROWS, layer), _size(sizes, layers, _COLUMNS, layer)
    program = tl.program_id(0) - _size(sizes, layers, _FIRST, layer)
    blocks = tl.cdiv(columns, _ACROSS)
    column = program % blocks * _ACROSS + tl.arange(0, _ACROSS)
    chunk = program // blocks
    total = tl.full((16, _ACROSS), 0, partials.dtype.element_ty)
    for start in range(0, _CHUNK, 16):
        row = (chunk * _CHUNK + start + tl.arange(0, 16))[:, None]
        u = wide(tl.load(left + row, mask=row < rows, other=0))
        inside = (row < rows) & (column < columns)[None, :]
        total += u * wide(tl.load(weight + row * columns + column[None, :], mask=inside, other=0))
    target = _size(sizes, layers, _PARTIAL, layer) + chunk * columns + column
    tl.store(partials + target, tl.sum(total, 0), mask=column < columns)


@triton.jit
def _add_chunks(sizes, owners, layers, partials, rights):
    """W^T u, not yet of unit length."""
    layer = tl.load(owners + tl.program_id(0))
    rows, columns = _size(sizes, layers, _ROWS, layer), _size(sizes, layers, _COLUMNS, layer)
    program = tl.program_id(0) - _size(sizes, layers, _FIRST, layer)
    column = program * _ACROSS + tl.arange(0, _ACROSS)
    source = partials + _size(sizes, layers, _PARTIAL, layer) + column
    total = tl.full((_ACROSS,), 0, partials.dtype.element_ty)
    for chunk in range(tl.cdiv(rows, _CHUNK)):
        total += tl.load(source + chunk * columns, mask=column < columns, other=0)
    tl.store(rights + _size(sizes, layers, _RIGHT, layer) + column, total, mask=column < columns)


@triton.jit
def _products(addresses, like, sizes, owners, layers, rights, lefts):
    """W v of the v that is not yet of unit length."""
    layer = tl.load(owners + tl.program_id(0))
    weight = _address(addresses, layer, like)
    rows, columns = _size(sizes, layers, _ROWS, layer), _size(sizes, layers, _COLUMNS, layer)
    program = tl.program_id(0) - _size(sizes, layers, _FIRST, layer)
    row = program * _DOWN + tl.arange(0, _DOWN)
    right = rights + _size(sizes, layers, _RIGHT, layer)
    total = tl.full((_DOWN, 1024), 0, rights.dtype.element_ty)
    for start in range(0, columns, 1024):
        column = start + tl.arange(0, 1024)
        v = tl.load(right + column, mask=column < columns, other=0)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        total += v[None, :] * wide(tl.load(weight + row[:, None] * columns + column[None, :], mask=inside, other=0))
    tl.store(lefts + _size(sizes, layers, _LEFT, layer) + row, tl.sum(total, 1), mask=row < rows)


@triton.jit
def _length(values, count):
    total = tl.full((_BLOCK,), 0, values.dtype.element_ty)
    for start in range(0, count, _BLOCK):
        place = start + tl.arange(0, _BLOCK)
        x = tl.load(values + place, mask=place < count, other=0)
        total += x * x
    return tl.sqrt(tl.sum(total, 0))


@triton.jit
def _unit(sizes, layers, raw_lefts, raw_rights, lefts, rights, turned, sigmas, SMALLEST: tl.constexpr):
    """One program a weight: both vectors of unit length, v in both orders, and sigma."""
    layer = tl.program_id(0)
    rows, columns = _size(sizes, layers, _ROWS, layer), _size(sizes, layers, _COLUMNS, layer)
    inputs = _size(sizes, layers, _INPUTS, layer)
    first_left, first_right = _size(sizes, layers, _LEFT, layer), _size(sizes, layers, _RIGHT, layer)
    length = tl.maximum(_length(raw_rights + first_right, columns), SMALLEST)
    sigma = tl.maximum(_length(raw_lefts + first_left, rows) / length, SMALLEST)
    tl.store(sigmas + layer, sigma)
    for start in range(0, rows, _BLOCK):
        place = start + tl.arange(0, _BLOCK)
        u = tl.load(raw_lefts + first_left + place, mask=place < rows, other=0)
        tl.store(lefts + first_left + place, u / length / sigma, mask=place < rows)
    for start in range(0, columns, _BLOCK):
        place = start + tl.arange(0, _BLOCK)
        v = tl.load(raw_rights + first_right + place, mask=place < columns, other=0) / length
        tl.store(rights + first_right + place, v, mask=place < columns)
        inverse = place % inputs * (columns // inputs) + place // inputs  # (*kernel, in) -> (in, *kernel)
        tl.store(turned + first_right + inverse, v, mask=place < columns)


@triton.jit
def _divide(addresses, like, sizes, owners, layers, sigmas, result, UNIT: tl.constexpr):
    """W / sigma, and zeros between one weight and the next."""
    layer = tl.load(owners + tl.program_id(0))
    count = _count(sizes, layers, layer, UNIT)
    program = tl.program_id(0) - _size(sizes, layers, _FIRST, layer).to(tl.int32)
    place = program * _BLOCK + tl.arange(0, _BLOCK)
    w = wide(tl.load(_address(addresses, layer, like) + place, mask=place < count, other=0))
    target = result + _flat(sizes, layers, layer)
    tl.store(target + place, w / tl.load(sigmas + layer), mask=place < tl.cdiv(count, 128) * 128)


@triton.jit
def _inner_products(addresses, like, sizes, owners, layers, gradient, sums, UNIT: tl.constexpr):
    """Partial sums of <G, W>."""
    layer = tl.load(owners + tl.program_id(0))
    count = _count(sizes, layers, layer, UNIT)
    program = tl.program_id(0) - _size(sizes, layers, _FIRST, layer).to(tl.int32)
    place = program * _BLOCK + tl.arange(0, _BLOCK)
    w = wide(tl.load(_address(addresses, layer, like) + place, mask=place < count, other=0))
    source = gradient + _flat(sizes, layers, layer)
    g = wide(tl.load(source + place, mask=place < count, other=0))
    tl.store(sums + tl.program_id(0), tl.sum(g * w, 0))


@triton.jit
def _divide_backward(sizes, owners, layers, gradient, sums, lefts, rights, sigmas, result, UNIT: tl.constexpr):
    """(G - <G, W> / sigma u v^T) / sigma, and zeros between one weight and the next."""
    layer = tl.load(owners + tl.program_id(0))
    columns, count = _size(sizes, layers, _COLUMNS, layer).to(tl.int32), _count(sizes, layers, layer, UNIT)
    first = _size(sizes, layers, _FIRST, layer).to(tl.int32)
    total = tl.full((_BLOCK,), 0, sums.dtype.element_ty)
    programs = tl.cdiv(count, _BLOCK)
    for start in range(0, programs, _BLOCK):
        part = start + tl.arange(0, _BLOCK)
        total += tl.load(sums + first + part, mask=part < programs, other=0)
    sigma = tl.load(sigmas + layer)
    slope = tl.sum(total, 0) / sigma
    place = (tl.program_id(0) - first) * _BLOCK + tl.arange(0, _BLOCK)
    inside = place < count
    flat = _flat(sizes, layers, layer)
    g = wide(tl.load(gradient + flat + place, mask=inside, other=0))
    u = tl.load(lefts + _size(sizes, layers, _LEFT, layer) + place // columns, mask=inside, other=0)
    v = tl.load(rights + _size(sizes, layers, _RIGHT, layer) + place % columns, mask=inside, other=0)
    tl.store(result + flat + place, (g - u * slope * v) / sigma, mask=place < tl.cdiv(count, 128) * 128)


Shapes = tuple[torch.Size, ...]


def _shapes(weights: Sequence[Tensor]) -> Shapes:
    return tuple(weight.shape for weight in weights)


@functools.cache
def _addresses(places: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=device)


def _addresses_of(tensors: Sequence[Tensor]) -> Tensor:
    return _addresses(tuple(tensor.data_ptr() for tensor in tensors), tensors[0].device)


# Ways to divide the work on a matrix among programs: how many there are.


def _by_chunk(rows: int, columns: int) -> int:
    return triton.cdiv(rows, _CHUNK.value) * _by_column(rows, columns)


def _by_column(rows: int, columns: int) -> int:
    return triton.cdiv(columns, _ACROSS.value)


def _by_row(rows: int, columns: int) -> int:
    return triton.cdiv(rows, _DOWN.value)


def _by_element(rows: int, columns: int) -> int:
    return triton.cdiv(rows * columns, _BLOCK.value)


@functools.cache
def _division(shapes: Shapes, programs_of: Callable[[int, int], int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The table of sizes (8, layers), and the weight that each program works on."""
    sizes: list[list[int]] = []
    owners: list[int] = []
    left = right = flat = partial = 0
    for layer, (rows, inputs, *kernel) in enumerate(shapes):
        columns = inputs * torch.Size(kernel).numel()
        sizes.append([rows, columns, inputs, left, right, flat, partial, len(owners)])
        left, right, flat = left + rows, right + columns, flat + padded(rows * columns)
        partial += triton.cdiv(rows, _CHUNK.value) * columns
        owners += [layer] * programs_of(rows, columns)
    table = torch.tensor(sizes, dtype=torch.int64, device=device).mT.contiguous()
    return table, torch.tensor(owners, dtype=torch.int32, device=device)


def _unit_of(weights: Sequence[Tensor]) -> int:
    """The largest power of two up to 8 that divides all numbers of elements."""
    return math.gcd(8, *(weight.numel() for weight in weights))


def spectral_iterate(weights: Sequence[Tensor], lefts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    device, exact, layers = weights[0].device, exact_dtype(weights[0]), len(weights)
    matrices, before = [as_matrix(weight).contiguous() for weight in weights], [left.contiguous() for left in lefts]
    rows, columns = (sum(matrix.shape[side] for matrix in matrices) for side in (0, 1))
    sums = sum(triton.cdiv(len(matrix), _CHUNK.value) * matrix.shape[1] for matrix in matrices)

    def vector(count: int) -> Tensor:
        return torch.empty(count, dtype=exact, device=device)

    partials, raw_rights, raw_lefts, sigmas = vector(sums), vector(columns), vector(rows), vector(layers)
    u, v, turned = vector(rows), vector(columns), vector(columns)
    addresses, like = _addresses_of(matrices), matrices[0]
    sizes, owners = _division(_shapes(weights), _by_chunk, device)
    launch(
        _transposed_products,
        (len(owners),),
        *(addresses, _addresses_of(before), like, before[0], sizes, owners, layers, partials),
    )
    sizes, owners = _division(_shapes(weights), _by_column, device)
    launch(_add_chunks, (len(owners),), sizes, owners, layers, partials, raw_rights)
    sizes, owners = _division(_shapes(weights), _by_row, device)
    launch(_products, (len(owners),), addresses, like, sizes, owners, layers, raw_rights, raw_lefts)
    launch(_unit, (layers,), sizes, layers, raw_lefts, raw_rights, u, v, turned, sigmas, SMALLEST=SMALLEST)
    return u, v, turned, sigmas


def spectral_divide(weights: Sequence[Tensor], sigmas: Tensor, dtype: torch.dtype) -> Tensor:
    matrices = [as_matrix(weight).contiguous() for weight in weights]
    result = weights[0].new_empty(sum(padded(weight.numel()) for weight in weights), dtype=dtype)
    sizes, owners = _division(_shapes(weights), _by_element, result.device)
    addresses, unit = _addresses_of(matrices), _unit_of(weights)
    launch(
        _divide,
        (len(owners),),
        addresses,
        matrices[0],
        sizes,
        owners,
        len(weights),
        sigmas.contiguous(),
        result,
        UNIT=unit,
    )
    return result


def spectral_divide_backward(
    gradient: Tensor, weights: Sequence[Tensor], lefts: Tensor, rights: Tensor, sigmas: Tensor
) -> Tensor:
    matrices, layers = [as_matrix(weight).contiguous() for weight in weights], len(weights)
    gradient, lefts, rights, sigmas = (value.contiguous() for value in (gradient, lefts, rights, sigmas))
    result = torch.empty_like(gradient, dtype=weights[0].dtype)
    sizes, owners = _division(_shapes(weights), _by_element, result.device)
    grid, sums = (len(owners),), torch.empty(len(owners), dtype=exact_dtype(result), device=result.device)
    addresses, unit = _addresses_of(matrices), _unit_of(weights)
    launch(_inner_products, grid, addresses, matrices[0], sizes, owners, layers, gradient, sums, UNIT=unit)
    launch(_divide_backward, grid, sizes, owners, layers, gradient, sums, lefts, rights, sigmas, result, UNIT=unit)
    return result
