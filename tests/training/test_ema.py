"""The moving average of the weights against its definition, one number at a time."""

import pytest
import torch
from torch import nn

from trivd.training.ema import Ema


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
        ema.update(module, step)
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
    ema.update(module, 1)
    set_weights(module, 7.0)
    assert all((weight == 1).all() and not weight.requires_grad for weight in ema.weights.values())
    ema.update(module, 2)
    assert all((parameter == 7).all() for parameter in module.parameters())  # reading does not change the module


def test_apply_to_puts_the_average_in_place() -> None:
    module, ema = nn.Linear(2, 3), Ema(decay=0.5, start=2)
    set_weights(module, 1.0)
    ema.update(module, 1)
    target = nn.Linear(2, 3)
    set_weights(target, 9.0)
    ema.apply_to(target)
    assert all((parameter == 9).all() for parameter in target.parameters())  # it has not started
    ema.update(module, 2)
    set_weights(module, 3.0)
    ema.update(module, 3)
    ema.apply_to(target)
    assert all((parameter == 2).all() for parameter in target.parameters())
    assert all((parameter == 3).all() for parameter in module.parameters())
