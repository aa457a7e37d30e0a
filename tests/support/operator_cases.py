"""Every operator of trivd.ops with small random arguments in float64."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trivd.ops import average, crop, differences, gates, mixed_warp, normalize, pool, residual, softmax, spectral, warp
from trivd.ops.operator import channels_innermost

F64 = torch.float64
CHANNELS = [3, 2, 4, 5]
CODES = list(range(len(gates.ACTIVATIONS)))


def image(*shape: int) -> Tensor:
    """Random values, differentiable; their layout in memory is that of numpy, as users have it."""
    return torch.randn(shape, dtype=F64, requires_grad=True)


def as_in_networks(value: Any) -> Any:
    """An argument with its channels innermost in memory."""
    if isinstance(value, list):
        return [as_in_networks(item) for item in value]
    if not isinstance(value, Tensor) or value.dim() < 4:
        return value
    return channels_innermost(value.detach()).requires_grad_(value.requires_grad)


def converted(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """An argument without its derivative, on a device and, unless it has indices, in another type."""
    if isinstance(value, list | tuple):
        return type(value)(converted(item, device, dtype) for item in value)
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(device, dtype if value.is_floating_point() else None)


def vectors(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=F64) + 0.5


def kernels() -> list[Tensor]:
    """Of two convolutions, with 4 x 75 and 70 x 14 elements as matrices."""
    return [image(4, 3, 5, 5).detach(), image(70, 14, 1, 1).detach()]


def trained_vector(count: int) -> Tensor:
    return torch.randn(count, dtype=F64, requires_grad=True)


def features() -> Tensor:
    return image(2, 3, 4, 5, 6)


def parts() -> list[Tensor]:
    return [image(2, count, 5, 6).detach() for count in CHANNELS]


def corners() -> tuple[Tensor, Tensor]:
    """Tops and lefts of windows of 2 x 3 pixels in two clips of 5 x 6."""
    return torch.tensor([3, 0]), torch.tensor([1, 3])


def logits(links: int, kernels: int, width: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Features, logits of the selection, and of kernels with what fills them up to `width`."""
    return image(2, 3, 3, 4), image(2, links * kernels, 3, 4), None if width is None else image(2, width)


def detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


