"""From 8-bit frames to what I3D sees: the reference's way, and those of other repositories whose FVDs are published."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.config import I3DInput
from trivd.evaluation.networks.resize import resize_bilinear

SIDE = 224  # pixels of the frames that the network sees

Input = Callable[[Tensor], Tensor]  # clips (B, T, H, W, C) of uint8 -> (B, T, 224, 224, C), float32


def reference(video: Tensor) -> Tensor:
    """TensorFlow 1's resize, then from -1 to 1 (frechet_video_distance.py of Unterthiner et al.)."""
    return resize_bilinear(video, SIDE, SIDE).mul_(2 / 255).sub_(1)  # one factor, as the reference


def torch_bilinear(video: Tensor) -> Tensor:
    """torch's bilinear resize with half-pixel centres, without antialiasing, then from -1 to 1: TATS, StyleGAN-V."""
    return _interpolated(_planes(video), (SIDE, SIDE), video).mul_(2).div_(255).sub_(1)


def videogpt(video: Tensor) -> Tensor:
    """The shorter side resized by torch, the middle cut out, values from -0.5 to 0.5: half of what I3D was trained on.

    So does the repository of VideoGPT (videogpt/data.py, whose `preprocess` its FVD shares with the model).
    """
    height, width = video.shape[2:4]
    scale = SIDE / min(height, width)
    size = (SIDE, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), SIDE)
    resized = _interpolated(_planes(video).div_(255), size, video)
    top, left = ((side - SIDE) // 2 for side in size)
    return resized[:, :, top : top + SIDE, left : left + SIDE].sub(0.5)


INPUTS: Mapping[I3DInput, Input] = {"reference": reference, "torch": torch_bilinear, "videogpt": videogpt}


def _planes(video: Tensor) -> Tensor:
    """Frames as torch resizes them: (B * T, C, H, W), float32."""
    return video.flatten(0, 1).movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def _interpolated(planes: Tensor, size: tuple[int, int], video: Tensor) -> Tensor:
    resized = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
    return resized.movedim(1, -1).unflatten(0, video.shape[:2])  # (B, T, height, width, C)
