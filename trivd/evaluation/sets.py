"""Resumable comparison of two sets of clips that are no pairs, by protocols of other repositories."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trivd.config import EvaluationConfig
from trivd.data.clips import ClipDataset, ReadableClips
from trivd.data.loader import evaluation_batch
from trivd.evaluation.collecting import Columns, Part
from trivd.evaluation.evaluate import check_count
from trivd.evaluation.figures import ONE, absent_figures
from trivd.evaluation.intervals import feature_intervals, mean_intervals
from trivd.evaluation.metrics.frechet import bias_estimate, frechet_distance, small_sample_warning
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.metrics.sharpness import motion_magnitude, sharpness
from trivd.evaluation.networks.cache import with_cache
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import APPEARANCE, Evaluation, Figure, Protocol, Spread, check_report
from trivd.evaluation.partial import PartialResults
from trivd.evaluation.readable import NUMBER, in_common, left_out
from trivd.evaluation.set_protocols import SetProtocol
from trivd.evaluation.sharing import SharedParts
from trivd.evaluation.subjects import Progress
from trivd.runtime.distributed import barrier, rank
from trivd.runtime.hardware import to_device
from trivd.runtime.pixels import to_float

SHARPNESS, MOTION = "sharpness", "motion"


def evaluate_sets(
    truth: ClipDataset,
    generated: ClipDataset,
    protocol: SetProtocol,
    settings: EvaluationConfig,
    network: FeatureNetwork | None,
    *,
    name: str,
    about: str,
    notes: Sequence[str],
    device: torch.device,
    report: Path,
    progress: Progress,
) -> Evaluation:
    """Fréchet distance, inception score, sharpness and motion magnitude of a set, and write the report.

    Called again after a stop, it resumes; processes of torchrun share the batches.

    Args:
        truth: true clips.
        generated: those of a model.
        protocol: how they were chosen, and how statistics are computed.
        settings: batch size, seed, and parts of the inception score.
        network: whose features are compared; None leaves these figures out.
        name: of the true data, and of the protocol.
        about: the model.
        notes: sentences to add to the figures.
        device, report, progress: see `evaluate`.

    Raises:
        TrivdError: no clip can be read, they are too few, or the report cannot be written.
    """
    check_report(report)
    frames, height = ReadableClips(truth).evaluation_clip(0).video.shape[:2]
    described = Protocol(
        data=name,
        split="",
        clips=len(generated),
        best_of_clips=len(truth),
        resolution=height,
        stride=protocol.stride,
        conditioning_frames=0,
        predicted_frames=frames,
        compared_frames=frames,
        samples=1,
        runs=1,
        truncation=None,
        seed=settings.seed,
        standing_statistics="",
        features=network.about if network else "",
        inception_splits=settings.inception_splits,
        subject=about,
        sets=f"covariances over N{' - 1' * protocol.ddof}",
    )
    if network is not None:
        check_count(network, min(len(generated), len(truth)), settings.inception_splits)
    kept = {"batch": settings.batch_size, "data": [*truth.summary, *generated.summary]}
    partial = PartialResults(report, described.identity | kept)
    cached = with_cache(network, settings.feature_cache)
    columns, missing = [], []
    for what, clips in (("true clips", truth), ("generated clips", generated)):
        shared = SharedParts(clips, partial, settings.batch_size, device, progress)
        numbers = range(len(clips))
        (found,) = in_common([shared.collected(what, _part(shared.readable, cached, device), numbers)], clips, numbers)
        missing += left_out(clips, sorted(set(numbers) - set(found[NUMBER].tolist())))
        columns.append(found)
    true, model = columns
    scored, counted = len(model[NUMBER]), len(true[NUMBER])
    unreadable = len(generated) + len(truth) - scored - counted
    described = replace(described, clips=scored, best_of_clips=counted, unreadable=unreadable)
    if network is not None:
        check_count(network, min(scored, counted), settings.inception_splits)
    warnings = [*missing, *notes]
    figures = []
    if network is not None:
        figures = _feature_figures(true, model, network, protocol, settings)
        bias = figures[0].truth
        assert bias is not None
        if warning := small_sample_warning(min(scored, counted), bias, network.distance):
            warnings.insert(0, warning)
    means = {title: model[column].double().mean(dim=1) for column, title in APPEARANCE.items()}
    intervals = mean_intervals(means, settings.seed)
    for column, title in APPEARANCE.items():
        spread, other = Spread.of([float(means[title].mean())]), float(true[column].double().mean())
        figures.append(Figure(title, "like the truth", 2, spread, None, other, intervals[title]))
    curves = {SHARPNESS: {"truth": _frame_means(true[SHARPNESS]), ONE: _frame_means(model[SHARPNESS])}}
    absent = absent_figures(network, settings.features)
    evaluation = Evaluation(described, figures, curves, None, warnings, absent)
    barrier()  # every process has read all batches
    if rank() == 0:
        evaluation.save(report)
        partial.remove()
    return evaluation


def _part(clips: ClipDataset, network: FeatureNetwork | None, device: torch.device) -> Part:
    """Measures some clips: appearance by frame, and features."""

    @torch.no_grad()
    def part(numbers: Sequence[int]) -> Columns:
        pixels = to_device(evaluation_batch(clips, numbers).video, device)
        video = to_float(pixels)
        columns = {SHARPNESS: sharpness(video), MOTION: motion_magnitude(video[:, 1:], video[:, 0])}
        if network is not None:
            features = network(pixels)
            columns |= {"embedding": features.embedding, "logits": features.logits}
        return columns

    return part


def _feature_figures(
    true: Columns, model: Columns, network: FeatureNetwork, protocol: SetProtocol, settings: EvaluationConfig
) -> list[Figure]:
    splits = settings.inception_splits
    distance = frechet_distance(true["embedding"], model["embedding"], ddof=protocol.ddof)
    intervals = feature_intervals(
        true, model, network, splits=splits, seed=settings.seed, paired=False, ddof=protocol.ddof
    )
    score, true_score = (inception_score(columns["logits"], splits)[0] for columns in (model, true))
    bias = bias_estimate(true["embedding"])
    return [
        Figure(network.distance, "lower", 2, Spread.of([distance]), None, bias, intervals[network.distance]),
        Figure(network.inception, "higher", 2, Spread.of([score]), None, true_score, intervals[network.inception]),
    ]


def _frame_means(column: Tensor) -> list[float]:
    means: list[float] = column.double().mean(dim=0).tolist()
    return means
