"""Spectral normalisation, of many layers at once: apart, each would cost a dozen small operations per pass."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Keep autocast away from sums that bfloat16 would spoil; shape-only devices have none."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


class SpectralNorm(nn.Module):
    """A weight divided by an estimate of its largest singular value (Zhang et al. 2019; paper A and E.2).

    Each training-mode use makes one power iteration; evaluation uses the last estimate. Weights start orthogonal.

    Args:
        shape: of the weight, (out, in, *kernel); it is normalised as a matrix of `out` rows.
        bias: whether to learn an offset of shape (out,), which starts at zero.
    """

    left: Tensor
    right: Tensor

    def __init__(self, shape: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        rows, columns = self.weight.flatten(1).shape
        self.register_buffer("left", torch.empty(rows))
        self.register_buffer("right", torch.empty(columns))
        if not self.weight.is_meta:  # where torch would load its compiler, for seconds, to compute nothing
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw an orthogonal weight, and make one power iteration from random vectors."""
        nn.init.orthogonal_(self.weight)
        for vector in (self.left, self.right):
            vector.copy_(F.normalize(torch.randn_like(vector), dim=0))
        self.power_iteration(1)

    def power_iteration(self, iterations: int) -> None:
        """Improve the estimate of the singular vectors, in place."""
        with full_precision(self.weight):
            _iterate([self], [_matrix(self.weight.detach())], iterations)

    def normalized_weight(self) -> Tensor:
        """The weight with largest singular value about 1; differentiable, in the weight's own type.

        Within `normalized` it is the same at each use.
        """
        ready = _READY.get().get(self)
        return _normalize([self])[0] if ready is None else ready


_Estimates = tuple[list[Tensor], list[Tensor], list[Tensor]]  # u, v and sigma of every layer

# The weights of the forward pass under way: not an attribute of the layers, which several threads may be using.
_READY: ContextVar[Mapping[SpectralNorm, Tensor]] = ContextVar("normalised weights", default=MappingProxyType({}))


@contextlib.contextmanager
def normalized(*modules: nn.Module) -> Iterator[None]:
    """Within, the layers of these modules use weights that were normalised once, all together: for a forward pass."""
    ready = dict(_READY.get())
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, SpectralNorm)]
    for training in (True, False):
        group = [layer for layer in layers if layer.training == training and layer not in ready]
        if group:
            ready |= zip(group, _normalize(group), strict=True)
    with use_normalized(ready):
        yield


@contextlib.contextmanager
def use_normalized(ready: Mapping[SpectralNorm, Tensor]) -> Iterator[None]:
    """Within, `ready` are the normalised weights."""
    token = _READY.set(ready)
    try:
        yield
    finally:
        _READY.reset(token)


def normalized_now() -> Mapping[SpectralNorm, Tensor]:
    """The normalised weights of the pass under way, for what is computed again later."""
    return _READY.get()


def _matrix(weight: Tensor) -> Tensor:
    """(out, in, *kernel) -> (out, *kernel x in), a view of weights that lie channels last."""
    return weight if weight.dim() == 2 else weight.movedim(1, -1).flatten(1)


def _right(layer: SpectralNorm) -> Tensor:
    """A view of the right singular vector, of order (in, *kernel), as (*kernel, in): as the matrix' columns are."""
    return layer.right if layer.weight.dim() == 2 else layer.right.view(layer.weight.shape[1:]).movedim(0, -1)


def _unit(vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The vectors divided by their lengths, and these."""
    lengths = list(torch.stack(torch._foreach_norm(vectors)).clamp_min(1e-12).unbind())
    return list(torch._foreach_div(vectors, lengths)), lengths


@torch.no_grad()
def _iterate(layers: Sequence[SpectralNorm], matrices: Sequence[Tensor], iterations: int) -> _Estimates:
    """u, v and sigma = u^T W v of the layers after at least one power iteration, which is also stored."""
    lefts = [layer.left for layer in layers]
    for _ in range(iterations):
        rights, _ = _unit([matrix.mT @ u for matrix, u in zip(matrices, lefts, strict=True)])
        lefts, sigmas = _unit([matrix @ v for matrix, v in zip(matrices, rights, strict=True)])  # u is along W v
    stored = [_right(layer) for layer in layers]
    torch._foreach_copy_([layer.left for layer in layers], lefts)
    torch._foreach_copy_(stored, [v.view(view.shape) for v, view in zip(rights, stored, strict=True)])
    return lefts, rights, sigmas


def _normalize(layers: Sequence[SpectralNorm]) -> tuple[Tensor, ...]:
    """The weights of layers that are all in training or all in evaluation mode, each divided by its sigma."""
    with full_precision(layers[0].weight):
        matrices = [_matrix(layer.weight.detach()) for layer in layers]
        if layers[0].training:
            estimates = _iterate(layers, matrices, 1)
        else:  # clones, since the next power iteration overwrites what backward will read
            lefts = [layer.left.clone() for layer in layers]
            rights = [_right(layer).flatten().clone() for layer in layers]
            sigmas = [u @ (matrix @ v) for matrix, u, v in zip(matrices, lefts, rights, strict=True)]
            estimates = lefts, rights, sigmas
        weights: tuple[Tensor, ...] = _Divide.apply(matrices, estimates, *(layer.weight for layer in layers))
    return weights


class _Divide(torch.autograd.Function):
    """W / sigma of several weights, sigma = u^T W v.

    With the gradient G of W / sigma, that of W is (G - <G, W> / sigma u v^T) / sigma.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Sequence[Tensor], estimates: _Estimates, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*matrices)
        ctx.set_materialize_grads(False)  # a pass may not use all layers
        ctx.estimates = estimates
        return tuple(torch._foreach_div(weights, estimates[2]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        results: list[Tensor | None] = []
        for gradient, matrix, u, v, sigma in zip(gradients, ctx.saved_tensors, *ctx.estimates, strict=True):
            if gradient is None:
                results.append(None)
                continue
            flat = _matrix(gradient)
            slope = torch.dot(flat.flatten(), matrix.flatten()) / sigma
            result = torch.addr(flat, u * slope, v, alpha=-1).div_(sigma)
            if gradient.dim() > 2:
                result = result.unflatten(1, (*gradient.shape[2:], gradient.shape[1])).movedim(-1, 1)
            results.append(result)
        return None, None, *results
