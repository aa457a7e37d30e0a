"""Exported generators: graphs of operators that draw the same futures, for batches of any size."""

from collections.abc import Callable

import pytest
import torch

from trivd.config import Unit
from trivd.models.generator import Generator

UNITS: tuple[Unit, ...] = ("conv_gru", "conv_lstm", "k_traj_gru", "tsru_p", "ptsru_s", "dynamic_conv_lstm")
OPERATORS = {"conv_lstm": {"activate", "normalize"}, "conv_gru": {"activate", "normalize", "mix"}}
FIXED_BATCH = "dynamic_conv_lstm"  # each sample is a group of one convolution, and their number a constant of the graph


@pytest.mark.parametrize("unit", UNITS)
def test_an_exported_generator_draws_the_same(unit: Unit, make_generator: Callable[..., Generator]) -> None:
    generator = make_generator(unit=unit, recurrent_resolutions=(8, 32) if unit == "tsru_p" else (8,))
    config = generator.config

    def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (batch, config.conditioning_frames, config.image_channels, config.resolution, config.resolution)
        return torch.rand(shape) * 2 - 1, torch.randn(batch, config.latent_dim)

    batch = {0: torch.export.Dim("batch", min=2, max=64)}
    dynamic = None if unit == FIXED_BATCH else {"frames": batch, "z": batch}
    exported = torch.export.export(generator, inputs(3), dynamic_shapes=dynamic)
    found = {str(node.target).split(".")[1] for node in exported.graph.nodes if str(node.target).startswith("trivd.")}
    if unit in OPERATORS:
        assert found == OPERATORS[unit]
    for size in (3,) if unit == FIXED_BATCH else (3, 5):
        frames, z = inputs(size)
        expected = generator(frames, z).video
        torch.testing.assert_close(exported.module()(frames, z).video, expected, rtol=0, atol=0)
