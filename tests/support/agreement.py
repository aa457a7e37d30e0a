"""How tests compare a module of trivd with its plain form in `reference`: the same weights, values and gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reference.blocks import FrameNorm
from reference.layers import plain_names
from trivd.models.spectral_norm import SpectralNorm


def scramble(module: nn.Module, dtype: torch.dtype = torch.float64, scale: float = 0.3) -> nn.Module:
    """Random weights and biases of several scales, in evaluation mode: no weight is orthogonal, no bias zero."""
    module = module.to(dtype).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    for layer in module.modules():
        if isinstance(layer, SpectralNorm):
            layer.power_iteration(1)
    return module


def settle(module: nn.Module) -> nn.Module:
    """The module with exact singular vectors: in PyTorch power iterations begin with the right ones, in trivd left."""
    for layer in module.modules():
        if isinstance(layer, SpectralNorm):
            left, _, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
            layer.left.copy_(left[:, 0])
            layer.right.copy_(right[0])
    return module


def use_batch_statistics(module: nn.Module) -> None:
    """Let all normalisations in a module of either kind read their batch, though spectral norms stay as they are."""
    for norm in module.modules():
        if isinstance(norm, FrameNorm):
            norm.training = True
        elif hasattr(norm, "collect"):
            norm.collect(True)


def plainly(plain: nn.Module, ours: nn.Module) -> Callable[..., Any]:
    """The function of the plain module with the very parameters of ours, so that gradients reach these."""
    plain.train(ours.training)
    return lambda *inputs: functional_call(plain, plain_names(ours.state_dict(keep_vars=True)), inputs, strict=True)


def assert_same(
    actual: Sequence[Tensor], expected: Sequence[Tensor], sources: Sequence[Tensor], deep: bool = False
) -> None:
    """The tensors agree to 1e-9, and so do the gradients of a random functional of them w.r.t. `sources`.

    In deep networks small values are differences of large ones: theirs may differ by 1e-9 of their tensor's largest.
    """
    directions = [torch.randn_like(tensor) for tensor in expected]
    gradients = []
    for tensors in (actual, expected):
        functional = sum((t * d).sum() for t, d in zip(tensors, directions, strict=True))
        gradients.append(torch.autograd.grad(functional, sources))  # raises if a source was not used
    for a, e in zip([*actual, *gradients[0]], [*expected, *gradients[1]], strict=True):
        largest = max(1.0, e.detach().abs().max().item()) if deep else 1.0
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9 * largest)


def average_pool(x: Tensor, size: int = 2) -> Tensor:
    """Means of size x size pixels of the two last dimensions."""
    return x.unflatten(-1, (-1, size)).unflatten(-3, (-1, size)).mean((-3, -1))
