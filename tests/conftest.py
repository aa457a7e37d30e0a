"""What all tests share: repeatable randomness and tiny models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings

from trivd.config import (
    Config,
    DataConfig,
    DiscriminatorConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    override,
)

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # tensors are tiny: on a busy machine two threads waiting for each other took 50 times as long


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., ModelConfig]:
    """A factory of the smallest useful model's settings; keyword arguments replace its own."""

    def make(**changes: Any) -> ModelConfig:
        values: dict[str, Any] = {
            "resolution": 32,
            "conditioning_frames": 2,
            "predicted_frames": 2,
            "generator_channels": 2,
            "discriminator_channels": 2,
            "latent_dim": 4,
            "embedding_dim": 4,
            "recurrent_resolutions": (8, 16),
        }
        return ModelConfig(**(values | changes))

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny_model: Callable[..., ModelConfig]) -> Callable[..., Config]:
    """A factory of the settings of a run of four steps; keyword arguments (section -> settings) replace its own."""

    def make(**changes: dict[str, Any]) -> Config:
        config = Config(
            model=tiny_model(predicted_frames=3, recurrent_resolutions=(8,)),
            discriminator=DiscriminatorConfig(frames=2),
            data=DataConfig(workers=0, digits_clips=16),
            training=TrainingConfig(
                steps=4,
                batch_size=2,
                ema_start=2,
                ema_decay=0.5,
                precision="float32",
                device="cpu",
                log_every=1,
                sample_every=4,
                evaluate_every=4,
                checkpoint_every=2,
            ),
            evaluation=EvaluationConfig(clips=2, samples=2, batch_size=2, standing_batches=2, standing_batch_size=2),
        )
        return override(config, changes, "the test")

    return make
