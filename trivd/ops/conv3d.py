"""3D convolutions of clips, also of those with fewer frames than the kernel has."""

import torch
from torch import Tensor
from torch.nn import functional as F


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | tuple[int, int, int] = 1, padding: int = 0
) -> Tensor:
    """`torch.nn.functional.conv3d` of x (B, in, T, H, W), with correct gradients for every T.

    On a CPU, PyTorch 2.13 (oneDNN) returns memory that was never written as the bfloat16 gradient of the weight where a
    clip in channels_last_3d has fewer frames than the kernel. There, zeros follow the clip up to the kernel's size: the
    padding that it would read anyway.
    """
    frames, size = x.shape[2], weight.shape[2]
    short = 1 < frames < size and x.device.type == "cpu" and weight.dtype == torch.bfloat16
    along = stride if isinstance(stride, int) else stride[0]
    if not short or along > 1:
        return F.conv3d(x, weight, bias, stride, padding)
    longer = F.pad(x, (0, 0, 0, 0, 0, size - frames))
    return F.conv3d(longer, weight, bias, stride, padding)[:, :, : frames + 2 * padding - size + 1]
