"""The residual blocks written plainly, and the encoder's features frame by frame."""

from collections.abc import Callable
from itertools import product

import oracles
import pytest
import torch
from torch.nn import functional as F

from trivd.config import ModelConfig
from trivd.models.blocks import DBlock, GBlock
from trivd.models.discriminators import Discriminator
from trivd.models.encoder import Encoder
from trivd.models.frame_norm import FrameNormReLU, affine_maps

ModelFactory = Callable[..., ModelConfig]


def normalize_by_batch(module: torch.nn.Module) -> None:
    """Batch statistics in the norms, though spectral norms stay in evaluation mode."""
    for norm in module.modules():
        if isinstance(norm, FrameNormReLU):
            norm.collect(True)


@pytest.mark.parametrize(("outputs", "up"), [(4, False), (3, False), (4, True), (3, True)])
@pytest.mark.parametrize("frames", [1, 3])
def test_g_block_is_biggans(outputs: int, up: bool, frames: int) -> None:
    block = oracles.scramble(GBlock(frames, 4, outputs, 5, upsample=up))
    normalize_by_batch(block)
    x = torch.randn(frames, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    actual = block(x.flatten(0, 1), affine_maps(block, condition)).unflatten(0, (frames, 2))
    expected = oracles.g_block(block, x, condition, up)
    assert actual.shape == (frames, 2, outputs, 6 if up else 3, 10 if up else 5)
    oracles.assert_same([actual], [expected], [x, condition, *block.parameters()])


@pytest.mark.parametrize(("dimensions", "outputs"), [(2, 3), (2, 6), (3, 3), (3, 6)])
@pytest.mark.parametrize(("activate", "pool"), list(product([False, True], repeat=2)))
def test_d_block_is_biggans_and_never_pools_time(dimensions: int, outputs: int, activate: bool, pool: bool) -> None:
    block = oracles.scramble(DBlock(3, outputs, dimensions, activate, pool))
    time = (5,) if dimensions == 3 else ()
    x = torch.randn(2, 3, *time, 4, 6, dtype=torch.float64, requires_grad=True)
    actual = block(x)
    assert actual.shape == (2, outputs, *time, *((2, 3) if pool else (4, 6)))
    oracles.assert_same([actual], [oracles.d_block(block, x, activate, pool)], [x, *block.parameters()])


ENCODERS = [
    (32, (8,)),
    (32, (16,)),
    (32, (32,)),
    (32, (8, 16, 32)),
    (64, (32, 8)),
    (64, (16, 64)),
    (128, (8, 16, 32)),
    (128, (64, 128)),
    (256, (8, 256)),
]


@pytest.mark.parametrize(("resolution", "recurrent"), ENCODERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_encoder_states(resolution: int, recurrent: tuple[int, ...], channels: int, tiny_model: ModelFactory) -> None:
    """Each frame on its own through the D blocks; for each unit, all frames' features side by side, 3x3, ReLU."""
    config = tiny_model(
        resolution=resolution, image_channels=channels, recurrent_resolutions=recurrent, conditioning_frames=3
    )
    widths = {size: index + 3 for index, size in enumerate(recurrent)}
    encoder = oracles.scramble(Encoder(config, widths))
    video = torch.rand(2, 3, channels, resolution, resolution, dtype=torch.float64) * 2 - 1

    features: dict[int, list[torch.Tensor]] = {}
    for frame in video.unbind(1):
        x, size = frame, resolution
        for index, block in enumerate(encoder.blocks):
            if index == 0:  # the output resolution reads the features before the first pooling
                features.setdefault(resolution, []).append(oracles.d_block(block, x, False, False))
            x = oracles.d_block(block, x, activate=index > 0, pool=True)
            size //= 2
            features.setdefault(size, []).append(x)

    states = encoder(video)
    assert states.keys() == set(recurrent)
    for size in recurrent:
        compress = encoder.compress[str(size)]
        assert compress.weight.shape[2:] == (3, 3)
        expected = F.relu(oracles.conv(compress, *features[size]))
        assert states[size].shape == (2, widths[size], size, size)
        torch.testing.assert_close(states[size], expected, rtol=1e-9, atol=1e-9)
        assert states[size].any()


@pytest.mark.parametrize(("resolution", "depth"), [(32, 2), (64, 3), (128, 4), (256, 5)])
def test_encoder_is_the_frame_discriminators_network(resolution: int, depth: int, tiny_model: ModelFactory) -> None:
    """The same blocks down to 8 pixels (A)."""
    encoder = Encoder(tiny_model(resolution=resolution, discriminator_channels=3), {8: 4})
    discriminator = Discriminator(3, width=3, classes=0, temporal=False)
    sizes = [
        [(name, p.shape) for block in network.blocks[:depth] for name, p in block.named_parameters()]
        for network in (encoder, discriminator)
    ]
    assert len(encoder.blocks) == depth
    assert sizes[0] == sizes[1]


def test_encoder_keeps_the_order_of_frames(tiny_model: ModelFactory) -> None:
    encoder = oracles.scramble(Encoder(tiny_model(), {8: 4}))
    frames = torch.rand(1, 2, 3, 32, 32, dtype=torch.float64)
    assert not torch.allclose(encoder(frames)[8], encoder(frames.flip(1))[8])
