"""What tests of training share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trivd.config import Config
from trivd.training.step import Trainer


@pytest.fixture
def make_trainer(tiny_config: Callable[..., Config]) -> Callable[..., Trainer]:
    """A factory of trainers of the tiny model; keyword arguments (section -> settings) replace its own."""

    def trainer(dtype: torch.dtype = torch.float32, **changes: dict[str, Any]) -> Trainer:
        return Trainer(tiny_config(**changes), torch.device("cpu"), dtype)

    return trainer
