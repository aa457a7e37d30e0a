"""What tests of a training step share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trivd.data.loader import Batch
from trivd.training.draws import draw_discriminator_pass, draw_generator_pass
from trivd.training.objectives import Losses
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


def discriminator_update(
    trainer: Trainer, batches: Sequence[Batch], rng: torch.Generator, penalised: bool = False
) -> Losses:
    """One update of the discriminators alone, with its verdict."""
    passes = [draw_discriminator_pass(one, trainer.config, trainer.discriminators, rng) for one in batches]
    update = trainer.discriminator_update(passes, penalised)
    trainer.verdicts.launched(trainer.step + 1, ["discriminator"], [update.verdict])
    return update.losses


def generator_update(trainer: Trainer, batches: Sequence[Batch], rng: torch.Generator) -> Losses:
    """One update of the generator alone, with its verdict."""
    passes = [draw_generator_pass(one, trainer.config, trainer.discriminators, rng) for one in batches]
    weight = torch.tensor(trainer.config.training.reconstruction_weight(trainer.step))
    update = trainer.generator_update(passes, weight)
    trainer.verdicts.launched(trainer.step + 1, ["generator"], [update.verdict])
    return update.losses
