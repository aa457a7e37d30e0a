"""The plain training step and ours: the same losses, changed weights and averages."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from step_checks import discriminator_update

from reference.layers import load, plain_names
from reference.step import Trainer as PlainTrainer
from trivd.config import Config
from trivd.data.loader import Batch
from trivd.training.division import divide
from trivd.training.draws import update_rng
from trivd.training.step import Trainer

CPU = torch.device("cpu")
HALVED = {"reconstruction": 2.0, "reconstruction_half_life": 1}  # 1 at step 1
MakeConfig = Callable[..., Config]


def trainers(config: Config) -> tuple[Trainer, PlainTrainer]:
    """Ours and the plain one, with the same weights."""
    ours, plain = Trainer(config, CPU, torch.float32), PlainTrainer(config, CPU)
    load(plain.generator, ours.generator.state_dict())
    load(plain.discriminators, ours.discriminators.state_dict())
    return ours, plain


def batches(config: Config, count: int) -> list[list[Batch]]:
    rng, model = torch.Generator().manual_seed(7), config.model
    passes, clips = divide(config.training, processes=1)
    shape = (clips, model.frames, model.resolution, model.resolution, model.image_channels)

    def batch() -> Batch:
        video = torch.randint(256, shape, dtype=torch.uint8, generator=rng)
        return Batch(video, torch.randint(max(1, model.classes), (len(video),), generator=rng))

    return [[batch() for _ in range(passes)] for _ in range(count)]


@pytest.mark.parametrize(
    ("unit", "changes"),
    [
        ("tsru_p", {"discriminator": {"decomposition": "stronger"}}),
        ("conv_gru", {"discriminator": {"decomposition": "faster", "head": "projection"}, "model": {"classes": 3}}),
        ("tsru_p", {"training": {"batch_size": 4, "microbatch": 2, "reconstruction_samples": 2} | HALVED}),
    ],
)
def test_a_step_is_ours(tiny_config: MakeConfig, unit: str, changes: dict[str, Any]) -> None:
    """Losses, changes of weights in units of the learning rate, and the average.

    With rates so low that both orders of the power iteration give the same, and an epsilon of Adam beside which the
    gradients' rounding is small. A ReLU's input may be zero but for rounding, and its gradient then be theirs or ours:
    with one of three seeds at most.
    """
    furthest = sorted(furthest_change(tiny_config, unit, changes, seed) for seed in range(3))
    assert furthest[1] < 1e-2
    assert furthest[2] < 0.2


def furthest_change(tiny_config: MakeConfig, unit: str, changes: dict[str, Any], seed: int) -> float:
    """Between the changes of weights that a step of theirs and of ours makes; losses and averages must agree."""
    lr = 1e-4
    recipe = {"discriminator_lr": lr, "generator_lr": lr, "epsilon": 0.01, "ema_start": 1, "seed": seed}
    changes = changes | {"model": {"unit": unit} | changes.get("model", {})}
    config = tiny_config(**changes | {"training": changes.get("training", {}) | recipe})
    ours, plain = trainers(config)
    ours.step = plain.step = 1
    networks = [(ours.generator, plain.generator), (ours.discriminators, plain.discriminators)]
    starts = [plain_names(copy.deepcopy(own.state_dict())) for own, _ in networks]
    updates = batches(config, 2)
    expected, losses = ours.train_step(updates), plain.train_step(updates)
    assert losses.keys() == {name for name in expected if name.startswith("loss/")}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-4)
    furthest = 0.0
    for (own, other), start in zip(networks, starts, strict=True):
        after = plain_names(own.state_dict())
        changed = {name: (weight.detach() - start[name]) / lr for name, weight in other.named_parameters()}
        assert max(float(change.abs().max()) for change in changed.values()) > 0.9
        for name, change in changed.items():
            furthest = max(furthest, float((change - (after[name] - start[name]) / lr).abs().max()))
    ours.ema.apply_to(ours.generator)
    average = plain_names(ours.generator.state_dict())
    assert len(plain.average) == len(list(ours.generator.parameters()))
    for name, weight in plain.average.items():
        torch.testing.assert_close(weight, average[name], rtol=0, atol=1e-5)
    return furthest


def test_losses_of_a_first_update_are_ours(tiny_config: MakeConfig) -> None:
    """Before any weight has changed, whatever the rates."""
    config = tiny_config(model={"unit": "tsru_p", "recurrent_resolutions": (8, 16)})
    updates = batches(config, 1)[0]
    ours, plain = trainers(config)
    expected = discriminator_update(ours, updates, update_rng(0, 0, 0))
    losses = plain.discriminator_update(updates, update_rng(0, 0, 0))
    assert losses.keys() == {name for name in expected if name.startswith("loss/")}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-5, atol=1e-6)


def test_average_starts_late(tiny_config: MakeConfig) -> None:
    config = tiny_config(training={"ema_start": 2, "ema_decay": 0.5})
    trainer = PlainTrainer(config, CPU)
    parameter = next(trainer.generator.parameters())
    seen = []
    for _ in range(3):
        trainer.train_step(batches(config, 1))
        seen.append(parameter.detach().clone())
        assert bool(trainer.average) == (trainer.step >= 2)
    torch.testing.assert_close(next(iter(trainer.average.values())), (seen[1] + seen[2]) / 2)
