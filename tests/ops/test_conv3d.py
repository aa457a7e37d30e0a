"""3D convolutions of short clips against those in float64: PyTorch's own lose the weight's gradient there."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.conv3d import conv3d


def leave_rubbish() -> None:
    """Freed memory full of NaNs, which a result that is not written would show."""
    for size in (27, 54, 108, 216, 432, 864, 1728) * 20:
        torch.full((size,), float("nan"))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, (1, 2, 2), 2])
@pytest.mark.parametrize("frames", range(1, 6))
def test_gradients_of_any_number_of_frames(
    frames: int, stride: int | tuple[int, int, int], size: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(frames)
    x, weight = torch.randn(2, 3, frames, 8, 8), torch.randn(4, 3, size, 3, 3)

    def results(convolve: object, dtype: torch.dtype) -> list[Tensor]:
        sources = [v.bfloat16().to(dtype).contiguous(memory_format=layout).requires_grad_() for v in (x, weight)]
        bias = torch.ones(4, dtype=dtype)
        leave_rubbish()
        y = convolve(sources[0], sources[1], bias, stride=stride, padding=size // 2)  # type: ignore[operator]
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), sources)]

    for rounded, exact in zip(results(conv3d, torch.bfloat16), results(F.conv3d, torch.float64), strict=True):
        assert rounded.shape == exact.shape
        assert (rounded - exact).norm() < 0.02 * exact.norm()
