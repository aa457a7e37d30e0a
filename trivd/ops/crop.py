"""Windows cut out of clips at places that are known only to the device, which no copy to the host waits for."""

from typing import Any

import torch
from torch import Tensor

from trivd.ops.operator import Operator


def crop(video: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    """A window of each clip, the same for all its frames: (B, T, C, H, W) -> (B, T, C, height, width).

    Args:
        video: clips.
        tops: (B,) int64, first rows on the clips' device, each at most H - height. They are not checked there: on a GPU
            a window beyond the frames shows zeros.
        lefts: first columns, likewise.
        height: of the window.
        width: of the window.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if video.dim() != 5 or tops.shape != video.shape[:1] or lefts.shape != video.shape[:1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (video, tops, lefts))
        raise ValueError(f"Clips, tops and lefts have the shapes {shapes}, not (B, T, C, H, W), (B,) and (B,).")
    window: Tensor = _crop(video, tops, lefts, height, width)
    return window


# The plain form


def _places(tops: Tensor, lefts: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, rows and columns of all pixels, which broadcast to (B, height, width)."""
    samples = torch.arange(len(tops), device=tops.device)[:, None, None]
    rows = tops[:, None] + torch.arange(height, device=tops.device)
    columns = lefts[:, None] + torch.arange(width, device=tops.device)
    return samples, rows[:, :, None], columns[:, None, :]


def plain_crop(video: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    samples, rows, columns = _places(tops, lefts, height, width)
    return video[samples, :, :, rows, columns].movedim((3, 4), (1, 2)).contiguous()


def plain_crop_backward(gradient: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    """Gradient of clips of this height and width: zero outside of the windows."""
    samples, rows, columns = _places(tops, lefts, *gradient.shape[-2:])
    result = gradient.new_zeros(*gradient.shape[:3], height, width)
    result[samples, :, :, rows, columns] = gradient.movedim((1, 2), (3, 4))
    return result


def _sized(video: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    return video.new_empty(*video.shape[:3], height, width)


_crop = Operator("crop", plain_crop, _sized)
_crop_backward = Operator("crop_backward", plain_crop_backward, _sized)

# CPU: slices, whose places cost nothing to know there


@_crop.kernel("CPU")
def _(video: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    clips = zip(video.unbind(), tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([clip[..., top : top + height, left : left + width] for clip, top, left in clips])


@_crop_backward.kernel("CPU")
def _(gradient: Tensor, tops: Tensor, lefts: Tensor, height: int, width: int) -> Tensor:
    result = gradient.new_zeros(*gradient.shape[:3], height, width)
    rows, columns = gradient.shape[-2:]
    clips = zip(result.unbind(), gradient.unbind(), tops.tolist(), lefts.tolist(), strict=True)
    for clip, part, top, left in clips:
        clip[..., top : top + rows, left : left + columns] = part
    return result


# The derivative


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    video, tops, lefts, *_ = inputs
    ctx.save_for_backward(tops, lefts)
    ctx.size = video.shape[-2:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    return _crop_backward(gradient, *ctx.saved_tensors, *ctx.size), None, None, None, None


_crop.derivative(_save, _backward)
