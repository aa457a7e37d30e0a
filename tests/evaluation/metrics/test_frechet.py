"""Fréchet distance against the reference value, equations and SciPy; streams and merges against all at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trivd.evaluation.metrics.frechet import FrechetStatistics, bias_estimate, frechet_distance, small_sample_warning
from trivd.runtime.errors import TrivdError

REFERENCE = Path(__file__).parents[4] / "shared" / "i3d" / "frechet.npz"


def features(count: int, dim: int, seed: int, scale: float = 1.0) -> Tensor:
    """Correlated features far from the origin, (count, dim) in float64."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=rng, dtype=torch.float64) * torch.logspace(0, -3, dim, dtype=torch.float64)
    values = torch.randn(count, dim, generator=rng, dtype=torch.float64)
    return scale * values @ mixing + 10 + seed


def statistics_of(values: Tensor) -> FrechetStatistics:
    statistics = FrechetStatistics()
    statistics.update(values)
    return statistics


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference values are not in this checkout")
def test_the_reference_implementation_agrees() -> None:
    with np.load(REFERENCE) as reference:
        expected = float(reference["distance"])
        assert frechet_distance(reference["x"], reference["y"]) == pytest.approx(expected, rel=1e-9)
        assert frechet_distance(torch.tensor(reference["x"]), reference["y"]) == pytest.approx(expected, rel=1e-9)


def test_the_equation_with_scipys_matrix_square_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, y = features(60, 5, 0).numpy(), features(50, 5, 1, scale=1.5).numpy()
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1 + s2 - 2 * linalg.sqrtm(s1 @ s2).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_one_dimension_is_the_distance_of_means_and_deviations(offset: float, scale: float) -> None:
    x = features(20, 1, 0)
    y = x * scale + offset
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-9, abs=1e-10)


def test_fewer_clips_than_dimensions_without_any_epsilon() -> None:
    rotation = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64)).Q
    x, y = torch.zeros(2, 9, 40, dtype=torch.float64)
    x[:, :9], y[:, 20:29] = features(9, 9, 0), features(9, 9, 1)  # spread in orthogonal directions: S1 S2 = 0
    expected = (x.mean(0) - y.mean(0)).square().sum() + x.var(0).sum() + y.var(0).sum()
    # The square root of rounding errors, as of a covariance matrix, would be wrong by 1e-8.
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(expected.item(), rel=1e-13)


@pytest.mark.parametrize("count", [7, 300])
def test_a_set_is_at_no_distance_from_itself(count: int) -> None:
    x = features(count, 30, 0)
    assert 0 <= frechet_distance(x, x) < 1e-12 * x.var(0).sum()


@given(st.data())
def test_any_order_batches_and_processes_give_the_same_distance(data: st.DataObject) -> None:
    count, dim = data.draw(st.sampled_from([(4, 12), (30, 12), (150, 6)]))
    values = features(count, dim, 0)
    shuffled = values[torch.tensor(data.draw(st.permutations(range(count))))]
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=20)))  # twice the same: an empty batch
    parts = [FrechetStatistics() for _ in range(data.draw(st.integers(1, 4)))]
    for batch in torch.tensor_split(shuffled, cuts):
        parts[data.draw(st.integers(0, len(parts) - 1))].update(batch)
    merged = FrechetStatistics.merge(parts)
    assert merged.count == sum(part.count for part in parts) == count
    other = features(50, dim, 1)
    assert merged.distance(statistics_of(other)) == pytest.approx(frechet_distance(values, other), rel=1e-9)


def test_merging_leaves_the_parts_as_they_are() -> None:
    first, second = statistics_of(features(9, 3, 0)), statistics_of(features(9, 3, 1))
    before = first.mean.clone(), first.factor.clone()
    FrechetStatistics.merge([first, second]).update(features(9, 3, 2))
    assert first.count == 9
    torch.testing.assert_close((first.mean, first.factor), before, rtol=0, atol=0)


def test_memory_does_not_grow_with_the_number_of_clips() -> None:
    statistics = FrechetStatistics()
    for seed in range(50):
        statistics.update(features(3, 4, seed))
        assert len(statistics.factor) <= 8


def test_half_precision_features_are_added_in_float64() -> None:
    half = features(50, 4, 0).half()
    assert statistics_of(half).distance(statistics_of(half.double())) < 1e-12


def test_statistics_of_other_tools() -> None:
    x, y = features(60, 8, 0), features(70, 8, 1)
    mean, covariance = x[:40].mean(0).numpy(), np.cov(x[:40].numpy(), rowvar=False)
    part = FrechetStatistics.from_covariance(mean, covariance, 40)
    assert part.distance(statistics_of(y)) == pytest.approx(frechet_distance(x[:40], y), rel=1e-9)
    part.update(x[40:])
    assert part.distance(statistics_of(y)) == pytest.approx(frechet_distance(x, y), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        (lambda covariance: covariance[:2], 9, r"\(3,\) and \(2, 3\)"),
        (lambda covariance: covariance - 2 * np.eye(3), 9, "no negative eigenvalue"),
        (lambda covariance: covariance + np.triu(np.ones((3, 3)), 1), 9, "must be symmetric"),
        (lambda covariance: covariance * np.nan, 9, "NaN"),
        (lambda covariance: covariance, 1, "at least 2"),
    ],
)
def test_what_is_not_a_covariance_is_refused(
    change: Callable[[np.ndarray], np.ndarray], count: int, message: str
) -> None:
    with pytest.raises(TrivdError, match=message):
        FrechetStatistics.from_covariance(np.zeros(3), change(np.eye(3)), count)


