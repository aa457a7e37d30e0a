"""What a training step is made of: random numbers, the parts of the loss, Adam, the average, classes and types."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from step_checks import MakeTrainer, batch, generator_update, rng, same, weights
from torch import Tensor, nn

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.discriminators import DECOMPOSITIONS
from trivd.runtime.pixels import to_float
from trivd.training.draws import update_rng
from trivd.training.step import Trainer


def test_the_same_seed_and_step_draw_the_same(make_trainer: MakeTrainer) -> None:
    first, second, other = make_trainer(), make_trainer(), make_trainer(training={"seed": 1})
    updates = [[batch(1)], [batch(2)]]
    losses = first.train_step(updates)
    torch.rand(7)  # what else is drawn does not matter
    again = second.train_step(updates)
    assert same(losses, again)
    assert same(weights(first.generator), weights(second.generator))
    assert same(weights(first.discriminators), weights(second.discriminators))
    assert not same(losses, other.train_step(updates))


def test_every_update_has_random_numbers_of_its_own() -> None:
    places = [(seed, step, update) for seed in range(2) for step in range(3) for update in range(3)]
    draws = {torch.rand(4, generator=update_rng(*place)).numpy().tobytes() for place in places}
    assert len(draws) == len(places)
    assert torch.equal(torch.rand(4, generator=update_rng(1, 2, 0)), torch.rand(4, generator=update_rng(1, 2, 0)))


@pytest.mark.parametrize("decomposition", DECOMPOSITIONS)
def test_every_decomposition_trains_and_names_its_losses(make_trainer: MakeTrainer, decomposition: str) -> None:
    trainer = make_trainer(discriminator={"decomposition": decomposition})
    losses = trainer.train_step([[batch(1)], [batch(2)]])
    views = DECOMPOSITIONS[trainer.config.discriminator.decomposition]
    expected = {f"loss/{who}/{view}" for view in views for who in ("discriminator", "generator")}
    expected |= {f"discriminator/{view}/{answer}" for view in views for answer in ("real", "fake", "wrong")}
    assert set(losses) == expected | {"loss/orthogonality"}
    assert all(torch.isfinite(value) and not value.requires_grad and value.dim() == 0 for value in losses.values())


def test_orthogonality_and_reconstruction_enter_the_loss_with_their_weights(make_trainer: MakeTrainer) -> None:
    """Gradients are linear in the weights of the terms: doubling a weight adds its term once more."""

    def gradient(orthogonality: float, reconstruction: float, half_life: int = 0, step: int = 0) -> Tensor:
        weights = {"orthogonality": orthogonality, "reconstruction": reconstruction}
        trainer = make_trainer(training=weights | {"reconstruction_half_life": half_life})
        trainer.step = step
        nn.init.normal_(trainer.generator.first.weight, generator=torch.Generator().manual_seed(0))
        generator_update(trainer, [batch()], rng())
        grad = trainer.generator.first.weight.grad
        assert grad is not None
        return grad.clone()

    def check(change: Tensor, twice: Tensor) -> None:
        assert change.abs().max() > 1e-6
        torch.testing.assert_close(twice, 2 * change, rtol=1e-2, atol=1e-6)

    base = gradient(0.0, 0.0)
    check(gradient(0.01, 0.0) - base, gradient(0.02, 0.0) - base)
    check(gradient(0.0, 1.0) - base, gradient(0.0, 2.0) - base)
    torch.testing.assert_close(gradient(0.0, 8.0, half_life=50, step=150), gradient(0.0, 1.0))
    weight = make_trainer().generator.first.weight.detach().clone()
    nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    gram = weight @ weight.T
    analytic = 4 * (gram - gram.diag().diag()) @ weight
    torch.testing.assert_close(gradient(0.01, 0.0) - base, 0.01 * analytic, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("step", "share", "expected"), [(4, 0.0, 1.0), (5, 0.0, 0.75), (7, 0.0, 0.25), (2, 0.75, 0.5), (7, 0.75, 0.25)]
)
def test_rates_fall_to_zero_in_the_last_part_of_a_run(
    make_trainer: MakeTrainer, step: int, share: float, expected: float
) -> None:
    """As those of a trainer whose rates are set by hand, in the last half of 8 steps, or of the minutes."""
    ours, by_hand = make_trainer(training={"steps": 8, "lr_cooldown": 0.5}), make_trainer(training={"steps": 8})
    recipe = by_hand.config.training
    by_hand.generator_optimizer.param_groups[0]["lr"] = expected * recipe.generator_lr
    by_hand.discriminator_optimizer.param_groups[0]["lr"] = expected * recipe.discriminator_lr
    for trainer in (ours, by_hand):
        trainer.step, trainer.share = step, share
        trainer.train_step([[batch()]])
    for name in ("generator", "discriminators"):
        for parameter, expected_one in zip(
            getattr(ours, name).parameters(), getattr(by_hand, name).parameters(), strict=True
        ):
            torch.testing.assert_close(parameter, expected_one, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("step", "share", "predicted"), [(0, 0.0, 1), (2, 0.0, 2), (1, 0.5, 3), (4, 0.0, 3)])
def test_a_curriculum_trains_a_model_of_fewer_frames(
    make_trainer: MakeTrainer, step: int, share: float, predicted: int
) -> None:
    """As a trainer of such a model does: weights do not depend on the number of frames."""
    few = {"frames": 1}
    recipe = {"steps": 8, "reconstruction": 30.0, "reconstruction_samples": 2}
    ours = make_trainer(discriminator=few, training=recipe | {"curriculum": 0.5, "curriculum_start": 1})
    short = make_trainer(model={"predicted_frames": predicted}, discriminator=few, training=recipe)
    clips = batch()
    for trainer, read in ((ours, clips), (short, clips._replace(video=clips.video[:, : 2 + predicted]))):
        trainer.step, trainer.share = step, share
        trainer.train_step([[read]])
    for name in ("generator", "discriminators"):
        assert same(weights(getattr(ours, name)), weights(getattr(short, name)))


def test_reconstruction_takes_the_mean_of_the_samples(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(training={"reconstruction": 30.0, "reconstruction_samples": 2})
    futures: list[Tensor] = []
    decode = trainer.generator.decode

    def record(*arguments: Any, **options: Any) -> Any:
        prediction = decode(*arguments, **options)
        futures.append(prediction.video.detach())
        return prediction

    monkeypatch.setattr(trainer.generator, "decode", record)
    clips = batch()
    losses = generator_update(trainer, [clips], rng())
    (video,) = futures
    assert video.shape[0] == 4  # clip 0, clip 1, and both once more
    assert not torch.equal(video[:2], video[2:])
    truth = to_float(clips.video)[:, 2:]
    expected = ((video[:2] + video[2:]) / 2 - truth).abs().mean()
    torch.testing.assert_close(losses["loss/reconstruction"], expected)
    assert all(torch.isfinite(value) for value in losses.values())


def test_diversity_parts_the_samples_of_each_clip(make_trainer: MakeTrainer) -> None:
    """With its weight, and without L1 if that is off."""

    def update(weight: float) -> tuple[dict[str, Tensor], Tensor]:
        recipe = {"diversity": weight, "reconstruction_samples": 2, "reconstruction": 1.0 if weight == 0 else 0.0}
        trainer = make_trainer(training=recipe | {"orthogonality": 0.0})
        losses = generator_update(trainer, [batch()], rng())
        grad = trainer.generator.output.weight.grad
        assert grad is not None
        return losses, grad.clone()

    without, _ = update(0.0)
    assert "loss/diversity" not in without
    (losses, once), (_, twice), (_, thrice) = update(10.0), update(20.0), update(30.0)
    assert "loss/reconstruction" not in losses
    assert losses["loss/diversity"] < 0  # the ratio of distances, to be raised
    assert (twice - once).abs().max() > 1e-6
    torch.testing.assert_close(thrice - once, 2 * (twice - once), rtol=1e-2, atol=1e-6)


def test_samples_of_a_clip_start_from_its_own_frames(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(
        training={"reconstruction": 30.0, "reconstruction_samples": 2}, discriminator={"decomposition": "clip"}
    )
    seen: list[Tensor] = []
    states: list[dict[int, Tensor]] = []
    cut, decode = trainer.discriminators.cut, trainer.generator.decode
    monkeypatch.setattr(
        trainer.discriminators,
        "cut",
        lambda view, videos, places: seen.append(videos) or cut(view, videos, places),
    )
    monkeypatch.setattr(
        trainer.generator, "decode", lambda s, *others, **named: states.append(s) or decode(s, *others, **named)
    )
    clips = batch()
    generator_update(trainer, [clips], rng())
    given = to_float(clips.video)[:, :2]
    assert torch.equal(seen[0][:, :2], torch.cat([given, given]))
    for state in states[0].values():
        assert torch.equal(state[:2], state[2:])
        assert not torch.equal(state[0], state[1])


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
def test_bfloat16_follows_float32(make_trainer: MakeTrainer, head: str) -> None:
    exact, rounded = (
        make_trainer(discriminator={"head": head}),
        make_trainer(torch.bfloat16, discriminator={"head": head}),
    )
    updates = [[batch(1)], [batch(2)]]
    wanted = exact.train_step(updates)
    losses = rounded.train_step(updates)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(wanted[name].item(), rel=0.1, abs=0.1), name
    for parameter in (*rounded.generator.parameters(), *rounded.discriminators.parameters()):
        assert parameter.dtype == torch.float32


def test_classes_reach_both_networks(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(model={"classes": 3}, training={"reconstruction": 1.0, "reconstruction_samples": 2})
    seen: list[tuple[str, list[int]]] = []

    def watch(name: str, embedding: nn.Module) -> None:
        embedding.register_forward_pre_hook(lambda _, inputs: seen.append((name, inputs[0].tolist())))

    watch("G", trainer.generator.embedding)
    watch("D", trainer.discriminators["crop"].embedding)
    clips = Batch(batch().video, torch.tensor([2, 0]))
    trainer.train_step([[clips]])
    assert seen == [("G", [2, 0]), ("D", [2, 0, 2, 0]), ("G", [2, 0, 2, 0]), ("D", [2, 0, 2, 0])]


def test_adam_is_the_papers(make_trainer: MakeTrainer) -> None:
    trainer = Trainer(
        Config(model=make_trainer().config.model, discriminator=make_trainer().config.discriminator),
        torch.device("cpu"),
        torch.float32,
    )
    for optimizer, lr in ((trainer.generator_optimizer, 1e-4), (trainer.discriminator_optimizer, 5e-4)):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (lr, (0.0, 0.999), 0)


def test_the_average_follows_the_steps(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()  # starts at step 2, decay 0.5

    def steps() -> Iterator[dict[str, Tensor]]:
        for number in range(3):
            trainer.train_step([[batch(number)], [batch(number + 9)]])
            yield weights(trainer.generator)

    _, second, third = steps()
    for name, value in trainer.ema.weights.items():
        torch.testing.assert_close(value, (second[name] + third[name]) / 2)
