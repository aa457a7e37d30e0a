"""The streamed distance between samples against the double loop over pairs."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trivd.evaluation.metrics.diversity import Diversity
from trivd.runtime.errors import TrivdError


def streamed(samples: Tensor) -> Tensor:
    diversity = Diversity()
    for sample in samples:
        diversity.update(sample)
    return diversity.compute()


@given(
    samples=st.integers(2, 8),
    spread=st.sampled_from([1.0, 1e-1, 1e-3]),
    centre=st.sampled_from([0.0, 0.9, -0.9]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 100),
)
def test_the_double_loop_over_pairs(samples: int, spread: float, centre: float, channels: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    noise = spread * torch.randn(samples, 2, 3, channels, 4, 5, generator=rng)
    videos = (centre + noise).clamp(-1, 1)  # (l, B, T, C, H, W)
    pairs = itertools.combinations(videos.double(), 2)
    squares = torch.stack([(first - second).square().mean(dim=(2, 3, 4)) for first, second in pairs])  # (pairs, B, T)
    expected = 127.5 * squares.mean(dim=0).sqrt()
    torch.testing.assert_close(streamed(videos).double(), expected, rtol=1e-3, atol=1e-5)


def test_black_and_white_are_255_levels_apart() -> None:
    black = -torch.ones(1, 2, 1, 4, 4)
    torch.testing.assert_close(streamed(torch.stack([black, -black])), torch.full((1, 2), 255.0))


def test_equal_samples_do_not_differ_at_all() -> None:
    sample = torch.rand(2, 3, 1, 4, 4)
    assert (streamed(sample.expand(7, 2, 3, 1, 4, 4)) == 0).all()


def test_samples_are_left_as_they_are() -> None:
    samples = torch.rand(3, 1, 2, 1, 4, 4)
    before = samples.clone()
    streamed(samples)
    torch.testing.assert_close(samples, before, rtol=0, atol=0)


def test_wrong_samples_are_refused() -> None:
    diversity = Diversity()
    sample = torch.rand(2, 3, 1, 4, 4)
    diversity.update(sample)
    with pytest.raises(TrivdError, match="at least 2 samples per clip, but there were 1"):
        diversity.compute()
    with pytest.raises(TrivdError, match="Every sample must be"):
        diversity.update(sample[:1])
    with pytest.raises(TrivdError, match=r"Samples span .* need values in \[-1, 1\]"):
        diversity.update(sample * 255)
