"""I3D (Carreira and Zisserman 2017), the network whose logits the Fréchet video distance compares (4.1).

One clip at a time; every convolution and every statistic is a TensorFlow variable of its own, by name.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Variables = Mapping[str, NDArray[np.float32]]


def logits(video: Tensor, variables: Variables, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits (B, 400), averaged over time, of uint8 clips (B, T, H, W, C), C = 1 or 3."""
    return torch.cat([_clip_logits(clip[None], variables, dtype) for clip in video])


def _clip_logits(video: Tensor, variables: Variables, dtype: torch.dtype) -> Tensor:
    x = resize(video.expand(-1, -1, -1, -1, 3), 224, 224).to(dtype) * 2 / 255 - 1
    x = x.permute(0, 4, 1, 2, 3).contiguous()  # (1, 3, T, 224, 224)
    x = _unit(x, "Conv3d_1a_7x7", variables, stride=2)
    x = max_pool(x, (1, 3, 3), (1, 2, 2))
    x = _unit(x, "Conv3d_2b_1x1", variables)
    x = _unit(x, "Conv3d_2c_3x3", variables)
    x = max_pool(x, (1, 3, 3), (1, 2, 2))
    for block in "3b", "3c":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = max_pool(x, (3, 3, 3), (2, 2, 2))
    for block in "4b", "4c", "4d", "4e", "4f":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = max_pool(x, (2, 2, 2), (2, 2, 2))
    for block in "5b", "5c":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = F.avg_pool3d(x, (2, 7, 7), stride=1)
    kernel, bias = (_variable(f"Logits/Conv3d_0c_1x1/conv_3d/{part}", variables, x) for part in "wb")
    x = F.conv3d(x, kernel, bias)
    return x[..., 0, 0].mean(dim=2)


def _mixed(x: Tensor, name: str, variables: Variables) -> Tensor:
    """An Inception block: four branches, side by side."""
    second = "Conv3d_0a_3x3" if name == "Mixed_5b" else "Conv3d_0b_3x3"  # the original's own slip
    branches = (
        (x, "Branch_0/Conv3d_0a_1x1"),
        (_unit(x, f"{name}/Branch_1/Conv3d_0a_1x1", variables), "Branch_1/Conv3d_0b_3x3"),
        (_unit(x, f"{name}/Branch_2/Conv3d_0a_1x1", variables), f"Branch_2/{second}"),
        (max_pool(x, (3, 3, 3), (1, 1, 1)), "Branch_3/Conv3d_0b_1x1"),
    )
    return torch.cat([_unit(features, f"{name}/{last}", variables) for features, last in branches], dim=1)


def _unit(x: Tensor, name: str, variables: Variables, stride: int = 1) -> Tensor:
    """Convolution, BatchNorm with epsilon 1e-3 and without gain, ReLU."""
    kernel = _variable(f"{name}/conv_3d/w", variables, x)
    x = F.conv3d(pad_same(x, tuple(kernel.shape[2:]), (stride,) * 3, 0.0), kernel, stride=stride)
    statistics = (f"{name}/batch_norm/{part}" for part in ("moving_mean", "moving_variance", "beta"))
    mean, variance, beta = (_variable(statistic, variables, x).movedim(0, 1) for statistic in statistics)
    return F.relu((x - mean) / torch.sqrt(variance + 1e-3) + beta)


def _variable(name: str, variables: Variables, x: Tensor) -> Tensor:
    """A bias (C,), or TensorFlow's (T, H, W, in, out) as PyTorch has it, (out, in, T, H, W); like x otherwise."""
    value = torch.from_numpy(variables[f"RGB/inception_i3d/{name}"]).to(x)
    return value.permute(4, 3, 0, 1, 2).contiguous() if value.dim() == 5 else value


def max_pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Max pooling of (B, C, T, H, W) with TensorFlow's padding."""
    return F.max_pool3d(pad_same(x, kernel, stride, -torch.inf), kernel, stride)


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
    """TensorFlow's SAME padding, found by counting: widen, at the end first, until ceil(size / stride) windows fit."""
    padding: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        before = after = 0
        while (size + before + after - width) // step + 1 < (size + step - 1) // step:
            if after == before:
                after += 1
            else:
                before += 1
        padding = [before, after, *padding]  # F.pad starts with the last axis
    return F.pad(x, padding, value=value)


def resize(video: Tensor, height: int, width: int) -> Tensor:
    """TensorFlow 1's bilinear resize of (B, T, H, W, C): output pixel (i, j) lies at (i H / height, j W / width)."""
    frames = video.double()
    for axis, size in ((2, height), (3, width)):
        whole = frames.shape[axis]
        position = torch.arange(size, device=video.device) * whole  # in units of 1 / size
        first = position // size
        second = (first + 1).clamp(max=whole - 1)
        share = ((position % size).double() / size).view(-1, *[1] * (4 - axis))
        frames = frames.index_select(axis, first) * (1 - share) + frames.index_select(axis, second) * share
    return frames


def random_variables(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights by name with which features neither vanish nor explode from layer to layer."""
    generator = np.random.default_rng(seed)
    variables = {}
    for name, shape in shapes.items():
        if name.endswith("/w"):
            values = generator.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[:-1]))
        elif name.endswith("/moving_variance"):
            values = generator.uniform(0.1, 1.5, shape)
        else:
            values = generator.uniform(-0.25, 0.25, shape)
        variables[name] = values.astype(np.float32)
    return variables
