"""I3D written out plainly, what ours is compared with in tests and benchmarks: nothing folded or fused.

One clip at a time, channels first, one TensorFlow variable per place where the network uses it.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trivd.evaluation.networks.i3d_layout import variable_shapes

Variables = Mapping[str, NDArray[np.float32]]


def random_variables(seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights with which features neither vanish nor explode from layer to layer, by TensorFlow name."""
    generator = np.random.default_rng(seed)
    variables = {}
    for name, shape in variable_shapes().items():
        if name.endswith("/w"):
            values = generator.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[:-1]))
        elif name.endswith("/moving_variance"):
            values = generator.uniform(0.1, 1.5, shape)
        else:
            values = generator.uniform(-0.25, 0.25, shape)
        variables[name] = values.astype(np.float32)
    return variables


def plain_resize(video: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of (B, T, H, W, C) in float64: output pixel (i, j) lies at (i * H / height, j * W / width)."""
    frames = video.double()
    rows, columns = video.shape[2:4]
    i, j = torch.arange(height) * rows, torch.arange(width) * columns  # in units of 1 / height, 1 / width
    top, left = i // height, j // width
    bottom, right = (top + 1).clamp(max=rows - 1), (left + 1).clamp(max=columns - 1)
    down = ((i % height).double() / height)[:, None, None]
    across = ((j % width).double() / width)[:, None]
    corners = {(y, x): frames[:, :, (top, bottom)[y]][:, :, :, (left, right)[x]] for y in (0, 1) for x in (0, 1)}
    return (
        corners[0, 0] * (1 - down) * (1 - across)
        + corners[0, 1] * (1 - down) * across
        + corners[1, 0] * down * (1 - across)
        + corners[1, 1] * down * across
    )


def plain_logits(video: Tensor, variables: Variables, dtype: torch.dtype = torch.float32) -> Tensor:
    """Time-averaged logits (B, 400) of uint8 clips (B, T, H, W, C), C = 1 or 3."""
    return torch.cat([_clip_logits(clip[None], variables, dtype) for clip in video])


def _clip_logits(video: Tensor, variables: Variables, dtype: torch.dtype) -> Tensor:
    x = plain_resize(video.expand(-1, -1, -1, -1, 3), 224, 224).to(dtype) * 2 / 255 - 1
    x = x.permute(0, 4, 1, 2, 3).contiguous()  # (1, 3, T, 224, 224)
    x = _unit(x, "Conv3d_1a_7x7", variables, stride=2)
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    x = _unit(x, "Conv3d_2b_1x1", variables)
    x = _unit(x, "Conv3d_2c_3x3", variables)
    x = _pool(x, (1, 3, 3), (1, 2, 2))
    for block in "3b", "3c":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = _pool(x, (3, 3, 3), (2, 2, 2))
    for block in "4b", "4c", "4d", "4e", "4f":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = _pool(x, (2, 2, 2), (2, 2, 2))
    for block in "5b", "5c":
        x = _mixed(x, f"Mixed_{block}", variables)
    x = F.avg_pool3d(x, (2, 7, 7), stride=1)
    x = F.conv3d(x, _kernel("Logits/Conv3d_0c_1x1", variables, dtype))
    bias = torch.from_numpy(variables["RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b"]).to(dtype)
    return (x[..., 0, 0] + bias[:, None]).mean(dim=2)


def _mixed(x: Tensor, name: str, variables: Variables) -> Tensor:
    second = "Conv3d_0a_3x3" if name == "Mixed_5b" else "Conv3d_0b_3x3"
    branch_1 = _unit(x, f"{name}/Branch_1/Conv3d_0a_1x1", variables)
    branch_2 = _unit(x, f"{name}/Branch_2/Conv3d_0a_1x1", variables)
    branches = [
        _unit(x, f"{name}/Branch_0/Conv3d_0a_1x1", variables),
        _unit(branch_1, f"{name}/Branch_1/Conv3d_0b_3x3", variables),
        _unit(branch_2, f"{name}/Branch_2/{second}", variables),
        _unit(_pool(x, (3, 3, 3), (1, 1, 1)), f"{name}/Branch_3/Conv3d_0b_1x1", variables),
    ]
    return torch.cat(branches, dim=1)


def _unit(x: Tensor, name: str, variables: Variables, stride: int = 1) -> Tensor:
    """Convolution, BatchNorm with epsilon 1e-3 and without gain, ReLU."""
    kernel = _kernel(name, variables, x.dtype)
    beta, mean, variance = (
        torch.from_numpy(variables[f"RGB/inception_i3d/{name}/batch_norm/{part}"]).to(x.dtype).view(1, -1, 1, 1, 1)
        for part in ("beta", "moving_mean", "moving_variance")
    )
    x = F.conv3d(_pad(x, tuple(kernel.shape[2:]), (stride,) * 3, 0.0), kernel, stride=stride)
    return F.relu((x - mean) / torch.sqrt(variance + 1e-3) + beta)


def _kernel(name: str, variables: Variables, dtype: torch.dtype) -> Tensor:
    kernel = torch.from_numpy(variables[f"RGB/inception_i3d/{name}/conv_3d/w"]).to(dtype)
    return kernel.permute(4, 3, 0, 1, 2).contiguous()


def _pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(_pad(x, kernel, stride, -torch.inf), kernel, stride)


def _pad(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
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