def test_a_file_keeps_every_digit(tmp_path: Path) -> None:
    statistics = statistics_of(features(20, 6, 0))
    statistics.save(tmp_path / "new" / "truth.npz")
    loaded = FrechetStatistics.load(tmp_path / "new" / "truth.npz")
    assert loaded.count == 20
    torch.testing.assert_close((loaded.mean, loaded.factor), (statistics.mean, statistics.factor), rtol=0, atol=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["truth.npz"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    with pytest.raises(TrivdError, match="There is no file"):
        FrechetStatistics.load(path)
    statistics_of(features(20, 6, 0)).save(path)
    whole = path.read_bytes()
    entry = whole.find(b"PK\x01\x02")  # of the directory: versions, flags
    newer = whole[: entry + 6] + b"\xff" + whole[entry + 7 :]  # needs a zip of version 25.5
    encrypted = whole[: entry + 8] + b"\x01" + whole[entry + 9 :]
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole.replace(b"mean", b"none"), newer, encrypted):
        path.write_bytes(damaged)
        with pytest.raises(TrivdError, match="is damaged or does not hold"):
            FrechetStatistics.load(path)
    # Small numbers that unpack to little would take eight times as much as float64.
    np.savez_compressed(path, count=np.int64(9), mean=np.zeros(6), factor=np.zeros((9, 6), np.uint8))
    with pytest.raises(TrivdError, match="is damaged or does not hold"):
        FrechetStatistics.load(path)
    np.save(tmp_path / "array.npy", np.zeros((9, 6)))
    with pytest.raises(TrivdError, match="is damaged or does not hold"):
        FrechetStatistics.load(tmp_path / "array.npy")
    values = whole.find(statistics_of(features(20, 6, 0)).mean.numpy().tobytes())
    path.write_bytes(whole[:values] + bytes([whole[values] ^ 1]) + whole[values + 1 :])  # one bit of a number
    with pytest.raises(TrivdError, match="is damaged"):
        FrechetStatistics.load(path)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(TrivdError, match="does not hold"):
        FrechetStatistics.load(path)
    np.savez(path, count=5, mean=np.zeros(3), factor=np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(TrivdError, match="does not hold"):
        FrechetStatistics.load(path)
    np.savez(path, count=5, mean=np.zeros(3), factor=np.zeros((3, 4)))
    with pytest.raises(TrivdError, match=r"mean of \(3,\) and a factor of \(3, 4\) do not belong together"):
        FrechetStatistics.load(path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(wrong: float) -> None:
    values = features(9, 3, 0)
    statistics = statistics_of(values)
    bad = values.clone()
    bad[4, 1] = wrong
    with pytest.raises(TrivdError, match="NaN or infinity"):
        statistics.update(bad)
    assert statistics.count == 9


def test_too_few_clips_and_other_dimensions_are_refused() -> None:
    x = features(9, 3, 0)
    with pytest.raises(TrivdError, match="at least 2 clips in each set, but one has 1"):
        frechet_distance(x, x[:1])
    with pytest.raises(TrivdError, match="3 and of 2 dimensions"):
        frechet_distance(x, x[:, :2])
    with pytest.raises(TrivdError, match="3 and of 2 dimensions"):
        FrechetStatistics.merge([statistics_of(x), statistics_of(x[:, :2])])
    with pytest.raises(TrivdError, match=r"\(N, D\), not \(9,\)"):
        frechet_distance(x[:, 0], x)


def normal(count: int, dim: int) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64)


def test_bias_of_many_clips_falls_as_one_over_their_number() -> None:
    dim = 32
    for count in (2048, 8192):
        # To first order, for S = 1: means differ by 2 D / n, and covariances cost |S1 - S2|^2 / 4 = D (D + 1) / (2 n).
        expected = 2 * dim / count + dim * (dim + 1) / (2 * count)
        assert frechet_distance(normal(count, dim), normal(count, dim)) == pytest.approx(expected, rel=0.1)
        assert bias_estimate(normal(count, dim)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("count", "lowest", "highest"), [(16, 0.5, 0.75), (64, 0.8, 1.0), (256, 0.95, 1.05)])
def test_bias_of_few_clips_is_underestimated_by_less_than_two(count: int, lowest: float, highest: float) -> None:
    dim = 64
    truth = [frechet_distance(normal(count, dim), normal(count, dim)) for _ in range(5)]
    estimates = [bias_estimate(normal(count, dim), seed) for seed in range(5)]
    assert lowest < sum(estimates) / sum(truth) < highest


def test_bias_depends_on_the_seed_alone() -> None:
    x = features(21, 4, 0)
    assert bias_estimate(x, 1) == bias_estimate(x, 1) != bias_estimate(x, 2)
    with pytest.raises(TrivdError, match="from 4 clips on, not from 3"):
        bias_estimate(x[:3])


def test_few_clips_are_warned_of() -> None:
    assert small_sample_warning(2048, 1.0, "FVD") is None
    warning = small_sample_warning(256, 123.4, "FVD (moving-digits)")
    assert warning is not None
    assert "FVD (moving-digits) of 256 clips" in warning
    assert "about 123 apart" in warning
    assert "2,048" in warning