# An operator, its arguments, and whether it has a derivative.
CASES: dict[str, tuple[Any, Callable[[], tuple[Any, ...]], bool]] = {
    "warp": (warp._warp, lambda: (image(2, 3, 5, 6), image(2, 9, 5, 6), False), True),
    "warp_replicate": (warp._warp, lambda: (image(2, 3, 5, 6), image(2, 9, 5, 6), True), True),
    "warp_backward": (warp._warp_backward, lambda: (*parts()[:1] * 2, image(2, 9, 5, 6).detach(), False), False),
    "warp_backward_replicate": (
        warp._warp_backward,
        lambda: tuple(map(detached, (image(2, 3, 3, 4), image(2, 3, 3, 4), image(2, 9, 3, 4), True))),
        False,
    ),
    "mixed_warp": (mixed_warp._mixed_warp, lambda: (*logits(1, 4, 36), 1, 9, False), True),
    "mixed_warp_replicate": (mixed_warp._mixed_warp, lambda: (*logits(2, 3, 60), 2, 9, True), True),
    "mixed_warp_pixelwise": (mixed_warp._mixed_warp, lambda: (*logits(1, 16, None), 1, 9, False), True),
    "mixed_warp_backward": (
        mixed_warp._mixed_warp_backward,
        lambda: tuple(map(detached, (image(2, 6, 3, 4), *logits(2, 3, 60), 2, 9, False))),
        False,
    ),
    "mixed_warp_backward_pixelwise": (
        mixed_warp._mixed_warp_backward,
        lambda: tuple(map(detached, (image(2, 3, 3, 4), *logits(1, 16, None), 1, 9, True))),
        False,
    ),
    "softmax": (softmax._softmax, lambda: (torch.randn(4, 5, 9, dtype=F64, requires_grad=True),), True),
    "softmax_backward": (softmax._softmax_backward, lambda: (vectors(4, 5, 9), vectors(4, 5, 9)), False),
    "activate": (gates._activate, lambda: (image(2, 14, 5, 6), image(2, 14, 5, 6), CHANNELS, CODES), True),
    "activate_without_given": (gates._activate, lambda: (image(2, 14), None, CHANNELS, CODES), True),
    "activate_backward": (gates._activate_backward, lambda: ([None, *parts()[1:]], parts(), CODES), False),
    "mix": (gates._mix, lambda: tuple(image(2, 3, 5, 6) for _ in range(3)), True),
    "mix_backward": (gates._mix_backward, lambda: tuple(image(2, 3, 5, 6).detach() for _ in range(4)), False),
    "statistics": (normalize._statistics, lambda: (features().detach(),), False),
    "normalize": (
        normalize._normalize,
        lambda: (features(), vectors(2, 4), vectors(2, 4), 1e-5, False, image(3, 4), image(3, 4)),
        True,
    ),
    "normalize_sums": (
        normalize._normalize_sums,
        lambda: (*(features().detach() for _ in range(3)), vectors(2, 4), vectors(2, 4), 1e-5, True, vectors(3, 4)),
        False,
    ),
    "normalize_backward": (
        normalize._normalize_backward,
        lambda: (
            *(features().detach() for _ in range(3)),
            *(vectors(2, 4) for _ in range(2)),
            1e-5,
            vectors(3, 4),
            vectors(2, 2, 4),
        ),
        False,
    ),
    "pooled_features": (pool._pooled_features, lambda: (image(2, 3, 5, 6), 4), True),
    "pooled_features_small": (pool._pooled_features, lambda: (image(2, 3, 3, 1), 4), True),
    "pooled_features_backward": (
        pool._pooled_features_backward,
        lambda: (vectors(2, 12), pool.plain_pooled_features(image(2, 3, 5, 6).detach(), 2)[1], 5, 6),
        False,
    ),
    "pooled_differences": (
        differences._pooled_differences,
        lambda: tuple(torch.randn(2, 3, 4, 5, dtype=F64, requires_grad=True) for _ in range(2)),
        True,
    ),
    "pooled_differences_backward": (
        differences._pooled_differences_backward,
        lambda: (vectors(2, 3, 3, 5), torch.randn(2, 3, 4, 5, dtype=F64), torch.randn(2, 3, 4, 5, dtype=F64)),
        False,
    ),
    "crop": (crop._crop, lambda: (image(2, 3, 1, 5, 6), *corners(), 2, 3), True),
    "crop_backward": (crop._crop_backward, lambda: (image(2, 3, 1, 2, 3).detach(), *corners(), 5, 6), False),
    "residual": (
        residual._residual,
        lambda: (image(2, 3, 4, 6), image(2, 3, 2, 3), trained_vector(3), trained_vector(3), False, True),
        True,
    ),
    "residual_of_clips": (
        residual._residual,
        lambda: (image(2, 3, 2, 5, 6), image(2, 3, 2, 5, 6), trained_vector(3), None, True, False),
        True,
    ),
    "residual_backward": (
        residual._residual_backward,
        lambda: (image(2, 3, 4, 6).detach(), None, True, True),
        False,
    ),
    "residual_backward_of_clips": (
        residual._residual_backward,
        lambda: (*(image(2, 3, 2, 5, 6).detach() for _ in range(2)), True, False),
        False,
    ),
    "spectral_iterate": (
        spectral._iterate,
        lambda: (kernels(), [torch.randn(count, dtype=F64) for count in (4, 70)]),
        False,
    ),
    "spectral_divide": (spectral._divide, lambda: (kernels(), vectors(2), F64), False),
    "spectral_divide_backward": (
        spectral._divide_backward,
        lambda: (vectors(384 + 1024), kernels(), vectors(74), vectors(89), vectors(2)),
        False,
    ),
    "average_pool": (average._average_pool, lambda: (image(2, 3, 5, 6), True, False), True),
    "average_pool_over_time": (average._average_pool, lambda: (image(2, 3, 5, 5, 6), False, True), True),
    "average_pool_backward": (
        average._average_pool_backward,
        lambda: (image(2, 3, 2, 3).detach(), image(2, 3, 5, 6).detach(), image(2, 3, 5, 6).detach(), [5, 6], False),
        False,
    ),
    "average_pool_backward_over_time": (
        average._average_pool_backward,
        lambda: (image(2, 3, 2, 2, 3).detach(), None, None, [5, 5, 6], True),
        False,
    ),
}
