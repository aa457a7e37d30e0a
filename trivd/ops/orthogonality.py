"""The orthogonality penalty of many weights (E.2; Brock et al. 2019).

An autograd function and no operator of its own: it is made of PyTorch's matrix products, which profiles name already.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def off_diagonal_penalty(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Sum over weights W (as matrices of one row per output) of |W W^T, off the diagonal|^2.

    Its gradient, 4 (W W^T, off the diagonal) W, takes half of the products of autograd's.

    Args:
        weights: (out, in, *kernel) each.
        dtype: of the products; squares are summed in the weights' type.

    Returns:
        a scalar.
    """
    penalty: Tensor = _OffDiagonal.apply(dtype, *weights)
    return penalty


class _OffDiagonal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        matrices, grams, norms, penalties = [], [], [], []
        for weight in weights:
            matrix = weight.movedim(1, -1).flatten(1)  # in any order of columns; this is no copy of channels_last ones
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
            results.append(result.to(weight.dtype).view(weight.movedim(1, -1).shape).movedim(-1, 1))
        scale = 4 * gradient
        return None, *(scale * result for result in results)


def _squares(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum of x's squares, in `dtype`."""
    values = x.to(dtype).flatten()
    return torch.dot(values, values)
