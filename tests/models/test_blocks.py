"""The residual blocks and the encoder against their plain forms."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from agreement import assert_same, plainly, scramble, use_batch_statistics

from reference import blocks as plain_blocks
from reference.generator import Encoder as PlainEncoder
from trivd.config import ModelConfig
from trivd.models.blocks import DBlock, GBlock
from trivd.models.discriminators import Discriminator
from trivd.models.encoder import Encoder
from trivd.models.frame_norm import affine_maps

ModelFactory = Callable[..., ModelConfig]


@pytest.mark.parametrize(("outputs", "up"), [(4, False), (3, False), (4, True), (3, True)])
@pytest.mark.parametrize("frames", [1, 3])
def test_g_block_is_biggans(outputs: int, up: bool, frames: int) -> None:
    block = scramble(GBlock(frames, 4, outputs, 5, upsample=up))
    plain = plain_blocks.GBlock(frames, 4, outputs, 5, upsample=up)
    expected = plainly(plain, block)
    for network in (block, plain):
        use_batch_statistics(network)
    x = torch.randn(frames, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    condition = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    actual = block(x.flatten(0, 1), affine_maps(block, condition), frames).unflatten(0, (frames, 2))
    assert actual.shape == (frames, 2, outputs, 6 if up else 3, 10 if up else 5)
    assert_same([actual], [expected(x, condition)], [x, condition, *block.parameters()])


@pytest.mark.parametrize("outputs", [3, 6])
@pytest.mark.parametrize(("activate", "pool"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize(("frames", "pool_time"), [(None, False), (5, False), *((t, True) for t in (1, 2, 5, 6))])
def test_d_block_is_biggans(outputs: int, activate: bool, pool: bool, frames: int | None, pool_time: bool) -> None:
    """Time is halved where asked: T' = T // 2, but never fewer than one frame."""
    dimensions, time = (2, ()) if frames is None else (3, (frames,))
    block = scramble(DBlock(3, outputs, dimensions, activate, pool, pool_time=pool_time))
    plain = plain_blocks.DBlock(3, outputs, dimensions, activate, pool, pool_time=pool_time)
    x = torch.randn(2, 3, *time, 4, 6, dtype=torch.float64, requires_grad=True)
    actual = block(x)
    if pool and pool_time and frames is not None:
        time = (max(1, frames // 2),)
    assert actual.shape == (2, outputs, *time, *((2, 3) if pool else (4, 6)))
    assert_same([actual], [plainly(plain, block)(x)], [x, *block.parameters()])


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
    encoder = scramble(Encoder(config, {size: config.channels_at(size) for size in recurrent}))
    video = torch.rand(2, 3, channels, resolution, resolution, dtype=torch.float64) * 2 - 1
    states, expected = encoder(video), plainly(PlainEncoder(config), encoder)(video)
    assert states.keys() == set(recurrent)
    for size in recurrent:
        assert states[size].shape == (2, config.channels_at(size), size, size)
        assert states[size].any()
    assert_same([states[size] for size in recurrent], [expected[size] for size in recurrent], [*encoder.parameters()])


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
    encoder = scramble(Encoder(tiny_model(), {8: 4}))
    frames = torch.rand(1, 2, 3, 32, 32, dtype=torch.float64)
    assert not torch.allclose(encoder(frames)[8], encoder(frames.flip(1))[8])
