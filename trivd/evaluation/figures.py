"""Figures and curves of an evaluation, computed from its columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trivd.config import EvaluationConfig
from trivd.evaluation.collecting import Columns
from trivd.evaluation.metrics.frechet import bias_estimate, frechet_distance, small_sample_warning
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.networks.lpips import BACKBONES, Lpips
from trivd.evaluation.outcome import APPEARANCE, LPIPS, TITLES, Absent, Figure, Spread

COPY, ONE = "copy the last frame", "one sample"  # names of series
DIVERSITY = "diversity [grey levels]"
DISTANCE, INCEPTION = "FVD", "IS"  # of I3D with the reference weights
NO_LPIPS = "there are no weights; see evaluation.md, and run `trivd weights import FILE`"
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
        copy, true = (_mean(reference[f"{whose}/{name}"]) for whose in ("copy", "truth"))
        figures.append(Figure(title, "like the truth", 2, spread, copy, true))
    return figures


def absent_figures(network: FeatureNetwork | None, features: str) -> list[Absent]:
    """The figures of a feature network that are missing although nobody asked to leave them out.

    Args:
        network: whose figures there are; None: none.
        features: `evaluation.features`.
    """
    wanted = network is None and features != "none"
    return [Absent(name, NO_WEIGHTS) for name in (DISTANCE, INCEPTION)] if wanted else []


def absent_lpips(lpips: Lpips | None, settings: EvaluationConfig, resolution: int) -> list[Absent]:
    """The row of LPIPS where it is missing although nobody asked to leave it out."""
    if lpips is not None or settings.lpips == "none":
        return []
    blind = [backbone for backbone in BACKBONES.values() if backbone.smallest > resolution]
    if len(blind) == len(BACKBONES):
        return [Absent("LPIPS", f"frames have fewer than {min(backbone.smallest for backbone in blind)} pixels")]
    small = "".join(f"frames are too small for {backbone.title}; of others " for backbone in blind)
    return [Absent("LPIPS", small + NO_LPIPS)]


def frame_scores(best: Columns) -> list[str]:
    """The frame scores that `Scorer.several` gave, in their order in tables."""
    return [score for score in TITLES if f"{score}/copy" in best]


def frame_figures(bests: Sequence[Columns], samples: int) -> list[Figure]:
    """Frame scores averaged over clips and frames, and diversity, from what `Scorer.several` gave in each run."""
    figures = []
    for score in frame_scores(bests[0]):
        title, digits = TITLES[score]
        better = "lower" if score in LPIPS else "higher"
        copy = _mean(bests[0][f"{score}/copy"])
        for series, column in _series(score, samples, bests[0]).items():
            if series != COPY:
                spread = Spread.of([_mean(best[column]) for best in bests])
                figures.append(Figure(f"{title}, {series}", better, digits, spread, copy, None))
    if samples > 1:
        spread = Spread.of([_mean(best["diversity"]) for best in bests])
        figures.append(Figure(DIVERSITY, "", 2, spread, 0.0, None))
    return figures


def clip_means(single: Columns, best: Columns, samples: int) -> tuple[Columns, Columns]:
    """The values of each clip (clips,) whose means over clips are figures of one run, by the figure's name.

    Args:
        single: as `Scorer.single` gives it.
        best: as `Scorer.several` gives it, perhaps of other clips.
        samples: futures of each clip of `best`.

    Returns:
        Those of `single`, and those of `best`.
    """
    several = {
        f"{TITLES[score][0]}, {series}": _clip_means(best[column])
        for score in frame_scores(best)
        for series, column in _series(score, samples, best).items()
        if series != COPY
    }
    if samples > 1:
        several[DIVERSITY] = _clip_means(best["diversity"])
    return {title: _clip_means(single[f"model/{name}"]) for name, title in APPEARANCE.items()}, several


def curves(
    reference: Columns, singles: Sequence[Columns], bests: Sequence[Columns], samples: int
) -> dict[str, dict[str, list[float]]]:
    """Means over clips and runs for each predicted frame: score -> series -> values (Figure 5)."""
    by_score = {
        score: {series: _frame_means([best[column] for best in bests]) for series, column in columns.items()}
        for score, columns in ((score, _series(score, samples, bests[0])) for score in frame_scores(bests[0]))
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


def _series(score: str, samples: int, best: Columns) -> dict[str, str]:
    """The name of each series, and its column in what `Scorer.several` gave."""
    names = {COPY: f"{score}/copy", ONE: f"{score}/single"}
    if samples > 1:
        names[f"mean of {samples} samples"] = f"{score}/mean"
    counts = sorted(int(name.removeprefix(f"{score}/best ")) for name in best if name.startswith(f"{score}/best "))
    return names | {f"best of {count}": f"{score}/best {count}" for count in counts}


def _mean(column: Tensor) -> float:
    return float(column.double().mean())


def _clip_means(column: Tensor) -> Tensor:
    """One value per clip, from (B, T)."""
    return column.double().mean(dim=1)


def _frame_means(columns: Sequence[Tensor]) -> list[float]:
    """One value per frame, from the columns (B, T) of all runs."""
    means: list[float] = torch.stack([column.double().mean(dim=0) for column in columns]).mean(dim=0).tolist()
    return means
