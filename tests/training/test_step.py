"""One training step: who is changed by what, on which frames, and by how much."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trivd.config import Config
from trivd.data.loader import Batch
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import DECOMPOSITIONS, Scores, combine
from trivd.models.latents import draw_latents
from trivd.training import step as step_module
from trivd.training.losses import discriminator_hinge
from trivd.training.step import NonFiniteLossError, Trainer, update_rng
from trivd.video import to_float

MakeTrainer = Callable[..., Trainer]


def batch(seed: int = 0, size: int = 2) -> Batch:
    """Random clips of five frames of 32 pixels."""
    rng = torch.Generator().manual_seed(seed)
    video = torch.randint(256, (size, 5, 32, 32, 3), generator=rng, dtype=torch.uint8)
    return Batch(video, torch.zeros(size, dtype=torch.int64))


@pytest.fixture
def make(tiny_config: Callable[..., Config]) -> MakeTrainer:
    def trainer(dtype: torch.dtype = torch.float32, **changes: dict[str, Any]) -> Trainer:
        return Trainer(tiny_config(**changes), torch.device("cpu"), dtype)

    return trainer


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_discriminator_updates_per_generator_update(
    make: MakeTrainer, monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    trainer = make(training={"discriminator_updates": updates})
    calls: list[str] = []
    for name, optimizer in (("G", trainer.generator_optimizer), ("D", trainer.discriminator_optimizer)):
        optimizer.register_step_pre_hook(lambda *_, name=name: calls.append(name))
    for number in range(2):
        trainer.train_step([[batch(number)] for _ in range(updates)])
    assert "".join(calls) == ("D" * updates + "G") * 2
    assert trainer.step == 2


def test_the_paper_has_two_discriminator_updates() -> None:
    assert Config().training.discriminator_updates == 2


def test_a_discriminator_update_leaves_the_generator_alone(make: MakeTrainer) -> None:
    trainer = make()
    generator, critics = weights(trainer.generator), weights(trainer.discriminators)
    trainer.discriminator_update([batch()], rng())
    assert same(weights(trainer.generator), generator)  # E is a part of it
    assert any(name.startswith("encoder.") for name in generator)
    assert all(parameter.grad is None for parameter in trainer.generator.parameters())
    changed = weights(trainer.discriminators)
    assert not any(torch.equal(changed[name], critics[name]) for name in critics if name.endswith("weight"))


def test_fakes_carry_no_graph_into_the_discriminator_update(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make()
    seen: list[Tensor] = []
    draw = trainer.discriminators.draw
    monkeypatch.setattr(
        trainer.discriminators,
        "draw",
        lambda view, videos, *more, **copies: seen.append(videos) or draw(view, videos, *more, **copies),
    )
    trainer.discriminator_update([batch()], rng())
    assert len(seen) == 3
    assert not any(videos.requires_grad for videos in seen)
    seen.clear()
    trainer.generator_update([batch()], rng())
    assert all(videos.requires_grad for videos in seen)


def test_a_generator_update_leaves_the_critics_alone_and_trainable(make: MakeTrainer) -> None:
    trainer = make()
    generator, critics = weights(trainer.generator), weights(trainer.discriminators)
    trainer.generator_update([batch()], rng())
    assert same(weights(trainer.discriminators), critics)
    assert all(parameter.grad is None for parameter in trainer.discriminators.parameters())
    assert all(parameter.requires_grad for parameter in trainer.discriminators.parameters())
    changed = weights(trainer.generator)
    for part in ("encoder.blocks", "first.weight", "stages.0.unit", "output.weight"):
        moved = [
            name for name in generator if name.startswith(part) and not torch.equal(generator[name], changed[name])
        ]
        assert moved, part
    trainer.discriminator_update([batch(1)], rng())
    assert not same(weights(trainer.discriminators), critics)


def test_the_generator_update_goes_on_from_the_last_discriminator_batch(
    make: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make()
    seen: list[Tensor] = []
    encode = trainer.generator.encoder.forward
    monkeypatch.setattr(trainer.generator.encoder, "forward", lambda frames: seen.append(frames) or encode(frames))
    first, last = batch(1), batch(2)
    trainer.train_step([[first], [last]])
    for frames, expected in zip(seen, (first, last, last), strict=True):
        assert torch.equal(frames, to_float(expected.video)[:, :2])


def test_critics_see_the_conditioning_frames_before_the_fakes(
    make: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(discriminator={"decomposition": "clip"})
    seen: list[Tensor] = []
    draw = trainer.discriminators.draw
    monkeypatch.setattr(
        trainer.discriminators,
        "draw",
        lambda view, videos, *more, **copies: seen.append(videos) or draw(view, videos, *more, **copies),
    )
    clips = batch()
    real = to_float(clips.video)
    trainer.discriminator_update([clips], rng())
    trainer.generator_update([clips], rng())
    judged, drawn = (videos.detach() for videos in seen)
    assert torch.equal(judged[:2], real)
    assert torch.equal(judged[2:, :2], real[:, :2])
    assert not torch.equal(judged[2:, 2:], real[:, 2:])
    assert torch.equal(drawn[:, :2], real[:, :2])


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_an_update_lowers_its_own_loss(make: MakeTrainer, who: str, head: str) -> None:
    recipe = {"generator_lr": 1e-4, "discriminator_lr": 1e-4, "orthogonality": 0.0}
    trainer = make(training=recipe, discriminator={"head": head})
    for network in (trainer.generator, trainer.discriminators):
        for layer in network.modules():  # so that sigma does not move by itself
            if hasattr(layer, "power_iteration"):
                layer.power_iteration(50)

    def total(losses: dict[str, Tensor]) -> float:
        return sum(value.item() for name, value in losses.items() if name.startswith(f"loss/{who}/"))

    update = trainer.discriminator_update if who == "discriminator" else trainer.generator_update
    before = total(update([batch()], rng()))
    after = total(update([batch()], rng()))  # the same clips and draws; reports the loss of before this update
    assert after < before


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
def test_one_pass_for_real_and_fake_equals_two(make: MakeTrainer, head: str) -> None:
    trainer = make(discriminator={"head": head, "decomposition": "stronger"})
    trainer.discriminators.eval()  # sigma stays
    critics = copy.deepcopy(trainer.discriminators)
    clips = batch()
    real = to_float(clips.video)
    draws = rng()
    z = draw_latents(2, trainer.config.model.latent_dim, draws)
    with torch.no_grad():
        future = copy.deepcopy(trainer.generator)(real[:, :2], z, clips.labels).video
    fake = torch.cat([real[:, :2], future], dim=1)
    losses = trainer.discriminator_update([clips], rng())
    assert len(losses) == 3
    for view in critics.views:
        seen = critics.draw(view, torch.cat([real, fake]), draws)
        real_outputs, fake_outputs = (
            combine(critics[view](part, clips.labels), trainer.config.discriminator.head)
            for part in (seen[:2], seen[2:])
        )
        expected = discriminator_hinge(real_outputs, fake_outputs)
        torch.testing.assert_close(losses[f"loss/discriminator/{view}"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_mixed_pairs_never_join_real_and_fake(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make()
    combined: list[Scores] = []
    monkeypatch.setattr(step_module, "combine", lambda scores, head: combined.append(scores) or combine(scores, head))
    trainer.discriminator_update([batch(size=3)], rng())
    assert [len(scores.video) for scores in combined] == [3, 3] * 3


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_accumulated_gradients_are_the_mean_over_the_passes(make: MakeTrainer, who: str) -> None:
    trainer, plain = make(), make()
    assert same(weights(trainer.generator), weights(plain.generator))
    parts = [batch(1), batch(2)]
    name = {"discriminator": "discriminators", "generator": "generator"}[who]
    losses = getattr(trainer, f"{who}_update")(parts, rng())

    sums: dict[str, Tensor] = {}
    expected: dict[str, float] = {}
    draws = rng()
    start = weights(getattr(plain, name))
    for part in parts:  # one update each, from the same weights
        for key, value in getattr(plain, f"{who}_update")([part], draws).items():
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
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(make: MakeTrainer, who: str) -> None:
    trainer = make()
    with torch.no_grad():
        if who == "discriminator":
            trainer.discriminators["crop"].score.bias.fill_(float("nan"))
        else:
            trainer.generator.output.bias.fill_(float("nan"))
    before = weights(trainer.generator), weights(trainer.discriminators)
    update = trainer.discriminator_update if who == "discriminator" else trainer.generator_update
    with pytest.raises(NonFiniteLossError, match=rf"The {who} loss is nan at step 1\."):
        update([batch()], rng())
    for old, module in zip(before, (trainer.generator, trainer.discriminators), strict=True):
        for name, value in weights(module).items():
            torch.testing.assert_close(value, old[name], rtol=0, atol=0, equal_nan=True)
    assert trainer.step == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("who", ["discriminator", "generator"])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(
    make: MakeTrainer, who: str, value: float
) -> None:
    """Though the loss is finite, as where a square root or a division by a small number meets zero."""
    trainer = make()
    trainer.train_step([[batch(1)], [batch(2)]])
    module = trainer.generator.output if who == "generator" else trainer.discriminators["crop"].score
    optimizer = trainer.generator_optimizer if who == "generator" else trainer.discriminator_optimizer
    module.weight.register_hook(
        lambda gradient: gradient.flatten().index_fill(0, torch.tensor([1]), value).view_as(gradient)
    )
    update = trainer.discriminator_update if who == "discriminator" else trainer.generator_update
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
def test_recomputed_blocks_change_nothing_but_the_memory(make: MakeTrainer, dtype: torch.dtype) -> None:
    """Neither losses nor gradients, and no layer makes a second power iteration."""
    kept, recomputed = make(dtype), make(dtype)
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


def test_the_same_seed_and_step_draw_the_same(make: MakeTrainer) -> None:
    first, second, other = make(), make(), make(training={"seed": 1})
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
def test_every_decomposition_trains_and_names_its_losses(make: MakeTrainer, decomposition: str) -> None:
    trainer = make(discriminator={"decomposition": decomposition})
    losses = trainer.train_step([[batch(1)], [batch(2)]])
    views = DECOMPOSITIONS[trainer.config.discriminator.decomposition]
    expected = {f"loss/{who}/{view}" for view in views for who in ("discriminator", "generator")}
    assert set(losses) == expected | {"loss/orthogonality"}
    assert all(torch.isfinite(value) and not value.requires_grad and value.dim() == 0 for value in losses.values())


def test_orthogonality_and_reconstruction_enter_the_loss_with_their_weights(make: MakeTrainer) -> None:
    """Gradients are linear in the weights of the terms: doubling a weight adds its term once more."""

    def gradient(orthogonality: float, reconstruction: float, half_life: int = 0, step: int = 0) -> Tensor:
        weights = {"orthogonality": orthogonality, "reconstruction": reconstruction}
        trainer = make(training=weights | {"reconstruction_half_life": half_life})
        trainer.step = step
        nn.init.normal_(trainer.generator.first.weight, generator=torch.Generator().manual_seed(0))
        trainer.generator_update([batch()], rng())
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
    weight = make().generator.first.weight.detach().clone()
    nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    gram = weight @ weight.T
    analytic = 4 * (gram - gram.diag().diag()) @ weight
    torch.testing.assert_close(gradient(0.01, 0.0) - base, 0.01 * analytic, rtol=1e-3, atol=1e-3)


def test_reconstruction_takes_the_mean_of_the_samples(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(training={"reconstruction": 30.0, "reconstruction_samples": 2})
    futures: list[Tensor] = []
    decode = trainer.generator.decode

    def record(*arguments: Any) -> Any:
        prediction = decode(*arguments)
        futures.append(prediction.video.detach())
        return prediction

    monkeypatch.setattr(trainer.generator, "decode", record)
    clips = batch()
    losses = trainer.generator_update([clips], rng())
    (video,) = futures
    assert video.shape[0] == 4  # clip 0, clip 1, and both once more
    assert not torch.equal(video[:2], video[2:])
    truth = to_float(clips.video)[:, 2:]
    expected = ((video[:2] + video[2:]) / 2 - truth).abs().mean()
    torch.testing.assert_close(losses["loss/reconstruction"], expected)
    assert all(torch.isfinite(value) for value in losses.values())


def test_samples_of_a_clip_start_from_its_own_frames(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(
        training={"reconstruction": 30.0, "reconstruction_samples": 2}, discriminator={"decomposition": "clip"}
    )
    seen: list[Tensor] = []
    states: list[dict[int, Tensor]] = []
    draw, decode = trainer.discriminators.draw, trainer.generator.decode
    monkeypatch.setattr(
        trainer.discriminators,
        "draw",
        lambda view, videos, *more, **copies: seen.append(videos) or draw(view, videos, *more, **copies),
    )
    monkeypatch.setattr(trainer.generator, "decode", lambda s, z, labels: states.append(s) or decode(s, z, labels))
    clips = batch()
    trainer.generator_update([clips], rng())
    given = to_float(clips.video)[:, :2]
    assert torch.equal(seen[0][:, :2], torch.cat([given, given]))
    for state in states[0].values():
        assert torch.equal(state[:2], state[2:])
        assert not torch.equal(state[0], state[1])


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
def test_bfloat16_follows_float32(make: MakeTrainer, head: str) -> None:
    exact, rounded = make(discriminator={"head": head}), make(torch.bfloat16, discriminator={"head": head})
    updates = [[batch(1)], [batch(2)]]
    wanted = exact.train_step(updates)
    losses = rounded.train_step(updates)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(wanted[name].item(), rel=0.1, abs=0.1), name
    for parameter in (*rounded.generator.parameters(), *rounded.discriminators.parameters()):
        assert parameter.dtype == torch.float32


def test_classes_reach_both_networks(make: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(model={"classes": 3}, training={"reconstruction": 1.0, "reconstruction_samples": 2})
    seen: list[tuple[str, list[int]]] = []

    def watch(name: str, embedding: nn.Module) -> None:
        embedding.register_forward_pre_hook(lambda _, inputs: seen.append((name, inputs[0].tolist())))

    watch("G", trainer.generator.embedding)
    watch("D", trainer.discriminators["crop"].embedding)
    clips = Batch(batch().video, torch.tensor([2, 0]))
    trainer.train_step([[clips]])
    assert seen == [("G", [2, 0]), ("D", [2, 0, 2, 0]), ("G", [2, 0, 2, 0]), ("D", [2, 0, 2, 0])]


def test_adam_is_the_papers(make: MakeTrainer) -> None:
    trainer = Trainer(
        Config(model=make().config.model, discriminator=make().config.discriminator),
        torch.device("cpu"),
        torch.float32,
    )
    for optimizer, lr in ((trainer.generator_optimizer, 1e-4), (trainer.discriminator_optimizer, 5e-4)):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (lr, (0.0, 0.999), 0)


def test_the_average_follows_the_steps(make: MakeTrainer) -> None:
    trainer = make()  # starts at step 2, decay 0.5

    def steps() -> Iterator[dict[str, Tensor]]:
        for number in range(3):
            trainer.train_step([[batch(number)], [batch(number + 9)]])
            yield weights(trainer.generator)

    _, second, third = steps()
    for name, value in trainer.ema.weights.items():
        torch.testing.assert_close(value, (second[name] + third[name]) / 2)
