"""BigGAN's residual blocks (Brock et al. 2019), of the generator and of the critics (A)."""

from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import FrameNorm, SNConv


class GBlock(nn.Module):
    """Generator block on all time steps: (T B, in, H, W) -> (T B, out, H', W'), H' = 2 H where it upsamples.

    BatchNorm -> ReLU -> [nearest x2] -> 3x3 -> BatchNorm -> ReLU -> 3x3, added to [nearest x2] -> 1x1 of the input.
    """

    def __init__(self, frames: int, inputs: int, outputs: int, condition_dim: int, upsample: bool) -> None:
        super().__init__()
        self.frames = frames
        self.upsample = upsample
        self.norm1 = FrameNorm(frames, inputs, condition_dim)
        self.conv1 = SNConv(inputs, outputs)
        self.norm2 = FrameNorm(frames, outputs, condition_dim)
        self.conv2 = SNConv(outputs, outputs)
        self.shortcut = SNConv(inputs, outputs, 1) if upsample or inputs != outputs else nn.Identity()

    def resize(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.upsample else x

    def normalize(self, norm: FrameNorm, x: Tensor, condition: Tensor) -> Tensor:
        return F.relu(norm(x.unflatten(0, (self.frames, -1)), condition)).flatten(0, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(self.resize(self.normalize(self.norm1, x, condition)))
        h = self.conv2(self.normalize(self.norm2, h, condition))
        return h + self.resize(self.shortcut(x))  # 1x1 before upsampling: the same values, a quarter of the work


class DBlock(nn.Module):
    """Critic block: (B, in, [T,] H, W) -> (B, out, [T,] H', W'), with average pooling over 2 x 2 pixels if asked.

    [ReLU] -> conv -> ReLU -> conv, added to a 1-sized convolution of the input, then pooled. Time is never pooled.

    Args:
        dimensions: 2, or 3 for convolutions over time too.
        activate: ReLU first; every block but a network's first does.
        pool: halve height and width.
    """

    def __init__(self, inputs: int, outputs: int, dimensions: int, activate: bool, pool: bool) -> None:
        super().__init__()
        self.activate = activate
        self.pool = pool
        self.conv1 = SNConv(inputs, outputs, 3, dimensions)
        self.conv2 = SNConv(outputs, outputs, 3, dimensions)
        self.shortcut = SNConv(inputs, outputs, 1, dimensions) if inputs != outputs else nn.Identity()

    def unpooled(self, x: Tensor) -> Tensor:
        """The block's features before its pooling."""
        h = self.conv1(F.relu(x) if self.activate else x)
        return self.conv2(F.relu(h)) + self.shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.unpooled(x)
        return pool_space(h) if self.pool else h


def pool_space(x: Tensor) -> Tensor:
    """Average over 2 x 2 pixels: (..., H, W) -> (..., H/2, W/2), for 4 or 5 dimensions."""
    return F.avg_pool2d(x, 2) if x.dim() == 4 else F.avg_pool3d(x, (1, 2, 2))


def critic_blocks(inputs: int, width: int, depth: int, temporal: int, pooled: int) -> nn.ModuleList:
    """The D network's blocks: widths ch x (1, 2, 4, ...), the first `temporal` with 3D convolutions (A).

    The last block's features are not pooled if `pooled` < `depth`.
    """
    widths = [inputs] + [width * 2**i for i in range(depth)]
    return nn.ModuleList(
        DBlock(widths[i], widths[i + 1], 3 if i < temporal else 2, activate=i > 0, pool=i < pooled)
        for i in range(depth)
    )
