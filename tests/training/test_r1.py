"""R1 against finite differences, and in a training: on which steps, with which weight, in what it sees."""

import copy
from typing import Any

import pytest
import torch
from step_checks import MakeTrainer, batch, discriminator_update, rng, same, weights
from test_graph import CPU, Stand
from torch import Tensor, nn

from trivd.config import Config
from trivd.models.blocks import recompute_blocks
from trivd.models.discriminators import Discriminator, Head, Scores, combine, own_outputs
from trivd.ops.cuda import library
from trivd.runtime.pixels import to_float
from trivd.training.draws import draw_discriminator_pass
from trivd.training.graph import GraphedStep
from trivd.training.losses import gradient_penalty

STEP = 1e-6  # of finite differences; between its kinks a discriminator is linear in what it sees
KINDS = {"frames": False, "clips": True}


def discriminator(temporal: bool) -> Discriminator:
    """One with 3D blocks, which halve time, or without, in float64; sigma stays."""
    network = Discriminator(1, 2, 3, temporal=temporal, pool_time=True).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_is_that_of_finite_differences(kind: str, head: Head) -> None:
    network, labels = discriminator(KINDS[kind]), torch.tensor([2, 0])
    seen = torch.randn(2, 3, 1, 16, 16, dtype=torch.float64)
    directions = torch.eye(seen[0].numel(), dtype=torch.float64).view(-1, *seen.shape[1:])

    def outputs(x: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            return own_outputs(network(x, label.repeat(len(x))), head)

    lengths = []
    for clip, label in zip(seen, labels, strict=True):
        slopes = (outputs(clip + STEP * directions, label) - outputs(clip - STEP * directions, label)) / (2 * STEP)
        lengths.append(slopes.square().sum())
    penalty = gradient_penalty(network, seen, labels, head)
    torch.testing.assert_close(penalty.detach(), torch.stack(lengths).mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_gradient_is_that_of_finite_differences(kind: str, recomputed: bool) -> None:
    """Along a random direction of all parameters."""
    network, labels = discriminator(KINDS[kind]), torch.tensor([2, 0])
    if recomputed:
        recompute_blocks(network)
    seen = torch.randn(2, 5, 1, 16, 16, dtype=torch.float64)
    parameters = list(network.parameters())
    directions = [torch.randn_like(parameter) for parameter in parameters]

    def penalty() -> Tensor:
        return gradient_penalty(network, seen, labels, "mixed_projection")

    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)  # biases of the last layers have none
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True) if g is not None)
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=sign * STEP)
        sides.append(penalty().item())
        with torch.no_grad():
            torch._foreach_sub_(parameters, directions, alpha=sign * STEP)
    assert slope == pytest.approx((sides[0] - sides[1]) / (2 * STEP), rel=1e-4)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("head", ["mixed_projection", "projection"])
def test_own_outputs_have_the_mean_of_all(head: Head) -> None:
    scores = Scores(torch.randn(3, 4), torch.randn(3, 4))
    torch.testing.assert_close(own_outputs(scores, head).mean(), combine(scores, head).mean())
    others = Scores(scores.video[1:], scores.joint[1:])
    torch.testing.assert_close(own_outputs(scores, head)[1:], own_outputs(others, head))


@pytest.mark.parametrize(("decomposition", "head"), [("mocogan_k8", "projection"), ("stronger", "mixed_projection")])
def test_an_update_penalises_every_discriminator(make_trainer: MakeTrainer, decomposition: str, head: Head) -> None:
    """Real clips where they are judged, with gamma / 2 times the steps between, and no other power iteration."""
    changes = {"decomposition": decomposition, "head": head}
    recipe = {"r1": 4.0, "r1_every": 8, "discriminator_lr": 1e-9}  # the weights stay
    trainer = make_trainer(discriminator=changes, training=recipe)
    plain = copy.deepcopy(trainer)
    clips = batch()
    losses = discriminator_update(trainer, [clips], rng(), penalised=True)
    assert not any(name.startswith("loss/r1") for name in discriminator_update(plain, [clips], rng()))
    assert all(map(torch.equal, plain.discriminators.buffers(), trainer.discriminators.buffers()))

    plain.discriminators.eval()
    looks = draw_discriminator_pass(clips, plain.config, plain.discriminators, rng()).looks
    both = to_float(torch.cat([clips.video, clips.video]))
    for view in plain.discriminators.views:
        network = plain.discriminators[view]
        penalty = gradient_penalty(
            network, plain.discriminators.cut(view, both, looks[view].places)[:2], clips.labels, head
        )
        torch.testing.assert_close(losses[f"loss/r1/{view}"], penalty.detach(), rtol=1e-4, atol=0)
        for name, parameter in trainer.discriminators[view].named_parameters():
            counterpart = network.get_parameter(name)
            (added,) = torch.autograd.grad(penalty, counterpart, retain_graph=True, allow_unused=True)
            change = 16 * added if added is not None else torch.zeros_like(parameter)
            torch.testing.assert_close(parameter.grad, counterpart.grad + change, rtol=1e-3, atol=1e-4)


def test_bfloat16_penalises_in_float32(make_trainer: MakeTrainer) -> None:
    exact, rounded = (make_trainer(dtype, training={"r1": 1.0}) for dtype in (torch.float32, torch.bfloat16))
    expected, found = (discriminator_update(t, [batch()], rng(), penalised=True) for t in (exact, rounded))
    for view in exact.discriminators.views:
        name = f"loss/r1/{view}"
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-4)


def test_every_few_steps(make_trainer: MakeTrainer) -> None:
    """Which a recorded training does bit for bit, by two recordings."""
    stand = Stand()
    trainers = [make_trainer(training={"r1": 0.5, "r1_every": 2, "discriminator_updates": 1}) for _ in range(2)]
    trainers[1].verdicts.lag = 1
    trainers[1]._graphed = GraphedStep(trainers[1]._updates, CPU, stand)
    for number in range(1, 10):
        rows: list[dict[str, Any]] = [trainer.train_step([[batch(number)]]) for trainer in trainers]
        assert rows[0].keys() == rows[1].keys()
        assert same(rows[0], rows[1])
        assert ("loss/r1/crop" in rows[0]) == (number % 2 == 0)
    assert (stand.recorded, stand.replayed) == (2, 9 - 2 * 3)
    for name in ("generator", "discriminators"):
        assert same(*(weights(getattr(trainer, name)) for trainer in trainers))


def test_the_paper_has_none() -> None:
    recipe = Config().training
    assert not any(recipe.has_r1(step) for step in range(40))
    assert (recipe.r1, recipe.r1_every) == (0.0, 16)


def test_nothing_is_fused_where_derivatives_are_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's kernels have no second derivative."""

    class OnGpu:
        is_cuda, dtype = True, torch.float32

    monkeypatch.setattr(library, "kernels", lambda module: object())
    assert library.fused(OnGpu(), "residual")  # type: ignore[arg-type]
    with library.twice_differentiable():
        assert not library.fused(OnGpu(), "residual")  # type: ignore[arg-type]
        assert not library.fused(OnGpu())  # type: ignore[arg-type]
    assert library.fused(OnGpu())  # type: ignore[arg-type]
