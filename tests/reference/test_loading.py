"""Weights of trivd's networks find their place in the plain ones by name."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from agreement import scramble
from torch.nn.utils import parametrize

from reference.discriminators import Discriminators as PlainDiscriminators
from reference.generator import Generator as PlainGenerator
from reference.layers import load
from trivd.config import Config, ModelConfig, Unit
from trivd.models.discriminators import Discriminators
from trivd.models.generator import Generator


@pytest.mark.parametrize("unit", get_args(Unit))
def test_every_weight_of_a_generator_is_taken_over(unit: str, tiny_model: Callable[..., ModelConfig]) -> None:
    ours = scramble(Generator(tiny_model(unit=unit, classes=3, recurrent_resolutions=(8, 32))))
    plain = load(PlainGenerator(ours.config), ours.state_dict())
    weights, parameters = list(ours.parameters()), list(plain.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.float64}
    assert sorted(p.double().sum().item() for p in parameters) == pytest.approx(sorted(p.sum().item() for p in weights))
    assert torch.equal(plain.embedding.parametrizations.weight.original, ours.embedding.weight.T)


def test_every_weight_of_discriminators_is_taken_over(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(model={"classes": 3})
    ours = scramble(Discriminators(config.discriminator, config.model))
    plain = load(PlainDiscriminators(config), ours.state_dict())
    for view, discriminator in ours.items():
        assert parametrize.is_parametrized(plain[view].score, "weight")
        torch.testing.assert_close(plain[view].eval().score.weight, discriminator.score.normalized_weight())


def test_a_weight_that_is_missing_or_unknown_is_an_error(tiny_model: Callable[..., ModelConfig]) -> None:
    config = tiny_model()
    state = Generator(config).state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*first\.bias"):
        load(PlainGenerator(config), {name: value for name, value in state.items() if name != "first.bias"})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*first_bias"):
        load(PlainGenerator(config), state | {"first_bias": state["first.bias"]})


def test_without_classes_there_is_one_constant_class(tiny_model: Callable[..., ModelConfig]) -> None:
    rows = PlainGenerator(tiny_model(classes=0)).eval().embedding(torch.tensor([0, 7, -1]))
    assert (rows == rows[0]).all()
    assert rows[0].norm() > 0
