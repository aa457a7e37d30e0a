"""What a step is said to cost, against a step that is made."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.discriminators import Discriminators
from trivd.runtime.errors import TrivdError
from trivd.training.plan import make_plan
from trivd.training.step import Trainer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "model": {"classes": 10, "unit": "conv_lstm"},
            "discriminator": {"decomposition": "mocogan_k8"},
            "training": {
                "batch_size": 4,
                "microbatch": 2,
                "discriminator_updates": 3,
                "reconstruction": 30.0,
                "reconstruction_samples": 3,
                "r1": 1.0,
                "r1_every": 1,
            },
        },
    ],
)
def test_the_plan_counts_a_real_step(tiny_config: Callable[..., Config], changes: dict[str, dict[str, Any]]) -> None:
    wide = {"generator_channels": 8, "discriminator_channels": 8, "recurrent_resolutions": [8, 16]}
    config = tiny_config(**(changes | {"model": wide | changes.get("model", {})}))
    recipe = config.training
    trainer = Trainer(config, torch.device("cpu"), torch.float32)
    videos = torch.randint(256, (2, 5, 32, 32, 3), dtype=torch.uint8)
    batch = Batch(videos, torch.zeros(2, dtype=torch.int64))
    with FlopCounterMode(display=False) as counter:
        trainer.train_step([[batch] * (recipe.batch_size // 2)] * recipe.discriminator_updates)
    plan = make_plan(config)
    assert plan.discriminator_flops + plan.generator_flops == pytest.approx(counter.get_total_flops(), rel=0.001)

    counts = {
        view: sum(p.numel() for p in discriminator.parameters())
        for view, discriminator in trainer.discriminators.items()
    }
    assert plan.discriminator_parameters == counts
    weights = sum(p.numel() for p in trainer.generator.parameters())
    assert plan.generator_parameters == weights
    # Float32 weights, gradients and two moments of both; the average of G.
    assert plan.state_bytes == 4 * (4 * (weights + sum(counts.values())) + weights)
    assert plan.activation_bytes > 0
    assert plan.discriminator_pixels == trainer.discriminators.pixels(config.model)


def test_the_costs_are_those_of_each_process(tiny_config: Callable[..., Config]) -> None:
    shared, alone = (tiny_config(training={"batch_size": clips, "microbatch": 2}) for clips in (8, 4))
    assert make_plan(shared, 2) == make_plan(alone)
    with pytest.raises(TrivdError, match="3 processes cannot share the 8 clips"):
        make_plan(shared, 3)


def test_pixels_of_the_discriminators_by_hand(tiny_config: Callable[..., Config]) -> None:
    """Five frames of 32 pixels: two halved frames, a quarter of the clip, and the halved clip."""
    config = tiny_config()
    pixels = Discriminators(config.discriminator, config.model).pixels(config.model)
    assert pixels == 2 * 16 * 16 + 5 * 16 * 16 + 5 * 16 * 16
