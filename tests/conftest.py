"""What all tests share: repeatable randomness and tiny models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings

from trivd.config import ModelConfig

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
