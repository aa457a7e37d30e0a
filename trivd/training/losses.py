"""The losses of appendix E: geometric hinge, orthogonality, and the optional reconstruction regulariser."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.models.layers import ClassEmbedding, SpectralNorm, full_precision


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Eq 13: mean over all outputs of relu(1 + D(G(z))) + relu(1 - D(x))."""
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Eq 14: minus the mean of all outputs."""
    return -fake.mean()


def orthogonality_penalty(module: nn.Module, dtype: torch.dtype | None = None) -> Tensor:
    """Sum over weights W (as matrices of one row per output) of |W W^T, off the diagonal|^2 (E.2; Brock et al. 2019).

    It covers every linear and convolution with spectral norm and the first affine, but not the class embedding, whose
    rows are not meant to be orthogonal.

    Args:
        module: whose weights are meant.
        dtype: of W W^T, which for wide layers takes as long as the discriminators' convolutions; its squares are summed
            in the weights' type. None: that of the weights.

    Returns:
        a scalar.
    """
    weights = [
        layer.weight
        for layer in module.modules()
        if isinstance(layer, (SpectralNorm, nn.Linear)) and not isinstance(layer, ClassEmbedding)
    ]
    with full_precision(weights[0]):
        penalty: Tensor = _OffDiagonal.apply(dtype or weights[0].dtype, *weights)
    return penalty


class _OffDiagonal(torch.autograd.Function):
    """The penalty of several weights; the gradient 4 (W W^T, off the diagonal) W takes half of autograd's products."""

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


def reconstruction_l1(samples: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference between the truth and the mean of n samples, as DGMR's grid-cell regulariser.

    Args:
        samples: (n, B, T, C, H, W).
        truth: (B, T, C, H, W).
    """
    return (samples.mean(dim=0) - truth).abs().mean()
