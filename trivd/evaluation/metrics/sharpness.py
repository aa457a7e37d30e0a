"""Sharpness and motion magnitude of frames, measured without a truth to compare with.

Blurred predictions and copies score well in PSNR, but not here.
"""

from functools import cache

import torch
from torch import Tensor

from trivd.data.datasets.digits import LUMA
from trivd.evaluation.metrics.frame_scores import DATA_RANGE, check_frames
from trivd.runtime.errors import TrivdError

GREY_LEVELS = 255 / DATA_RANGE  # of 8-bit images, per unit of frames in [-1, 1]


def sharpness(video: Tensor) -> Tensor:
    """Mean gradient magnitude of luma, from forward differences: what a row and a column further on changes.

    Sharpness depends on the scene, so what tells is the ratio of predicted to true frames: 1 is as sharp as the truth,
    less is blurred, more is noisy.

    Args:
        video: frames (B, T, C, H, W) in [-1, 1], C = 1 or 3, of at least 2 x 2 pixels.

    Returns:
        (B, T), 8-bit grey levels per pixel, float32.

    Raises:
        TrivdError: another shape, or values outside [-1, 1].
    """
    luma = _luma("Sharpness", video)
    if min(luma.shape[-2:]) < 2:
        raise TrivdError(f"Sharpness needs frames of at least 2 x 2 pixels, not {luma.shape[-2]} x {luma.shape[-1]}.")
    down = luma[..., 1:, :-1] - luma[..., :-1, :-1]  # (B, T, H-1, W-1)
    right = luma[..., :-1, 1:] - luma[..., :-1, :-1]
    return torch.hypot(down, right).mean(dim=(2, 3))


def motion_magnitude(video: Tensor, last_given: Tensor) -> Tensor:
    """Mean absolute change of luma from frame to frame: 0 for a copy of the last given frame.

    It needs no optical flow, so noise and flicker count as motion too: as with sharpness, what tells is the ratio of
    predicted to true frames.

    Args:
        video: frames (B, T, C, H, W) in [-1, 1], C = 1 or 3.
        last_given: the frame before them, (B, C, H, W).

    Returns:
        (B, T), 8-bit grey levels per frame, float32; the first value is the change from the given frame.

    Raises:
        TrivdError: another shape, or values outside [-1, 1].
    """
    if video.dim() != 5 or last_given.shape != video[:, 0].shape:
        raise TrivdError(
            f"Motion magnitude needs frames (B, T, C, H, W) and the one before them, (B, C, H, W), not "
            f"{tuple(video.shape)} and {tuple(last_given.shape)}."
        )
    luma = _luma("Motion magnitude", torch.cat([last_given[:, None], video], dim=1))
    return luma.diff(dim=1).abs().mean(dim=(2, 3))


def _luma(name: str, video: Tensor) -> Tensor:
    """(B, T, H, W), 8-bit grey levels, float32."""
    if video.dim() != 5 or video.shape[2] not in (1, 3):
        raise TrivdError(f"{name} needs frames (B, T, 1 or 3, H, W), not {tuple(video.shape)}.")
    check_frames("Frames", video)
    frames = video.float() * GREY_LEVELS
    if video.shape[2] == 1:
        return frames[:, :, 0]
    return (frames * _weights(video.device)).sum(dim=2)


@cache
def _weights(device: torch.device) -> Tensor:
    """The colours' shares of luma, (3, 1, 1)."""
    return torch.from_numpy(LUMA).to(device)[:, None, None]
