"""Spectral normalisation of many weights at once: apart, each would cost a dozen small operations per pass.

These are autograd functions and no operators of their own: they consist of PyTorch's fused ones over lists, which
profiles name already, and which compile and export pass through.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST = 1e-12  # length of a vector, by which it is divided


class Estimates(NamedTuple):
    """Singular vectors u and v, and sigma = u^T W v, of each of several weights."""

    lefts: list[Tensor]
    rights: list[Tensor]
    sigmas: list[Tensor]


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in, *kernel) -> (out, *kernel x in), a view of weights that lie channels last."""
    return weight if weight.dim() == 2 else weight.movedim(1, -1).flatten(1)


def iterate(matrices: Sequence[Tensor], lefts: list[Tensor]) -> Estimates:
    """One power iteration from the left singular vectors (Zhang et al. 2019)."""
    rights, _ = _unit([matrix.mT @ u for matrix, u in zip(matrices, lefts, strict=True)])
    lefts, sigmas = _unit([matrix @ v for matrix, v in zip(matrices, rights, strict=True)])  # u is along W v
    return Estimates(lefts, rights, sigmas)


def estimate(matrices: Sequence[Tensor], lefts: list[Tensor], rights: list[Tensor]) -> Estimates:
    """The estimates of given singular vectors."""
    sigmas = [u @ (matrix @ v) for matrix, u, v in zip(matrices, lefts, rights, strict=True)]
    return Estimates(lefts, rights, sigmas)


def divide(weights: Sequence[Tensor], matrices: Sequence[Tensor], estimates: Estimates) -> tuple[Tensor, ...]:
    """Each weight divided by its sigma = u^T W v, where u and v count as constants.

    With the gradient G of W / sigma, that of W is (G - <G, W> / sigma u v^T) / sigma.

    Args:
        weights: differentiable.
        matrices: `as_matrix` of each, detached.
        estimates: of each.
    """
    normalized: tuple[Tensor, ...] = _Divide.apply(matrices, estimates, *weights)
    return normalized


def _unit(vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The vectors divided by their lengths, and these."""
    lengths = list(torch.stack(torch._foreach_norm(vectors)).clamp_min(SMALLEST).unbind())
    return list(torch._foreach_div(vectors, lengths)), lengths


class _Divide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrices: Sequence[Tensor], estimates: Estimates, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*matrices)
        ctx.set_materialize_grads(False)  # a pass may not use all layers
        ctx.estimates = estimates
        return tuple(torch._foreach_div(weights, estimates.sigmas))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        results: list[Tensor | None] = []
        for gradient, matrix, u, v, sigma in zip(gradients, ctx.saved_tensors, *ctx.estimates, strict=True):
            if gradient is None:
                results.append(None)
                continue
            flat = as_matrix(gradient)
            slope = torch.dot(flat.flatten(), matrix.flatten()) / sigma
            result = torch.addr(flat, u * slope, v, alpha=-1).div_(sigma)
            if gradient.dim() > 2:
                result = result.unflatten(1, (*gradient.shape[2:], gradient.shape[1])).movedim(-1, 1)
            results.append(result)
        return None, None, *results
