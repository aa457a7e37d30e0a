"""Intervals over clips against theory and SciPy's bootstrap; they follow the clips, not the order of figures."""

import numpy as np
import pytest
import torch
from scipy import stats
from stand_ins import Means

from trivd.evaluation.intervals import CONFIDENCE, bootstrap, feature_intervals, mean_intervals, with_intervals
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.outcome import Figure, Spread


def test_intervals_of_means_are_those_of_the_normal_law() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(5, 2, size=(2, 400)))
    found = mean_intervals({"a": values[0], "b": values[1]}, seed=1)
    for name, column in zip("ab", values, strict=True):
        margin = stats.norm.ppf((1 + CONFIDENCE) / 2) * float(column.std(correction=0)) / 20
        expected = [float(column.mean()) - margin, float(column.mean()) + margin]
        assert found[name] == pytest.approx(expected, abs=margin / 5)
    assert found == mean_intervals({"a": values[0], "b": values[1]}, seed=1)
    assert found != mean_intervals({"a": values[0], "b": values[1]}, seed=2)
    assert mean_intervals({}, 0) == {}


def test_they_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        sample = torch.from_numpy(rng.exponential(size=(60,)))
        ((low, high),) = bootstrap(lambda chosen, x=sample: [float(x[chosen[0]].mean())], [60], 200, trial)  # type: ignore[misc]
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.98


@pytest.mark.parametrize("paired", [True, False])
def test_a_distance_lies_within_its_interval_although_resampled_sets_are_farther_apart(paired: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    truth = {"embedding": torch.randn(80, 6, generator=rng)}
    model = {
        "embedding": truth["embedding"] + 0.3 * torch.randn(80, 6, generator=rng) + 0.1,
        "logits": torch.randn(80, 5, generator=rng),
    }
    found = feature_intervals(truth, model, Means(), splits=1, seed=0, paired=paired)
    low, high = found[Means.distance]
    distance = frechet_distance(truth["embedding"], model["embedding"])
    assert 0 <= low < distance < high
    resampled = [
        frechet_distance(truth["embedding"][chosen], model["embedding"][chosen])
        for chosen in (torch.randint(80, (80,), generator=rng) for _ in range(40))
    ]
    assert np.mean(resampled) > distance  # why intervals are centred
    assert set(found) == {Means.distance, Means.inception}


def test_an_interval_has_the_covariance_of_its_figure() -> None:
    rng = torch.Generator().manual_seed(0)
    features = {name: scale * torch.randn(12, 6, generator=rng) for name, scale in (("embedding", 5), ("logits", 1))}
    true = {"embedding": torch.randn(12, 6, generator=rng)}
    over: dict[int, list[float]] = {
        ddof: feature_intervals(true, features, Means(), splits=1, seed=0, paired=False, ddof=ddof)[Means.distance]
        for ddof in (0, 1)
    }
    assert over[0] == pytest.approx([11 / 12 * end for end in over[1]], rel=0.1)
    assert over[0][1] < over[1][1]


def test_each_figure_gets_its_own() -> None:
    rng = torch.Generator().manual_seed(0)
    names = [f"{score}/{kind}" for score in ("psnr", "ssim") for kind in ("copy", "single", "mean", "best 2")]
    best = {name: torch.rand(9, 3, generator=rng) for name in [*names, "diversity"]}
    single = {f"model/{name}": torch.rand(9, 3, generator=rng) for name in ("sharpness", "motion")}
    titles = ["SSIM, best of 2", "motion magnitude [grey levels / frame]", "something else"]
    figures = [Figure(title, "", 2, Spread.of([0.0]), None, None) for title in titles]
    ssim, motion, other = with_intervals(figures, {}, single, best, None, samples=2, splits=1, seed=0)
    for figure, column in ((ssim, best["ssim/best 2"]), (motion, single["model/motion"])):
        assert figure.interval is not None
        assert figure.interval[0] < float(column.mean()) < figure.interval[1]
    assert other.interval is None
    assert ssim.text.startswith("0.00 [0.")
