"""Spectral normalisation of many weights at once: apart, each would cost a dozen small operations per pass.

On a CPU these are autograd functions and no operators of their own: they consist of PyTorch's fused ones over lists,
which profiles name already, and which compile and export pass through. On a GPU, `normalize_together` reads and writes
all weights in a few kernels.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.ops.cuda import library
from trivd.ops.operator import Operator
from trivd.ops.precision import exact_dtype

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


# All layers of a network on a GPU

ALIGNED = 128  # elements: where the weights begin that lie one after the other, since libraries want them aligned
ADDRESS = 16  # bytes, of which all weights' addresses must be a multiple


def fit_together(weights: Sequence[Tensor]) -> bool:
    """Whether `normalize_together` may be used: on a GPU, for weights of one type in the layout of training."""
    return not torch.compiler.is_compiling() and all(  # compiled, tensors have no addresses
        library.fused(weight, "spectral")
        and weight.dtype == weights[0].dtype
        and weight.movedim(1, -1).is_contiguous()
        and weight.data_ptr() % ADDRESS == 0
        for weight in weights
    )


def normalize_together(
    weights: Sequence[Tensor], lefts: Sequence[Tensor], rights: Sequence[Tensor], dtypes: Sequence[torch.dtype]
) -> list[Tensor]:
    """Each weight divided by its sigma after one power iteration, in one of `dtypes`: `iterate` and `divide`.

    Args:
        weights: differentiable, which `fit_together`. Those of one type should follow each other.
        lefts: singular vectors u, updated in place.
        rights: singular vectors v of order (in, *kernel), updated in place.
        dtypes: of the results.
    """
    rows = [len(weight) for weight in weights]
    columns = [weight[0].numel() for weight in weights]
    with torch.no_grad():
        u, v, turned, sigmas = _iterate([weight.detach() for weight in weights], list(lefts))
        torch._foreach_copy_([*lefts, *rights], [*u.split(rows), *turned.split(columns)])
    results: list[Tensor] = []
    for dtype, group in groupby(range(len(weights)), dtypes.__getitem__):
        first, *_, last = [*group] * 2
        us, vs = (
            vector[sum(lengths[:first]) : sum(lengths[: last + 1])] for vector, lengths in ((u, rows), (v, columns))
        )
        results += _DivideTogether.apply(dtype, us, vs, sigmas[first : last + 1], *weights[first : last + 1])
    return results


def padded(count: int) -> int:
    """Elements from the beginning of one weight of `count` elements to that of the next."""
    return -(-count // ALIGNED) * ALIGNED


def _views(flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The parts of `flat` as weights of these shapes and strides."""
    views, first = [], 0
    for weight in weights:
        views.append(flat.as_strided(weight.shape, weight.stride(), first))
        first += padded(weight.numel())
    return views


class _DivideTogether(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, lefts: Tensor, rights: Tensor, sigmas: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(lefts, rights, sigmas, *weights)
        ctx.set_materialize_grads(False)  # a pass may not use all layers
        ctx.dtype = dtype
        return tuple(_views(_divide(list(weights), sigmas, dtype), weights))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        lefts, rights, sigmas, *weights = ctx.saved_tensors
        together = weights[0].new_empty(sum(padded(weight.numel()) for weight in weights), dtype=ctx.dtype)
        targets, sources = [], []
        for view, gradient in zip(_views(together, weights), gradients, strict=True):
            if gradient is None:
                view.zero_()
            else:  # flat: axes of length 1 may have any stride, and unequal ones would be copied one by one
                targets.append(as_matrix(view).view(-1))
                sources.append(as_matrix(gradient).reshape(-1))
        torch._foreach_copy_(targets, sources)
        results = _views(_divide_backward(together, weights, lefts, rights, sigmas), weights)
        return (
            None,
            None,
            None,
            None,
            *(None if gradient is None else result for result, gradient in zip(results, gradients, strict=True)),
        )


# The plain form of its operators


def plain_iterate(weights: Sequence[Tensor], lefts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Singular vectors u and v of all weights one after the other, v in the order (in, *kernel) too, and sigmas."""
    exact = exact_dtype(weights[0])
    found = iterate([as_matrix(weight).to(exact) for weight in weights], [left.to(exact) for left in lefts])
    turned = [v.view(-1, w.shape[1]).mT.flatten() for v, w in zip(found.rights, weights, strict=True)]
    return torch.cat(found.lefts), torch.cat(found.rights), torch.cat(turned), torch.stack(found.sigmas)


def plain_divide(weights: Sequence[Tensor], sigmas: Tensor, dtype: torch.dtype) -> Tensor:
    """All weights / sigma, (out, *kernel, in) of each, one after the other with zeros up to a multiple of ALIGNED."""
    divided = [as_matrix(w) / sigma for w, sigma in zip(weights, sigmas.unbind(), strict=True)]
    return _side_by_side(divided).to(dtype)


def plain_divide_backward(
    gradient: Tensor, weights: Sequence[Tensor], lefts: Tensor, rights: Tensor, sigmas: Tensor
) -> Tensor:
    """Gradient of the weights, from that of `plain_divide`'s result, in the same order."""
    exact = exact_dtype(weights[0])
    matrices = [as_matrix(weight).to(exact) for weight in weights]
    parts = gradient.to(exact).split([padded(matrix.numel()) for matrix in matrices])
    us, vs = (
        vectors.split([matrix.shape[side] for matrix in matrices]) for side, vectors in enumerate((lefts, rights))
    )
    results = []
    for part, matrix, u, v, sigma in zip(parts, matrices, us, vs, sigmas.unbind(), strict=True):
        g = part[: matrix.numel()].view_as(matrix)
        results.append((g - (g * matrix).sum() / sigma * torch.outer(u, v)) / sigma)
    return _side_by_side(results).to(weights[0].dtype)


def _side_by_side(matrices: Sequence[Tensor]) -> Tensor:
    flat = [matrix.reshape(-1) for matrix in matrices]
    return torch.cat([F.pad(values, (0, padded(len(values)) - len(values))) for values in flat])


def _fake_iterate(weights: Sequence[Tensor], lefts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    rows, columns = sum(len(weight) for weight in weights), sum(weight[0].numel() for weight in weights)
    exact = exact_dtype(weights[0])
    return tuple(weights[0].new_empty(count, dtype=exact) for count in (rows, columns, columns, len(weights)))


def _fake_divide(weights: Sequence[Tensor], sigmas: Tensor, dtype: torch.dtype) -> Tensor:
    return weights[0].new_empty(sum(padded(weight.numel()) for weight in weights), dtype=dtype)


_iterate = Operator("spectral_iterate", plain_iterate, _fake_iterate)
_divide = Operator("spectral_divide", plain_divide, _fake_divide)
_divide_backward = Operator(
    "spectral_divide_backward",
    plain_divide_backward,
    lambda gradient, weights, *_: torch.empty_like(gradient, dtype=weights[0].dtype),
)
