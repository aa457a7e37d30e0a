"""What tests of a training step share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trivd.data.loader import Batch
from trivd.training.step import Trainer

MakeTrainer = Callable[..., Trainer]


def batch(seed: int = 0, size: int = 2) -> Batch:
    """Random clips of five frames of 32 pixels."""
    rng = torch.Generator().manual_seed(seed)
    video = torch.randint(256, (size, 5, 32, 32, 3), generator=rng, dtype=torch.uint8)
    return Batch(video, torch.zeros(size, dtype=torch.int64))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)
