"""Convolutions folded with the resampling beside them: the same values with 4/9 of the products."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.average import average_pool
from trivd.ops.conv3d import conv3d

FOLDED_FROM = 8  # pixels; on smaller features, libraries are faster with a plain convolution


def upsampled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The convolution of x after nearest x2 upsampling, (B, in, H, W) -> (B, out, 2H, 2W).

    Each output reads 2 x 2 different pixels, so that the two are one transposed convolution.

    Args:
        x: features.
        weight: (out, in, k, k), k odd; the convolution pads with zeros.
        bias: (out,) or None.
        dtype: in which the convolution computes.
    """
    kernel = 4 * _averaged(weight).flip(2, 3).transpose(0, 1)
    return F.conv_transpose2d(x, kernel.to(dtype), bias, stride=2, padding=weight.shape[-1] // 2)


def pooled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, time: bool = False
) -> Tensor:
    """The convolution of x and then averages over 2 x 2 pixels, (B, in, [T,] H, W) -> (B, out, [T',] H/2, W/2).

    The two are one convolution of stride 2 whose kernel is one pixel larger, and one frame where pairs of frames are
    averaged too. Arguments are those of `upsampled_convolution` and `average_pool`; weight may have a temporal size.
    """
    convolve = F.conv2d if weight.dim() == 4 else conv3d
    padding = weight.shape[-1] // 2
    if min(x.shape[-2:]) < FOLDED_FROM:
        return average_pool(convolve(x, weight.to(dtype), bias, padding=padding), time)
    if weight.dim() == 4:
        return convolve(x, _averaged(weight).to(dtype), bias, stride=2, padding=padding)
    kernel = _averaged(weight)
    if time and x.shape[2] > 1:
        kernel = _averaged_over_time(kernel)
        return convolve(x, kernel.to(dtype), bias, stride=2, padding=padding)
    return convolve(x, kernel.to(dtype), bias, stride=(1, 2, 2), padding=padding)


def _averaged(kernel: Tensor) -> Tensor:
    """(..., k, k) -> (..., k + 1, k + 1): the kernel, then averages over 2 x 2 pixels."""
    if kernel.dim() == 4:
        return F.avg_pool2d(kernel, 2, stride=1, padding=1)
    return _averaged(kernel.flatten(1, 2)).unflatten(1, kernel.shape[1:3])


def _averaged_over_time(kernel: Tensor) -> Tensor:
    """(out, in, t, k, k) -> (out, in, t + 1, k, k): the kernel, then averages over pairs of frames."""
    before, after = F.pad(kernel, (0, 0, 0, 0, 0, 1)), F.pad(kernel, (0, 0, 0, 0, 1, 0))
    return (before + after) / 2
