"""Intervals of figures by the bootstrap over clips (Efron 1979): how much they would vary with other clips.

Resampled sets hold some clips several times, so distances between them are too large on average, and inception scores
too low. Their spread is that of the figure all the same, so it is centred on the figure. What few clips add to a
distance as a bias is not removed; it stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from trivd.evaluation.collecting import Columns
from trivd.evaluation.figures import clip_means
from trivd.evaluation.metrics.frechet import frechet_distance
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import Figure
from trivd.models.latents import seeded_generator

CONFIDENCE = 0.95
RESAMPLES = 1_000  # of means over clips
DISTANCE_RESAMPLES = 200  # of distances and inception scores, each of which takes part of a second

Chosen = Sequence[Tensor]  # clips by their places, for each of the sets that are resampled
Interval = list[float]  # its ends


def bootstrap(
    measure: Callable[[Chosen], Sequence[float]], sizes: Sequence[int], resamples: int, seed: int
) -> list[Interval]:
    """Intervals of several figures of the same clips.

    Args:
        measure: the figures of chosen clips.
        sizes: clips of each set; each is resampled on its own.
        resamples: how often.
        seed: of the choices; sets of the same sizes get the same ones.
    """
    figures = torch.tensor(measure([torch.arange(size) for size in sizes]), dtype=torch.float64)
    generator = seeded_generator(seed)
    drawn = torch.stack(
        [
            torch.tensor(
                measure([torch.randint(size, (size,), generator=generator) for size in sizes]), dtype=torch.float64
            )
            for _ in range(resamples)
        ]
    )  # (resamples, figures)
    tails = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    ends = torch.quantile(drawn - drawn.mean(dim=0) + figures, tails, dim=0)
    intervals: list[Interval] = ends.T.tolist()
    return intervals


def feature_intervals(
    truth: Columns,
    model: Columns,
    network: FeatureNetwork,
    *,
    splits: int,
    seed: int,
    paired: bool,
    ddof: Literal[0, 1] = 1,
) -> dict[str, Interval]:
    """Intervals of the Fréchet distance and the inception score.

    Args:
        truth: with "embedding".
        model: with "embedding" and "logits".
        network: whose features they are.
        splits: of the inception score.
        seed: of the resamples.
        paired: whether row i of both is of the same clip, and chosen together.
        ddof: covariances are over N - ddof, as in the figure.
    """

    def measure(chosen: Chosen) -> tuple[float, float]:
        distance = frechet_distance(truth["embedding"][chosen[0]], model["embedding"][chosen[-1]], ddof=ddof)
        return distance, inception_score(model["logits"][chosen[-1]], splits)[0]

    sizes = [len(truth["embedding"]), len(model["embedding"])][: 1 if paired else 2]
    distance, inception = bootstrap(measure, sizes, DISTANCE_RESAMPLES, seed)
    return {network.distance: [max(end, 0.0) for end in distance], network.inception: inception}


def mean_intervals(columns: Columns, seed: int) -> dict[str, Interval]:
    """Intervals of means over clips, from columns (clips,) of the same clips."""
    if not columns:
        return {}
    values = torch.stack([column.double() for column in columns.values()], dim=1)  # (clips, figures)
    found = bootstrap(lambda chosen: values[chosen[0]].mean(dim=0).tolist(), [len(values)], RESAMPLES, seed)
    return dict(zip(columns, found, strict=True))


def with_intervals(
    figures: Sequence[Figure],
    reference: Columns,
    single: Columns,
    best: Columns,
    network: FeatureNetwork | None,
    *,
    samples: int,
    splits: int,
    seed: int,
) -> list[Figure]:
    """The figures of an evaluation of one run, with their intervals.

    Args:
        figures: of `distribution_figures` and `frame_figures`.
        reference, single, best: the columns they come from.
        network: whose features these hold.
        samples: futures of each clip of `best`.
        splits: of the inception score.
        seed: of the resamples.
    """
    intervals: dict[str, Interval] = {}
    for columns in clip_means(single, best, samples):
        intervals |= mean_intervals(columns, seed)
    if network is not None:
        truth = {"embedding": reference["truth/embedding"]}
        model = {name: single[f"model/{name}"] for name in ("embedding", "logits")}
        intervals |= feature_intervals(truth, model, network, splits=splits, seed=seed, paired=True)
    return [replace(figure, interval=intervals.get(figure.name)) for figure in figures]
