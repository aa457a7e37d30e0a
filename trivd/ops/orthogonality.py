"""The orthogonality penalty of many weights (E.2; Brock et al. 2019).

An autograd function and no operator of its own: it is made of PyTorch's matrix products, which profiles name already.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trivd.ops.cuda import library


def off_diagonal_penalty(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Sum over weights W (as matrices of one row per output) of |W W^T, off the diagonal|^2.

    Its gradient, 4 (W W^T, off the diagonal) W, takes half of the products of autograd's.

    Args:
        weights: (out, in, *kernel) each.
        dtype: of the products; squares are summed in the weights' type.

    Returns:
        a scalar.
    """
    function = _OffDiagonalTogether if library.fused(weights[0]) else _OffDiagonal
    penalty: Tensor = function.apply(dtype, *weights)
    return penalty


class _OffDiagonal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        matrices, grams, norms, penalties = [], [], [], []
        for weight in weights:
            matrix = _as_matrix(weight)
            if len(matrix) <= matrix.shape[1]:
                matrix = matrix.to(dtype)
                gram = matrix @ matrix.mT
                gram.diagonal().zero_()
                norm = None
                penalty = _squares(gram, weight.dtype)
            else:  # |W W^T| = |W^T W|, which is smaller; the diagonal of W W^T holds the rows' norms
                gram = matrix.mT @ matrix
                norm = (matrix * matrix).sum(dim=1, keepdim=True)
                penalty = _squares(gram, weight.dtype) - _squares(norm, weight.dtype)
            matrices.append(matrix)
            grams.append(gram)
            norms.append(norm)
            penalties.append(penalty)
        ctx.save_for_backward(*weights)
        ctx.products = matrices, grams, norms
        return torch.stack(penalties).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        results = []
        for weight, matrix, gram, norm in zip(ctx.saved_tensors, *ctx.products, strict=True):
            result = gram @ matrix if norm is None else torch.addcmul(matrix @ gram, norm, matrix, value=-1)
            results.append(_as_weight(result.to(weight.dtype), weight))
        scale = 4 * gradient
        return None, *(scale * result for result in results)


def _squares(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum of x's squares, in `dtype`."""
    values = x.to(dtype).flatten()
    return torch.dot(values, values)


class _OffDiagonalTogether(torch.autograd.Function):
    """The same with a few passes over all weights beside the products: on a GPU, each launch has its price."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        matrices = _flat(weights, dtype)
        torch._foreach_copy_(matrices, list(map(_as_matrix, weights)))
        wide = [len(matrix) <= matrix.shape[1] for matrix in matrices]
        sizes = tuple(min(matrix.shape) for matrix in matrices)
        flat = torch.empty(sum(size**2 for size in sizes), dtype=dtype, device=weights[0].device)
        parts = flat.split([size**2 for size in sizes])
        grams = [part.view(size, size) for part, size in zip(parts, sizes, strict=True)]
        for gram, matrix, is_wide in zip(grams, matrices, wide, strict=True):
            torch.mm(*((matrix, matrix.mT) if is_wide else (matrix.mT, matrix)), out=gram)
        of_wide = tuple(size if is_wide else 0 for size, is_wide in zip(sizes, wide, strict=True))
        flat.index_fill_(0, _diagonals(sizes, of_wide, flat.device), 0)
        penalty = _sum_of_squares(grams, weights[0].dtype)
        norms = [None if w else (m * m).sum(dim=1, keepdim=True) for m, w in zip(matrices, wide, strict=True)]
        if tall := [norm for norm in norms if norm is not None]:
            penalty -= _sum_of_squares(tall, weights[0].dtype)
        ctx.save_for_backward(*weights)
        ctx.products = matrices, grams, norms
        return penalty

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights = ctx.saved_tensors
        products = [
            gram @ matrix if norm is None else torch.addcmul(matrix @ gram, norm, matrix, value=-1)
            for matrix, gram, norm in zip(*ctx.products, strict=True)
        ]
        results = _flat(weights, weights[0].dtype)
        torch._foreach_copy_(results, products)
        torch._foreach_mul_(results, 4 * gradient)
        return None, *map(_as_weight, results, weights)


def _flat(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Empty matrices of the weights' sizes, in one piece of memory."""
    shapes = [_as_matrix(weight).shape for weight in weights]
    whole = torch.empty(sum(shape.numel() for shape in shapes), dtype=dtype, device=weights[0].device)
    parts = whole.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@functools.cache
def _diagonals(sizes: tuple[int, ...], wanted: tuple[int, ...], device: torch.device) -> Tensor:
    """Places of the first `wanted` elements of each diagonal in square matrices that lie one after the other."""
    places, first = [], 0
    for size, count in zip(sizes, wanted, strict=True):
        places.append(first + (size + 1) * torch.arange(count))
        first += size**2
    return torch.cat(places).to(device)


def _sum_of_squares(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
    norms = torch._foreach_norm(tensors, 2, dtype)
    return torch.stack(norms).square().sum()


def _as_matrix(weight: Tensor) -> Tensor:
    """(out, in, *kernel) -> (out, *kernel x in), the columns in any order: no copy of channels_last weights."""
    return weight.movedim(1, -1).flatten(1)


def _as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """A matrix of `_as_matrix` in the shape of its weight."""
    return matrix.view(weight.movedim(1, -1).shape).movedim(-1, 1)
