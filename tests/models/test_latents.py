"""Latent samples: a standard normal, or one whose tails are drawn again (D.1)."""

import math

import pytest
import torch
from torch import Tensor

from trivd.models.latents import draw_latents


def draw(truncation: float | None, count: int = 1000, seed: int = 0) -> Tensor:
    return draw_latents(count, 20, torch.Generator().manual_seed(seed), truncation)


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def largest_distance(sample: Tensor, truncation: float) -> float:
    """Kolmogorov and Smirnov's: between the sample's distribution function and the truncated normal's."""
    x = sample.flatten().double().sort().values
    low, high = normal_cdf(torch.tensor([-truncation, truncation], dtype=torch.float64))
    expected = (normal_cdf(x) - low) / (high - low)
    steps = torch.arange(len(x) + 1) / len(x)
    return max((steps[1:] - expected).max().item(), (expected - steps[:-1]).max().item())


@pytest.mark.parametrize("truncation", [0.1, 0.8, 2.0])
def test_truncated_entries_follow_the_truncated_normal(truncation: float) -> None:
    z = draw(truncation)
    assert z.abs().max() <= truncation
    assert z.abs().max() > 0.98 * truncation
    discriminatoral = 1.95 / math.sqrt(z.numel())  # exceeded by chance once in a thousand
    assert largest_distance(z, truncation) < discriminatoral
    # Neither clamping nor scaling a normal would pass.
    whole = draw(None)
    assert largest_distance(whole.clamp(-truncation, truncation), truncation) > discriminatoral
    assert largest_distance(whole * truncation / whole.abs().max(), truncation) > discriminatoral


@pytest.mark.parametrize("truncation", [1e-300, 1e-30, 1e-3, 9.0])
def test_any_threshold_ends(truncation: float) -> None:
    z = draw(truncation, count=50)
    assert z.abs().max() <= truncation
    assert z.isfinite().all()


def test_what_lies_within_stays() -> None:
    whole, truncated = draw(None), draw(0.8)
    assert torch.equal(truncated[whole.abs() <= 0.8], whole[whole.abs() <= 0.8])


def test_without_truncation_it_is_a_standard_normal() -> None:
    z = draw(None)
    assert z.shape == (1000, 20)
    assert z.dtype == torch.float32
    assert largest_distance(z, 40.0) < 1.95 / math.sqrt(z.numel())
    assert torch.equal(draw(100.0), z)  # nothing is that far out


def test_zero_is_the_one_constant_latent() -> None:
    assert torch.equal(draw(0), torch.zeros(1000, 20))
    assert torch.equal(draw(0.0, seed=1), torch.zeros(1000, 20))


@pytest.mark.parametrize("truncation", [None, 0.8])
def test_draws_come_from_the_given_generator_alone(truncation: float | None) -> None:
    first = draw(truncation)
    torch.rand(5)
    assert torch.equal(draw(truncation), first)
    assert not torch.equal(draw(truncation, seed=1), first)
