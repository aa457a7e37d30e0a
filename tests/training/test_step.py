"""One training step: who is changed by what, on which frames, and by how much."""

import copy
from functools import partial

import pytest
import torch
from step_checks import MakeTrainer, batch, discriminator_update, generator_update, rng, same, weights
from torch import Tensor, nn

from trivd.config import Config
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Scores, combine
from trivd.models.latents import draw_latents
from trivd.runtime.pixels import to_float
from trivd.training import objectives
from trivd.training.losses import discriminator_hinge
from trivd.training.step import Trainer
from trivd.training.verdicts import NonFiniteLossError

UPDATES = {"discriminator": discriminator_update, "generator": generator_update}


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_discriminator_updates_per_generator_update(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    trainer = make_trainer(training={"discriminator_updates": updates})
    calls: list[str] = []
    for name, optimizer in (("G", trainer.generator_optimizer), ("D", trainer.discriminator_optimizer)):
        optimizer.register_step_pre_hook(lambda *_, name=name: calls.append(name))
    for number in range(2):
        trainer.train_step([[batch(number)] for _ in range(updates)])
    assert "".join(calls) == ("D" * updates + "G") * 2
    assert trainer.step == 2


def test_the_paper_has_two_discriminator_updates() -> None:
    assert Config().training.discriminator_updates == 2


def test_a_discriminator_update_leaves_the_generator_alone(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    generator, discriminators = weights(trainer.generator), weights(trainer.discriminators)
    discriminator_update(trainer, [batch()], rng())
    assert same(weights(trainer.generator), generator)  # E is a part of it
    assert any(name.startswith("encoder.") for name in generator)
    assert all(parameter.grad is None for parameter in trainer.generator.parameters())
    changed = weights(trainer.discriminators)
    assert not any(
        torch.equal(changed[name], discriminators[name]) for name in discriminators if name.endswith("weight")
    )


def test_fakes_carry_no_graph_into_the_discriminator_update(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()
    seen: list[Tensor] = []
    cut = trainer.discriminators.cut
    monkeypatch.setattr(
        trainer.discriminators,
        "cut",
        lambda view, videos, places: seen.append(videos) or cut(view, videos, places),
    )
    discriminator_update(trainer, [batch()], rng())
    assert len(seen) == 3
    assert not any(videos.requires_grad for videos in seen)
    seen.clear()
    generator_update(trainer, [batch()], rng())
    assert all(videos.requires_grad for videos in seen)


def test_a_generator_update_leaves_the_discriminators_alone_and_trainable(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    generator, discriminators = weights(trainer.generator), weights(trainer.discriminators)
    generator_update(trainer, [batch()], rng())
    assert same(weights(trainer.discriminators), discriminators)
    assert all(parameter.grad is None for parameter in trainer.discriminators.parameters())
    assert all(parameter.requires_grad for parameter in trainer.discriminators.parameters())
    changed = weights(trainer.generator)
    for part in ("encoder.blocks", "first.weight", "stages.0.unit", "output.weight"):
        moved = [
            name for name in generator if name.startswith(part) and not torch.equal(generator[name], changed[name])
        ]
        assert moved, part
    discriminator_update(trainer, [batch(1)], rng())
    assert not same(weights(trainer.discriminators), discriminators)


def test_the_generator_update_goes_on_from_the_last_discriminator_batch(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()
    seen: list[Tensor] = []
    encode = trainer.generator.encoder.forward
    monkeypatch.setattr(trainer.generator.encoder, "forward", lambda frames: seen.append(frames) or encode(frames))
    first, last = batch(1), batch(2)
    trainer.train_step([[first], [last]])
    for frames, expected in zip(seen, (first, last, last), strict=True):
        assert torch.equal(frames, to_float(expected.video)[:, :2])


def test_discriminators_see_the_conditioning_frames_before_the_fakes(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(discriminator={"decomposition": "clip"})
    seen: list[Tensor] = []
    cut = trainer.discriminators.cut
    monkeypatch.setattr(
        trainer.discriminators,
        "cut",
        lambda view, videos, places: seen.append(videos) or cut(view, videos, places),
    )
    clips = batch()
    real = to_float(clips.video)
    discriminator_update(trainer, [clips], rng())
    generator_update(trainer, [clips], rng())
    judged, drawn = (videos.detach() for videos in seen)
    assert torch.equal(judged[:2], real)
    assert torch.equal(judged[2:, :2], real[:, :2])
    assert not torch.equal(judged[2:, 2:], real[:, 2:])
    assert torch.equal(drawn[:, :2], real[:, :2])


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_an_update_lowers_its_own_loss(make_trainer: MakeTrainer, who: str, head: str) -> None:
    recipe = {"generator_lr": 1e-4, "discriminator_lr": 1e-4, "orthogonality": 0.0}
    trainer = make_trainer(training=recipe, discriminator={"head": head})
    for network in (trainer.generator, trainer.discriminators):
        for layer in network.modules():  # so that sigma does not move by itself
            if hasattr(layer, "power_iteration"):
                layer.power_iteration(50)

    def total(losses: dict[str, Tensor]) -> float:
        return sum(value.item() for name, value in losses.items() if name.startswith(f"loss/{who}/"))

    update = partial(UPDATES[who], trainer)
    before = total(update([batch()], rng()))
    after = total(update([batch()], rng()))  # the same clips and draws; reports the loss of before this update
    assert after < before


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
def test_one_pass_for_real_and_fake_equals_two(make_trainer: MakeTrainer, head: str) -> None:
    trainer = make_trainer(discriminator={"head": head, "decomposition": "stronger"})
    trainer.discriminators.eval()  # sigma stays
    discriminators = copy.deepcopy(trainer.discriminators)
    clips = batch()
    real = to_float(clips.video)
    draws = rng()
    z = draw_latents(2, trainer.config.model.latent_dim, draws)
    with torch.no_grad():
        future = copy.deepcopy(trainer.generator)(real[:, :2], z, clips.labels).video
    fake = torch.cat([real[:, :2], future], dim=1)
    losses = discriminator_update(trainer, [clips], rng())
    assert len(losses) == 4 * len(discriminators.views)  # with three answers of each
    for view in discriminators.views:
        both = torch.cat([real, fake])
        seen = discriminators.cut(view, both, discriminators.draw_places(view, both.shape, draws))
        real_outputs, fake_outputs = (
            combine(discriminators[view](part, clips.labels), trainer.config.discriminator.head)
            for part in (seen[:2], seen[2:])
        )
        expected = discriminator_hinge(real_outputs, fake_outputs)
        torch.testing.assert_close(losses[f"loss/discriminator/{view}"], expected.detach(), rtol=1e-4, atol=1e-5)
        wrong = [value < 0 for value in real_outputs.flatten()] + [value > 0 for value in fake_outputs.flatten()]
        means = {"real": real_outputs.mean(), "fake": fake_outputs.mean(), "wrong": sum(wrong) / len(wrong)}
        for name, mean in means.items():
            assert losses[f"discriminator/{view}/{name}"].item() == pytest.approx(mean.item(), rel=1e-4, abs=1e-5)


def test_mixed_pairs_never_join_real_and_fake(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    combined: list[Scores] = []
    monkeypatch.setattr(objectives, "combine", lambda scores, head: combined.append(scores) or combine(scores, head))
    discriminator_update(trainer, [batch(size=3)], rng())
    assert [len(scores.video) for scores in combined] == [3, 3] * 3


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_accumulated_gradients_are_the_mean_over_the_passes(make_trainer: MakeTrainer, who: str) -> None:
    trainer, plain = make_trainer(), make_trainer()
    assert same(weights(trainer.generator), weights(plain.generator))
    parts = [batch(1), batch(2)]
    name = {"discriminator": "discriminators", "generator": "generator"}[who]
    losses = UPDATES[who](trainer, parts, rng())

    sums: dict[str, Tensor] = {}
    expected: dict[str, float] = {}
    draws = rng()
    start = weights(getattr(plain, name))
    for part in parts:  # one update each, from the same weights
        for key, value in UPDATES[who](plain, [part], draws).items():
            expected[key] = expected.get(key, 0.0) + value.item() / 2
        for key, gradient in gradients(getattr(plain, name)).items():
            sums[key] = sums.get(key, 0) + gradient / 2
        with torch.no_grad():
            for key, parameter in getattr(plain, name).named_parameters():
                parameter.copy_(start[key])
    actual = gradients(getattr(trainer, name))
    assert set(actual) == set(sums)
    for key, gradient in actual.items():
        torch.testing.assert_close(gradient, sums[key], rtol=1e-4, atol=1e-6)
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(make_trainer: MakeTrainer, who: str) -> None:
    trainer = make_trainer()
    with torch.no_grad():
        if who == "discriminator":
            trainer.discriminators["crop"].score.bias.fill_(float("nan"))
        else:
            trainer.generator.output.bias.fill_(float("nan"))
    before = weights(trainer.generator), weights(trainer.discriminators)
    update = partial(UPDATES[who], trainer)
    with pytest.raises(NonFiniteLossError, match=rf"The {who} loss is nan at step 1\."):
        update([batch()], rng())
    for old, module in zip(before, (trainer.generator, trainer.discriminators), strict=True):
        for name, value in weights(module).items():
            torch.testing.assert_close(value, old[name], rtol=0, atol=0, equal_nan=True)
    assert trainer.step == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(
    make_trainer: MakeTrainer, who: str, value: float
) -> None:
    """Though the loss is finite, as where a square root or a division by a small number meets zero."""
    trainer = make_trainer()
    trainer.train_step([[batch(1)], [batch(2)]])
    module = trainer.generator.output if who == "generator" else trainer.discriminators["crop"].score
    optimizer = trainer.generator_optimizer if who == "generator" else trainer.discriminator_optimizer
    module.weight.register_hook(
        lambda gradient: gradient.flatten().index_fill(0, torch.tensor([1]), value).view_as(gradient)
    )
    update = partial(UPDATES[who], trainer)
    before = weights(trainer.generator), weights(trainer.discriminators)
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(NonFiniteLossError, match=rf"The {who} gradient is {value} at step 2\."):
        update([batch()], rng())
    for old, network in zip(before, (trainer.generator, trainer.discriminators), strict=True):
        assert same(old, weights(network))
    for index, state in optimizer.state_dict()["state"].items():
        assert same(moments[index], state)
    assert all(parameter.requires_grad for parameter in trainer.discriminators.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_blocks_change_nothing_but_the_memory(make_trainer: MakeTrainer, dtype: torch.dtype) -> None:
    """Neither losses nor gradients, and no layer makes a second power iteration."""
    kept, recomputed = make_trainer(dtype), make_trainer(dtype)
    for network in (recomputed.generator, recomputed.discriminators):
        recompute_blocks(network)
    saved: dict[Trainer, int] = {}
    for trainer in (kept, recomputed):
        saved[trainer] = 0

        def count(tensor: Tensor, trainer: Trainer = trainer) -> Tensor:
            saved[trainer] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            trainer.train_step([[batch(1)], [batch(2)]])
        trainer.train_step([[batch(3)], [batch(4)]])
    for name in ("generator", "discriminators"):
        first, second = getattr(kept, name), getattr(recomputed, name)
        assert same(gradients(first), gradients(second))
        expected = {key: value for key, value in first.state_dict().items() if "standing" not in key}  # these are NaN
        assert same(expected, second.state_dict())  # with the singular vectors
    assert saved[recomputed] < 0.7 * saved[kept]
