"""The moving average of the weights against its definition, one number at a time."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trivd.training.ema import Ema
from trivd.training.step import Trainer


def set_weights(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_the_average_starts_at_its_step_with_that_steps_weights() -> None:
    module, ema = nn.Linear(2, 3), Ema(decay=0.9, start=3)
    values = [5.0, -2.0, 0.5, 4.0, -1.0]  # after steps 1 to 5
    mean = None
    for step, value in enumerate(values, start=1):
        set_weights(module, value)
        ema.update(module, step, step)
        if step == 3:
            mean = value
        elif step > 3:
            assert mean is not None
            mean = 0.9 * mean + 0.1 * value
        if mean is None:
            assert not ema.weights
        else:
            assert set(ema.weights) == {"weight", "bias"}
            for weight in ema.weights.values():
                assert weight.flatten().tolist() == pytest.approx([mean] * weight.numel(), rel=1e-6)
    assert mean == pytest.approx(0.9 * (0.9 * 0.5 + 0.1 * 4.0) + 0.1 * -1.0)


def test_the_average_keeps_its_own_copy() -> None:
    module, ema = nn.Linear(2, 3), Ema(decay=0.9, start=1)
    set_weights(module, 1.0)
    ema.update(module, 1, 1)
    set_weights(module, 7.0)
    assert all((weight == 1).all() and not weight.requires_grad for weight in ema.weights.values())
    ema.update(module, 2, 2)
    assert all((parameter == 7).all() for parameter in module.parameters())  # reading does not change the module


def test_apply_to_puts_the_average_in_place() -> None:
    module, ema = nn.Linear(2, 3), Ema(decay=0.5, start=2)
    set_weights(module, 1.0)
    ema.update(module, 1, 1)
    target = nn.Linear(2, 3)
    set_weights(target, 9.0)
    ema.apply_to(target)
    assert all((parameter == 9).all() for parameter in target.parameters())  # it has not started
    ema.update(module, 2, 2)
    set_weights(module, 3.0)
    ema.update(module, 3, 3)
    ema.apply_to(target)
    assert all((parameter == 2).all() for parameter in target.parameters())
    assert all((parameter == 3).all() for parameter in module.parameters())


@given(st.integers(1, 64), st.integers(1, 100_000), st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_a_half_life_in_clips_is_that_of_stylegan(batch: int, clips: int, values: list[float]) -> None:
    """Their loop in its own words: `ema_nimg = min(ema_nimg, cur_nimg * ema_rampup)`."""
    module, ema = nn.Linear(1, 1).double(), Ema(decay=0.9, start=7, halflife=clips / batch)
    mean = values[0]
    for step, value in enumerate(values, start=1):
        set_weights(module, value)
        ema.update(module, step, step)
        beta = 0.5 ** (batch / min(clips, 0.05 * step * batch)) if step > 1 else 0.0
        mean = beta * mean + (1 - beta) * value
        assert ema.weights["weight"].item() == pytest.approx(mean, abs=1e-12)


def test_after_the_ramp_half_of_the_past_is_forgotten_in_a_half_life() -> None:
    module, ema = nn.Linear(1, 1).double(), Ema(decay=0.9, start=7, halflife=40.0)
    set_weights(module, 1.0)
    ema.update(module, 1_000, 1_000)
    set_weights(module, 0.0)
    for step in range(1_001, 1_041):
        ema.update(module, step, step)
    assert ema.weights["bias"].item() == pytest.approx(0.5)


def test_the_clips_are_those_of_the_generators_updates(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(training={"ema_halflife": 32, "batch_size": 4, "discriminator_updates": 3})
    assert trainer.ema.decay(1_000) == pytest.approx(0.5 ** (1 / 8))
    assert trainer.ema.decay(40) == pytest.approx(0.5 ** (1 / 2))
    plain = make_trainer(training={"ema_decay": 0.25})
    assert (plain.ema.start, plain.ema.decay(1_000)) == (2, 0.25)
