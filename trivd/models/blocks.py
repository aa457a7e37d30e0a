"""BigGAN's residual blocks (Brock et al. 2019), of the generator and of the discriminators (A)."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trivd.models.frame_norm import Affine, FrameNormReLU
from trivd.models.layers import SNConv
from trivd.models.spectral_norm import normalized, normalized_now, use_normalized
from trivd.ops.average import average_pool, relu_and_average_pool
from trivd.ops.cuda import library
from trivd.ops.residual import Unbiased, add, biased, relu


class ResidualBlock(nn.Module):
    """The base of G's and the discriminators' blocks.

    With `recompute`, a block's inner results are computed again in backward instead of being kept: less memory. Those
    that are to be differentiated twice are kept.
    """

    recompute = False

    def run(self, body: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """body(*inputs), which uses the block's own layers."""
        if not self.recompute or not torch.is_grad_enabled() or library.differentiable_twice():
            return body(*inputs)
        with normalized(self):
            ready = normalized_now()  # the second time too: no second power iteration
            result: Tensor = checkpoint(
                body,
                *inputs,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), use_normalized(ready)),
            )
            return result


def _shortcut(layer: nn.Module, x: Tensor) -> Unbiased:
    return layer.unbiased(x) if isinstance(layer, SNConv) else (x, None)


class GBlock(ResidualBlock):
    """Generator block on all time steps: (T B, in, H, W) -> (T B, out, H', W'), H' = 2 H where it upsamples.

    BatchNorm -> ReLU -> [nearest x2] -> 3x3 -> BatchNorm -> ReLU -> 3x3, added to [nearest x2] -> 1x1 of the input.
    """

    def __init__(self, frames: int, inputs: int, outputs: int, condition_dim: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1 = FrameNormReLU(frames, inputs, condition_dim)
        self.conv1 = SNConv(inputs, outputs, folded=upsample)
        self.norm2 = FrameNormReLU(frames, outputs, condition_dim)
        self.conv2 = SNConv(outputs, outputs)
        self.shortcut = SNConv(inputs, outputs, 1) if upsample or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, affines: Mapping[FrameNormReLU, Affine], frames: int) -> Tensor:
        """`affines` are those of `affine_maps`, and T is the number of `frames`."""
        return self.run(self._body, x, affines, frames)

    def _body(self, x: Tensor, affines: Mapping[FrameNormReLU, Affine], frames: int) -> Tensor:
        def normalize(norm: FrameNormReLU, x: Tensor) -> Tensor:
            y: Tensor = norm(x.unflatten(0, (frames, -1)), affines[norm])  # and ReLU
            return y.flatten(0, 1)

        h = normalize(self.norm1, x)
        h = biased(self.conv1.upsampled(h)) if self.upsample else self.conv1(h)
        h = normalize(self.norm2, h)
        # the shortcut's 1x1 before upsampling: the same values, a quarter of the work
        return add(self.conv2.unbiased(h), _shortcut(self.shortcut, x), self.upsample)


class DBlock(ResidualBlock):
    """Discriminator block: (B, in, [T,] H, W) -> (B, out, [T',] H', W'), with 2 x 2 average pooling if asked.

    [ReLU] -> conv -> ReLU -> conv, added to a 1-sized convolution of the input, both pooled.

    Args:
        dimensions: 2, or 3 for convolutions over time too.
        activate: ReLU first; every block but a network's first does.
        pool: halve height and width.
        pool_time: halve time too where the block pools; see `average_pool`.
    """

    def __init__(
        self, inputs: int, outputs: int, dimensions: int, activate: bool, pool: bool, *, pool_time: bool = False
    ) -> None:
        super().__init__()
        self.activate = activate
        self.pool = pool
        self.pool_time = pool_time
        self.conv1 = SNConv(inputs, outputs, 3, dimensions)
        self.conv2 = SNConv(outputs, outputs, 3, dimensions, folded=pool)
        self.shortcut = SNConv(inputs, outputs, 1, dimensions) if inputs != outputs else nn.Identity()

    def unpooled(self, x: Tensor) -> Tensor:
        """The block's features before its pooling."""
        h = relu(self.conv1.unbiased(F.relu(x) if self.activate else x))
        return add(self.conv2.unbiased(h), _shortcut(self.shortcut, x))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self._body if self.pool else self.unpooled, x)

    def _body(self, x: Tensor) -> Tensor:
        # the shortcut's 1x1 after pooling: the same values, at most a quarter of the work
        h, small = relu_and_average_pool(x, self.pool_time) if self.activate else (x, average_pool(x, self.pool_time))
        h = relu(self.conv1.unbiased(h))
        return add(self.conv2.pooled(h, self.pool_time), _shortcut(self.shortcut, small))


def discriminator_blocks(
    inputs: int, width: int, depth: int, *, pooled: int, temporal: int = 0, pool_time: bool = False
) -> nn.ModuleList:
    """The D network's blocks, of widths ch x (1, 2, 4, ...) (A).

    Args:
        inputs: channels of the input.
        width: ch.
        depth: number of blocks.
        pooled: how many of them pool, from the first on.
        temporal: how many of them have 3D convolutions, from the first on.
        pool_time: whether these halve time too.
    """
    widths = [inputs] + [width * 2**i for i in range(depth)]
    return nn.ModuleList(
        DBlock(
            widths[i],
            widths[i + 1],
            3 if i < temporal else 2,
            activate=i > 0,
            pool=i < pooled,
            pool_time=pool_time and i < temporal,
        )
        for i in range(depth)
    )


def recompute_blocks(module: nn.Module) -> None:
    """Have all residual blocks in `module` recomputed in backward: training.checkpoint_activations."""
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            block.recompute = True
