"""Warping by what the hyper-networks predict, softmaxes and mix included (Eq 12 and 11), as one operation on a GPU.

There it replaces four, and keeps no weights in memory.
"""

from typing import Any

import torch
from torch import Tensor

from trivd.ops.operator import Operator, channels_innermost, empty
from trivd.ops.softmax import plain_softmax_backward
from trivd.ops.warp import plain_warp, plain_warp_backward


def mixed_warp(
    h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool = False
) -> Tensor:
    """Warp features by the softmaxes of logits.

    What fills up selection and kernels, beyond the channels named, is ignored.

    Args:
        h: features (B, C, H, W).
        selection: logits of each position's share of N kernels, for each of L links (B, L N, H, W); without kernels,
            those of its own weights (B, k^2, H, W), and there is one link.
        kernels: logits of N kernels of k^2 weights for each link and sample (B, L N k^2), or None.
        links: L, how many warps of h.
        taps: k^2.
        replicate: whether the nearest border lies outside of the features, in place of zeros.

    Returns:
        L warped features side by side (B, L C, H, W).

    Raises:
        ValueError: the shapes do not belong together.
    """
    fits = h.dim() == selection.dim() == 4 and (h.shape[0], *h.shape[2:]) == (selection.shape[0], *selection.shape[2:])
    count = kernel_count(selection, kernels, links, taps)
    if kernels is None:
        fits = fits and links == 1 and selection.shape[1] >= taps
    else:
        fits = fits and kernels.dim() == 2 and len(kernels) == len(h) and kernels.shape[1] >= links * count * taps
        fits = fits and count * links == selection.shape[1]
    if not fits:
        shapes = f"{tuple(selection.shape)} and {None if kernels is None else tuple(kernels.shape)}"
        raise ValueError(f"Logits {shapes} do not warp features {tuple(h.shape)} {links} times by {taps} taps.")
    warped: Tensor = _mixed_warp(h, selection, kernels, links, taps, replicate)
    return warped


def kernel_count(selection: Tensor, kernels: Tensor | None, links: int, taps: int) -> int:
    """N of Eq 12; without kernels to be mixed, each tap counts as one."""
    return taps if kernels is None else selection.shape[1] // links


# The plain form


def plain_mixed_warp(
    h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool
) -> Tensor:
    *_, weights = _weights(selection, kernels, links, taps)
    return channels_innermost(torch.cat([plain_warp(h, of_link, replicate) for of_link in weights.unbind(1)], dim=1))


def plain_mixed_warp_backward(
    gradient: Tensor, h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool
) -> list[Tensor]:
    """Gradients of h, the selection's logits and, if there are any, the kernels'."""
    shares, mixed, weights = _weights(selection, kernels, links, taps)
    apart = zip(gradient.chunk(links, dim=1), weights.unbind(1), strict=True)
    for_h, for_weights = zip(*(plain_warp_backward(g, h, of_link, replicate) for g, of_link in apart), strict=True)
    for_mixed = torch.stack(for_weights, dim=1).flatten(3).mT  # (B, L, H W, k^2)
    for_shares = for_mixed if mixed is None else for_mixed @ mixed.mT
    for_logits = plain_softmax_backward(for_shares, shares).mT.flatten(1, 2)
    results = [channels_innermost(sum(for_h)), _filled_up(for_logits.unflatten(2, h.shape[2:]), selection)]
    if mixed is not None and kernels is not None:
        results.append(_filled_up(plain_softmax_backward(shares.mT @ for_mixed, mixed).flatten(1), kernels))
    return results


def _weights(selection: Tensor, kernels: Tensor | None, links: int, taps: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """S (B, L, H W, N), the kernels (B, L, N, k^2) and weights (B, L, k^2, H, W)."""
    size = (links, kernel_count(selection, kernels, links, taps))
    logits = selection[:, : size[0] * size[1]].unflatten(1, size).flatten(3).mT
    shares = torch.softmax(logits, -1).to(selection.dtype)
    mixed = None
    if kernels is not None:
        logits = kernels[:, : size[0] * size[1] * taps].unflatten(1, (*size, taps))
        mixed = torch.softmax(logits, -1).to(selection.dtype)
    positions = shares if mixed is None else shares @ mixed  # Eq 12
    return shares, mixed, positions.mT.unflatten(3, selection.shape[2:])


def _filled_up(gradient: Tensor, logits: Tensor) -> Tensor:
    """The gradient in the size and layout of the logits, zero where these are ignored."""
    result = empty(logits).zero_()
    result[:, : gradient.shape[1]] = gradient
    return result


_mixed_warp = Operator(
    "mixed_warp",
    plain_mixed_warp,
    lambda h, selection, kernels, links, taps, replicate: empty(h, links * h.shape[1]),
)
_mixed_warp_backward = Operator(
    "mixed_warp_backward",
    plain_mixed_warp_backward,
    lambda gradient, h, selection, kernels, links, taps, replicate: [
        empty(x) for x in (h, selection, kernels) if x is not None
    ],
)

# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.links, ctx.taps, ctx.replicate = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    h, selection, kernels = ctx.saved_tensors
    gradients = _mixed_warp_backward(gradient, h, selection, kernels, ctx.links, ctx.taps, ctx.replicate)
    return (*gradients, *[None] * (6 - len(gradients)))


_mixed_warp.derivative(_save, _backward)
