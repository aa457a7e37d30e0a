"""Spectrally normalised weights, of one layer or of all layers of a forward pass together (paper A and E.2)."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.ops.precision import compute_dtype, full_precision
from trivd.ops.spectral import Estimates, as_matrix, divide, estimate, fit_together, iterate, normalize_together


class SpectralNorm(nn.Module):
    """A weight divided by an estimate of its largest singular value (Zhang et al. 2019; paper A and E.2).

    Each training-mode use makes one power iteration; evaluation uses the last estimate. Weights start orthogonal.

    Args:
        shape: of the weight, (out, in, *kernel); it is normalised as a matrix of `out` rows.
        bias: whether to learn an offset of shape (out,), which starts at zero.
    """

    left: Tensor
    right: Tensor
    exact = True  # whether its weight is used in its own type, else in that of convolutions

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
            for _ in range(iterations):
                _iterate([self], [as_matrix(self.weight.detach())])

    def normalized_weight(self) -> Tensor:
        """The weight with largest singular value about 1; differentiable, in the weight's own type.

        Within `normalized` it is the same at each use, and on a GPU in the type of convolutions if not `exact`.
        """
        ready = _READY.get().get(self)
        return _normalize([self])[0] if ready is None else ready


# The weights of the forward pass under way: not an attribute of the layers, which several threads may be using.
_READY: ContextVar[Mapping[SpectralNorm, Tensor]] = ContextVar("normalised weights", default=MappingProxyType({}))


@contextlib.contextmanager
def normalized(*modules: nn.Module) -> Iterator[None]:
    """Normalise all layers of these modules at once; in the context they use those weights: one forward pass."""
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
    """In the context, layers use these weights and make no power iteration."""
    token = _READY.set(ready)
    try:
        yield
    finally:
        _READY.reset(token)


def normalized_now() -> Mapping[SpectralNorm, Tensor]:
    """The normalised weights of the pass under way, for what is computed again later."""
    return _READY.get()


def _right_view(layer: SpectralNorm) -> Tensor:
    """A view of the right singular vector, of order (in, *kernel), as (*kernel, in): as the matrix' columns are."""
    return layer.right if layer.weight.dim() == 2 else layer.right.view(layer.weight.shape[1:]).movedim(0, -1)


@torch.no_grad()
def _iterate(layers: Sequence[SpectralNorm], matrices: Sequence[Tensor]) -> Estimates:
    """The layers' estimates after one power iteration, whose vectors they keep."""
    found = iterate(matrices, [layer.left for layer in layers])
    views = [_right_view(layer) for layer in layers]
    torch._foreach_copy_([layer.left for layer in layers], found.lefts)
    torch._foreach_copy_(views, [v.view(view.shape) for v, view in zip(found.rights, views, strict=True)])
    return found


def _normalize(layers: Sequence[SpectralNorm]) -> tuple[Tensor, ...]:
    """The normalised weights of layers that are all in training or all in evaluation mode."""
    if layers[0].training and fit_together([layer.weight for layer in layers]):
        return _normalize_together(layers)
    with full_precision(layers[0].weight):
        matrices = [as_matrix(layer.weight.detach()) for layer in layers]
        if layers[0].training:
            estimates = _iterate(layers, matrices)
        else:  # clones, since the next power iteration overwrites what backward will read
            lefts = [layer.left.clone() for layer in layers]
            estimates = estimate(matrices, lefts, [_right_view(layer).flatten().clone() for layer in layers])
        return divide([layer.weight for layer in layers], matrices, estimates)


def _normalize_together(layers: Sequence[SpectralNorm]) -> tuple[Tensor, ...]:
    """The normalised weights after one power iteration, in the types in which they are used."""
    low = compute_dtype(layers[0].weight)
    ordered = sorted(layers, key=lambda layer: layer.exact)
    with full_precision(layers[0].weight):
        weights = normalize_together(
            [layer.weight for layer in ordered],
            [layer.left for layer in ordered],
            [layer.right for layer in ordered],
            [layer.weight.dtype if layer.exact else low for layer in ordered],
        )
    ready = dict(zip(ordered, weights, strict=True))
    return tuple(ready[layer] for layer in layers)
