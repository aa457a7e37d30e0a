"""What tests of training share."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.training.objectives import Losses
from trivd.training.step import Trainer


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """A function that has some work done after a step of the training."""
    original = Trainer.train_step

    def install(last: int, work: Callable[[], object]) -> None:
        def step(trainer: Trainer, updates: Sequence[Sequence[Batch]]) -> Losses:
            losses = original(trainer, updates)
            if trainer.step == last:
                work()
            return losses

        monkeypatch.setattr(Trainer, "train_step", step)

    return install


@pytest.fixture
def make_trainer(tiny_config: Callable[..., Config]) -> Callable[..., Trainer]:
    """A factory of trainers of the tiny model; keyword arguments (section -> settings) replace its own."""

    def trainer(dtype: torch.dtype = torch.float32, **changes: dict[str, Any]) -> Trainer:
        return Trainer(tiny_config(**changes), torch.device("cpu"), dtype)

    return trainer
