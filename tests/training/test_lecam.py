"""LeCam's regulariser against its formula, one number at a time, and its anchors in a training."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from step_checks import MakeTrainer, batch, discriminator_update, rng
from torch import Tensor

from trivd.models.discriminators import Scores, combine
from trivd.training import objectives
from trivd.training.lecam import DECAY, Anchors

OUTPUTS = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6)
CPU = torch.device("cpu")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def formula(real: list[float], fake: list[float], anchor_real: float, anchor_fake: float) -> float:
    """As `lecam_reg` of the authors' code."""
    of_real = mean([max(value - anchor_fake, 0) ** 2 for value in real])
    return of_real + mean([max(anchor_real - value, 0) ** 2 for value in fake])


@given(st.lists(st.tuples(OUTPUTS, OUTPUTS), min_size=1, max_size=8))
def test_anchors_are_zero_debiased_averages_of_the_updates_before(
    updates: list[tuple[list[float], list[float]]],
) -> None:
    anchors = Anchors(["crop", "clip"], CPU)
    for number, (real, fake) in enumerate(updates):
        found = anchors.regularise("crop", torch.tensor(real), torch.tensor(fake)).item()
        weights = [DECAY ** (number - 1 - i) for i in range(number)]  # newest last
        if number == 0:
            assert found == 0
        else:
            pasts = zip(*((mean(a), mean(b)) for a, b in updates[:number]), strict=True)
            anchor = [sum(w * v for w, v in zip(weights, past, strict=True)) / sum(weights) for past in pasts]
            assert found == pytest.approx(formula(real, fake, *anchor), rel=1e-4, abs=1e-4)
        means = {"real": torch.tensor(mean(real)), "fake": torch.tensor(mean(fake))}
        anchors.update({f"discriminator/{view}/{kind}": v for view in ("crop", "clip") for kind, v in means.items()})


def test_outputs_within_the_anchors_are_free() -> None:
    anchors = Anchors(["crop"], CPU)
    anchors.update({"discriminator/crop/real": torch.tensor(2.0), "discriminator/crop/fake": torch.tensor(-1.0)})
    real, fake = torch.tensor([-1.5, 1.0], requires_grad=True), torch.tensor([2.5, -1.0], requires_grad=True)
    anchors.regularise("crop", real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    torch.testing.assert_close(real.grad, torch.tensor([0.0, 2.0]))  # 2 (1 + 1) / 2: lowered
    torch.testing.assert_close(fake.grad, torch.tensor([0.0, -3.0]))  # raised


def test_an_update_regularises_every_discriminator(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the anchors of the updates before, whose outputs are those of all passes."""
    trainer = make_trainer(training={"lecam": 0.3})
    views = list(trainer.discriminators.views)
    seen: list[list[float]] = []

    def record(scores: Scores, head: str) -> Tensor:
        outputs = combine(scores, head)  # type: ignore[arg-type]
        seen.append(outputs.detach().flatten().tolist())
        return outputs

    monkeypatch.setattr(objectives, "combine", record)
    draws = rng()
    first = discriminator_update(trainer, [batch(1), batch(2)], draws)
    assert all(first[f"loss/lecam/{view}"] == 0 for view in views)
    before = {  # real and fake outputs of each view, pass after pass
        view: [seen[2 * i + kind] + seen[2 * (len(views) + i) + kind] for kind in (0, 1)]
        for i, view in enumerate(views)
    }
    seen.clear()
    second = discriminator_update(trainer, [batch(3)], draws)
    for i, view in enumerate(views):
        expected = formula(seen[2 * i], seen[2 * i + 1], *map(mean, before[view]))
        assert second[f"loss/lecam/{view}"].item() == pytest.approx(expected, rel=1e-4)
        assert expected > 0


def test_its_weight_is_that_of_the_setting(make_trainer: MakeTrainer) -> None:
    """Gradients are linear in it."""

    def gradient(weight: float) -> Tensor:
        trainer = make_trainer(training={"lecam": weight, "discriminator_lr": 1e-9})
        for _ in range(2):
            discriminator_update(trainer, [batch()], rng())
        found = trainer.discriminators["crop"].score.weight.grad
        assert isinstance(found, Tensor)
        return found.clone()

    plain, once, twice = gradient(0.0), gradient(0.25), gradient(0.5)
    assert (once - plain).abs().max() > 1e-4
    torch.testing.assert_close(twice - plain, 2 * (once - plain), rtol=1e-3, atol=1e-5)
