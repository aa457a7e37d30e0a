"""Fréchet distance between sets of features, exact to float64: at once, in a stream, merged over processes.

FID (Heusel et al. 2017) in the feature space of video networks is FVD (Unterthiner et al. 2018).
"""

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.models.latents import seeded_generator
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import unpacked_sizes, write_atomically

Array = Tensor | NDArray[Any]

ENOUGH_CLIPS = 2048  # the field's usual number; below it the bias is said with the distance
COVARIANCE_TOLERANCE = 1e-5  # of the largest entry or eigenvalue: what rounding to float32 may do to a covariance
LARGEST_UNPACKED = 1 << 30  # bytes of a file of statistics; those of 400 features have 1.3 MB
BIAS_SPLITS = 3  # random halves that a bias is averaged over


def frechet_distance(x: Array, y: Array, *, ddof: int = 1) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets of features, with unbiased covariances S.

    Args:
        x: features (N1, D).
        y: features (N2, D).
        ddof: covariances are over N - ddof; other tools take 0.

    Raises:
        TrivdError: fewer than two rows, different D, or values that are not finite.
    """
    first, second = FrechetStatistics(), FrechetStatistics()
    first.update(x)
    second.update(y)
    return first.distance(second, ddof=ddof)


@dataclass(eq=False)
class FrechetStatistics:
    """Count, mean and covariance S of features, given in any order and in batches of any size.

    S is kept as rows A with A^T A = (count - 1) S: the centred features, compressed by QR decompositions. S itself
    would square the singular values, and the small ones would drown in rounding. Tensors are float64 on the CPU.
    """

    count: int = 0  # features seen
    mean: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))  # (D,)
    factor: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))  # A (rows, D), rows <= 2 D

    @classmethod
    def from_covariance(cls, mean: Array, covariance: Array, count: int) -> "FrechetStatistics":
        """Statistics that another tool stored as mu and sigma, with what small eigenvalues sigma has kept.

        Args:
            mean: (D,).
            covariance: unbiased, (D, D).
            count: features that they come from.

        Raises:
            TrivdError: the shapes disagree, values are not finite, there were fewer than two features, or the matrix
                is not a covariance: not symmetric, or with negative eigenvalues.
        """
        mu, sigma = _float64(mean), _float64(covariance)
        if mu.dim() != 1 or sigma.shape != (len(mu), len(mu)) or len(mu) == 0:
            raise TrivdError(
                f"A mean (D,) and a covariance (D, D) are needed, not {tuple(mu.shape)} and {tuple(sigma.shape)}."
            )
        if count < 2:
            raise TrivdError(f"A covariance needs at least 2 features, but its count is {count}.")
        asymmetry, largest = float((sigma - sigma.T).abs().max()), float(sigma.abs().max())
        eigenvalues, vectors = torch.linalg.eigh((sigma + sigma.T) / 2)
        if max(asymmetry, -float(eigenvalues[0])) > COVARIANCE_TOLERANCE * largest:
            raise TrivdError("The matrix is not a covariance: it must be symmetric and have no negative eigenvalue.")
        roots = ((count - 1) * eigenvalues.clamp(min=0)).sqrt()
        return cls(count, mu, roots[:, None] * vectors.T)

    @classmethod
    def merge(cls, parts: Iterable["FrechetStatistics"]) -> "FrechetStatistics":
        """Statistics of all features of several parts together, which stay as they are; empty parts are allowed.

        Raises:
            TrivdError: parts have features of different dimensions.
        """
        merged = cls()
        for part in parts:
            if part.count:
                merged._add(part.count, part.mean, part.factor)
        return merged

    @classmethod
    def load(cls, path: Path | str) -> "FrechetStatistics":
        """Read what `save` wrote.

        Raises:
            TrivdError: the file is missing, damaged, or something else.
        """
        try:
            with np.load(path, mmap_mode="r", allow_pickle=False) as file:  # mapped: if it is no .npz, it is not read
                if sum(unpacked_sizes(file.zip)) > LARGEST_UNPACKED:
                    raise ValueError("it unpacks to too much")
                count, mean, factor = int(file["count"]), *(torch.from_numpy(file[name]) for name in ("mean", "factor"))
            if {mean.dtype, factor.dtype} != {torch.float64}:
                raise ValueError("its numbers are of another type")
        except FileNotFoundError as error:
            raise TrivdError(f"There is no file {path}.") from error
        except Exception as error:  # NumPy, zip and zlib have a dozen ways to fail on a damaged file
            raise TrivdError(f"{path} is damaged or does not hold Fréchet statistics; compute them again.") from error
        if count < 0 or mean.dim() != 1 or factor.dim() != 2 or factor.shape[1] != len(mean):
            raise TrivdError(
                f"{path} does not hold Fréchet statistics: a count of {count}, a mean of {tuple(mean.shape)} and a "
                f"factor of {tuple(factor.shape)} do not belong together."
            )
        return cls(count, mean, factor)

    def save(self, path: Path | str) -> None:
        """Write as a NumPy .npz of `count`, `mean` and `factor`, whole or not at all; nothing is pickled."""
        file = io.BytesIO()
        np.savez(file, count=np.int64(self.count), mean=self.mean.numpy(), factor=self.factor.numpy())
        write_atomically(path, file.getvalue())

    def update(self, features: Array) -> None:
        """Add features (N, D) of any real type, N >= 0.

        Raises:
            TrivdError: another shape or dimension than before, or values that are not finite; nothing is added then.
        """
        values = _float64(features)
        if values.dim() != 2 or values.shape[1] == 0:
            raise TrivdError(f"Features must be (N, D), not {tuple(values.shape)}.")
        if len(values):
            mean = values.mean(dim=0)
            self._add(len(values), mean, values - mean)

    def distance(self, other: "FrechetStatistics", *, ddof: int = 1) -> float:
        """Fréchet distance to the statistics of another set.

        tr (S1 S2)^(1/2) is the sum of the singular values of A1 A2^T / sqrt((n1 - 1) (n2 - 1)), so no matrix square
        root of a product is taken and nothing is added to a diagonal, even where n < D makes S singular. With `ddof` 0,
        covariances are over n instead of n - 1, as in other tools.

        Raises:
            TrivdError: a set has fewer than two features, or their dimensions differ.
        """
        fewest = min(self.count, other.count)
        if fewest < 2:
            raise TrivdError(f"The Fréchet distance needs at least 2 clips in each set, but one has {fewest}.")
        _check_dimension(len(self.mean), len(other.mean))
        a = _compressed(self.factor) / math.sqrt(self.count - ddof)
        b = _compressed(other.factor) / math.sqrt(other.count - ddof)
        spread = a.square().sum() + b.square().sum() - 2 * torch.linalg.matrix_norm(a @ b.T, "nuc")
        return max(float((self.mean - other.mean).square().sum() + spread), 0.0)  # rounding may leave -1e-14 of tr S

    def _add(self, count: int, mean: Tensor, factor: Tensor) -> None:
        """Add `count` features of which the mean and a factor of the scatter are given (Chan et al. 1983, Eq 2.1)."""
        if self.count == 0:
            rows, self.mean = factor, mean
        else:
            _check_dimension(len(self.mean), len(mean))
            total = self.count + count
            shift = mean - self.mean
            between = math.sqrt(self.count * count / total) * shift
            rows = torch.cat([self.factor, factor, between[None]])
            self.mean = self.mean + shift * (count / total)
        self.count += count
        # Rows wait until there are 2 D: decomposed for every batch, 400 of small batches would cost D^2 each.
        self.factor = _compressed(rows) if len(rows) > 2 * len(mean) else rows


def bias_estimate(features: Array, seed: int = 0) -> float:
    """Fréchet distance that two independent sets of N clips each would have although nothing tells them apart.

    It is the mean distance between random halves, N / 2 clips each, divided by 2: the bias falls as 1 / N. For
    normal features this is right within 10% from about N = D on; with fewer clips the true bias is up to twice as high.

    Args:
        features: (N, D) of one set of real clips.
        seed: of the halves.

    Raises:
        TrivdError: fewer than four clips, or values that are not finite.
    """
    values = _float64(features)
    half = len(values) // 2
    if half < 2:
        raise TrivdError(f"The bias of a Fréchet distance can be estimated from 4 clips on, not from {len(values)}.")
    total = 0.0
    for split in range(BIAS_SPLITS):
        order = torch.randperm(len(values), generator=seeded_generator(seed, split))
        total += frechet_distance(values[order[:half]], values[order[half : 2 * half]])
    return total / BIAS_SPLITS * half / len(values)


def small_sample_warning(count: int, bias: float, name: str) -> str | None:
    """Warning to print beside a Fréchet distance `name` of `count` clips per set; None from 2,048 clips on.

    Args:
        count: clips of the smaller set.
        bias: as `bias_estimate` gives it.
        name: what the distance is called, "FVD".
    """
    if count >= ENOUGH_CLIPS:
        return None
    return (
        f"{name} of {count:,} clips is biased upwards: two sets of so many real clips would be about {bias:.3g} apart "
        f"or more, not 0; compare only with figures of as many clips, or use at least {ENOUGH_CLIPS:,}."
    )


def _float64(values: Array) -> Tensor:
    """A float64 tensor on the CPU, where every value is finite."""
    if isinstance(values, Tensor):
        converted = values.detach().to("cpu", torch.float64)
    else:
        converted = torch.from_numpy(np.array(values, dtype=np.float64))
    if not converted.isfinite().all():
        raise TrivdError(
            "Features hold NaN or infinity, so they have no Fréchet distance; check what the network was given."
        )
    return converted


def _compressed(rows: Tensor) -> Tensor:
    """At most D rows (., D) with the same A^T A: the triangular factor of a QR decomposition."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def _check_dimension(first: int, second: int) -> None:
    if first != second:
        raise TrivdError(f"Features of {first} and of {second} dimensions cannot be compared; use one network for all.")
