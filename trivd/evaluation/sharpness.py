"""How sharp frames are, without a truth to compare with: blurred predictions score well in PSNR, but not here."""

import torch
from torch import Tensor

from trivd.data.digits import LUMA
from trivd.errors import TrivdError
from trivd.evaluation.frames import DATA_RANGE, check_frames

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
    if video.dim() != 5 or video.shape[2] not in (1, 3) or min(video.shape[-2:]) < 2:
        raise TrivdError(f"Sharpness needs frames (B, T, 1 or 3, H, W) of at least 2 x 2, not {tuple(video.shape)}.")
    check_frames("Frames", video)
    frames = video.float() * GREY_LEVELS
    if video.shape[2] == 3:
        weights = torch.from_numpy(LUMA).to(video.device)
        luma = (frames * weights[:, None, None]).sum(dim=2)  # (B, T, H, W)
    else:
        luma = frames[:, :, 0]
    down = luma[..., 1:, :-1] - luma[..., :-1, :-1]  # (B, T, H-1, W-1)
    right = luma[..., :-1, 1:] - luma[..., :-1, :-1]
    return torch.hypot(down, right).mean(dim=(2, 3))
