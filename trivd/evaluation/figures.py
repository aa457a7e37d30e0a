"""Figures and curves of an evaluation, computed from its columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trivd.evaluation.collecting import Columns
from trivd.evaluation.metrics.frechet import bias_estimate, frechet_distance, small_sample_warning
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import APPEARANCE, TITLES, Absent, Figure, Spread
from trivd.evaluation.scorer import best_of_counts

COPY, ONE = "copy the last frame", "one sample"  # names of series
DIVERSITY = "diversity [grey levels]"
DISTANCE, INCEPTION = "FVD", "IS"  # of I3D with the reference weights
NO_WEIGHTS = "there are no I3D weights; run `trivd weights download`"


def distribution_figures(
    reference: Columns, singles: Sequence[Columns], network: FeatureNetwork | None, splits: int
) -> list[Figure]:
    """Fréchet distance, inception score (both with a network only), sharpness and motion magnitude.

    Args:
        reference: as `Scorer.reference` gives it.
        singles: as `Scorer.single` gives them, one per run, of the same clips.
        network: whose features they hold.
        splits: of the inception score.
    """
    figures = []
    if network is not None:
        truth = reference["truth/embedding"]

        def score(logits: Tensor) -> float:
            return inception_score(logits, splits)[0]

        figures += [
            Figure(
                network.distance,
                "lower",
                2,
                Spread.of([frechet_distance(truth, single["model/embedding"]) for single in singles]),
                frechet_distance(truth, reference["copy/embedding"]),
                bias_estimate(truth),
            ),
            Figure(
                network.inception,
                "higher",
                2,
                Spread.of([score(single["model/logits"]) for single in singles]),
                score(reference["copy/logits"]),
                score(reference["truth/logits"]),
            ),
        ]
    for name, title in APPEARANCE.items():
        spread = Spread.of([_mean(single[f"model/{name}"]) for single in singles])
        baselines = [_mean(reference[f"{whose}/{name}"]) for whose in ("copy", "truth")]
        figures.append(Figure(title, "like the truth", 2, spread, *baselines))
    return figures


def absent_figures(network: FeatureNetwork | None, features: str) -> list[Absent]:
    """The figures of a feature network that are missing although nobody asked to leave them out.

    Args:
        network: whose figures there are; None: none.
        features: `evaluation.features`.
    """
    wanted = network is None and features != "none"
    return [Absent(name, NO_WEIGHTS) for name in (DISTANCE, INCEPTION)] if wanted else []


def frame_figures(bests: Sequence[Columns], samples: int) -> list[Figure]:
    """PSNR and SSIM averaged over clips and frames, and diversity, from what `Scorer.several` gave in each run."""
    figures = []
    for score, (title, digits) in TITLES.items():
        copy = _mean(bests[0][f"{score}/copy"])
        for series, column in _series(score, samples).items():
            if series != COPY:
                spread = Spread.of([_mean(best[column]) for best in bests])
                figures.append(Figure(f"{title}, {series}", "higher", digits, spread, copy, None))
    if samples > 1:
        spread = Spread.of([_mean(best["diversity"]) for best in bests])
        figures.append(Figure(DIVERSITY, "", 2, spread, 0.0, None))
    return figures


def curves(
    reference: Columns, singles: Sequence[Columns], bests: Sequence[Columns], samples: int
) -> dict[str, dict[str, list[float]]]:
    """Means over clips and runs for each predicted frame: score -> series -> values (Figure 5)."""
    by_score = {
        score: {series: _frame_means([best[column] for best in bests]) for series, column in columns.items()}
        for score, columns in ((score, _series(score, samples)) for score in TITLES)
    }
    for name in APPEARANCE:
        by_score[name] = {
            "truth": _frame_means([reference[f"truth/{name}"]]),
            COPY: _frame_means([reference[f"copy/{name}"]]),
            ONE: _frame_means([single[f"model/{name}"] for single in singles]),
        }
    return by_score


def sample_size_warnings(figures: Sequence[Figure], network: FeatureNetwork | None, clips: int) -> list[str]:
    """The warning about the Fréchet distance of few clips, if there are few."""
    if network is None:
        return []
    bias = next(figure.truth for figure in figures if figure.name == network.distance)
    assert bias is not None
    warning = small_sample_warning(clips, bias, network.distance)
    return [] if warning is None else [warning]


def _series(score: str, samples: int) -> dict[str, str]:
    """The name of each series, and its column."""
    names = {COPY: f"{score}/copy", ONE: f"{score}/single"}
    if samples > 1:
        names[f"mean of {samples} samples"] = f"{score}/mean"
    return names | {f"best of {count}": f"{score}/best {count}" for count in best_of_counts(samples)}


def _mean(column: Tensor) -> float:
    return float(column.double().mean())


def _frame_means(columns: Sequence[Tensor]) -> list[float]:
    """One value per frame, from the columns (B, T) of all runs."""
    means: list[float] = torch.stack([column.double().mean(dim=0) for column in columns]).mean(dim=0).tolist()
    return means
