"""Resumable evaluation of any forecaster on held-out clips."""

import functools
import itertools
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trivd.config import Config, DataConfig, EvaluationConfig
from trivd.data.clips import ClipDataset, DigitClips, ReadableClips, open_clips
from trivd.data.loader import evaluation_numbers
from trivd.data.splits import Split
from trivd.evaluation.figures import (
    ONE,
    absent_figures,
    absent_lpips,
    curves,
    distribution_figures,
    frame_figures,
    sample_size_warnings,
)
from trivd.evaluation.intervals import with_intervals
from trivd.evaluation.metrics.frame_scores import check_size
from trivd.evaluation.metrics.motion_error import motion_score
from trivd.evaluation.networks.cache import with_cache
from trivd.evaluation.networks.choice import choose_lpips, choose_network
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import Evaluation, Protocol, check_report
from trivd.evaluation.partial import PartialResults
from trivd.evaluation.readable import NUMBER, in_common, left_out
from trivd.evaluation.scorer import BEST_OF, ModelForecaster, Scorer, best_of_counts
from trivd.evaluation.sharing import SharedParts
from trivd.evaluation.subjects import Copies, Progress, Subject, TrainedModel, copy_subject, model_subject
from trivd.runtime.distributed import all_gather, barrier, rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.words import counted

LOGGER = logging.getLogger(__name__)
FEWEST_CLIPS = 4  # so that each half of them has a covariance


@dataclass(frozen=True)
class OtherData:
    """A data set beside the evaluated one, whose training clips give the standing statistics."""

    path: str  # or name
    config: DataConfig  # how its clips are cut


@dataclass(frozen=True)
class HeldOut:
    """The clips that count, and what the protocol says of them."""

    clips: ClipDataset
    name: str  # of the data set
    stride: int  # between the frames of a clip, in frames of the video


def evaluate_model(
    model: TrainedModel,
    config: Config,
    data: str,
    *,
    name: str,
    split: Split | None,
    device: torch.device,
    report: Path,
    standing: OtherData | None = None,
    progress: Progress = lambda part, done, total: None,
) -> Evaluation:
    """Score a trained generator on a data set.

    Args:
        model: on `device`; its standing statistics are replaced by those of the last run.
        config: how clips are cut, and the settings of the evaluation.
        data: path or name of the data set.
        name: of the data set, for the protocol.
        split: whose clips count; None: those that are held out, for validation if the data have such a split.
        device: of all computation.
        report: JSON file to write.
        standing: where the training clips of the standing statistics come from; None: from `data`.
        progress: see `evaluate`.

    Raises:
        TrivdError: the data have no such split, or no training clips; otherwise see `evaluate`.
    """
    held_out, settings = _counted(config, data, name, split), config.evaluation
    if standing is None:
        train = _training_clips(data, config)
    else:
        train = open_clips(standing.path, "train", standing.config, config.model)
    subject = model_subject(model, train, settings, None if standing is None else standing.path)
    network = choose_network(settings, held_out.clips, device)
    evaluation = evaluate(subject, held_out, settings, network, device=device, report=report, progress=progress)
    subject.forecaster.prepare(settings.runs - 1)  # all batches of that run may have been there
    return evaluation


def evaluate_copies(
    config: Config,
    data: str,
    *,
    name: str,
    split: Split | None,
    device: torch.device,
    report: Path,
    progress: Progress = lambda part, done, total: None,
) -> Evaluation:
    """Score copies of the last given frame (D.3) on a data set; no model is needed.

    Args:
        config: frames and resolution of the clips, how they are cut, and the settings of the evaluation.
        data, name, split, device, report, progress: see `evaluate_model`.

    Raises:
        TrivdError: see `evaluate_model`.
    """
    held_out = _counted(config, data, name, split)
    settings = replace(config.evaluation, samples=1, runs=1)  # there is but one copy
    network = choose_network(settings, held_out.clips, device)
    subject = copy_subject(config.model.conditioning_frames)
    return evaluate(subject, held_out, settings, network, device=device, report=report, progress=progress)


def _counted(config: Config, data: str, name: str, split: Split | None) -> HeldOut:
    """The clips that count; see `evaluate_model`."""
    clips = open_clips(data, split or "validation", config.data, config.model, exact=split is not None)
    for line in clips.summary:
        LOGGER.info("%s", line)
    return HeldOut(clips, name, config.data.stride)


def _training_clips(data: str, config: Config) -> ClipDataset:
    """The training clips of the evaluated data.

    Raises:
        TrivdError: there are none.
    """
    try:
        return open_clips(data, "train", config.data, config.model)
    except TrivdError as error:
        raise TrivdError(f"Standing statistics need training clips, here or in --standing-data. {error}") from error


def evaluate(
    subject: Subject,
    held_out: HeldOut,
    settings: EvaluationConfig,
    network: FeatureNetwork | None,
    *,
    device: torch.device,
    report: Path,
    progress: Progress = lambda part, done, total: None,
) -> Evaluation:
    """Score a subject and write the report; called again after a stop, it resumes (4.1, C.1, E.2).

    Clips that cannot be read are left out; the report names and counts them.

    Processes that torchrun started share the batches; they must see the same folder. Rank 0 writes the report.

    Args:
        subject: whose futures.
        held_out: the clips that count.
        settings: numbers of clips, samples and runs, batch size, and what else the figures depend on.
        network: of the Fréchet distance and the inception score; None leaves them out.
        device: of all computation.
        report: JSON file to write; finished batches are kept beside it until then.
        progress: called before the first and after each batch.

    Raises:
        TrivdError: no clip can be read, they are too few, too short or too small, or the report cannot be written, or
            would take the place of something else.
    """
    check_report(report)
    clips = held_out.clips
    frames, height, width = ReadableClips(clips).evaluation_clip(0).video.shape[:3]
    check_size(height, width)
    protocol = _protocol(subject, held_out, settings, network, frames=frames, resolution=height)
    lpips = choose_lpips(settings, min(height, width), device)
    protocol = replace(protocol, lpips="" if lpips is None else lpips.about)
    if network is not None:
        check_count(network, protocol.clips, settings.inception_splits)
    subject.check(progress)
    counts = best_of_counts(settings.samples, subject.best_of)
    kept = {"batch": settings.batch_size, "data": clips.summary}
    kept |= {} if tuple(subject.best_of) == BEST_OF else {"best of": counts}
    partial = PartialResults(report, protocol.identity | kept)
    shared = SharedParts(clips, partial, settings.batch_size, device, progress)
    ones, several_each = (evaluation_numbers(clips, count) for count in (settings.clips, settings.best_of_clips))

    def scorer_with(network: FeatureNetwork | None) -> Scorer:
        return Scorer(
            shared.readable, subject.conditioning_frames, network, settings.count_conditioning, device, lpips=lpips
        )

    lasting = scorer_with(with_cache(network, settings.feature_cache))
    reference = shared.collected("truth and copy", lasting.reference, ones)
    # A model's futures are not looked up: other weights, settings and seeds give others each time.
    scorer = scorer_with(network) if isinstance(subject.forecaster, ModelForecaster) else lasting
    singles, bests = [], []
    for run in range(settings.runs):
        suffix = f" in run {run + 1}" if settings.runs > 1 else ""
        prepare = functools.partial(subject.forecaster.prepare, run)
        single = functools.partial(scorer.single, subject.forecaster, run)
        several = functools.partial(scorer.several, subject.forecaster, run, settings.samples, counts)
        singles.append(shared.collected(f"one future each{suffix}", single, ones, prepare))
        futures = counted(settings.samples, "future")
        bests.append(shared.collected(f"{futures} each{suffix}", several, several_each, prepare))
    reference, *singles = in_common([reference, *singles], clips, ones)
    bests = in_common(bests, clips, several_each)
    scored, scored_often = (set(columns[NUMBER].tolist()) for columns in (reference, bests[0]))
    missing = sorted((set(ones) - scored) | (set(several_each) - scored_often))
    protocol = replace(protocol, clips=len(scored), best_of_clips=len(scored_often), unreadable=len(missing))
    if network is not None:
        check_count(network, protocol.clips, settings.inception_splits)
    notes = [*left_out(clips, missing), *itertools.chain.from_iterable(all_gather(list(subject.notes)))]
    figures = distribution_figures(reference, singles, network, settings.inception_splits)
    series = curves(reference, singles, bests, settings.samples)
    if isinstance(subject.forecaster, Copies):  # which the series of copies shows already
        series = {score: {name: line for name, line in lines.items() if name != ONE} for score, lines in series.items()}
    motion = None
    if isinstance(subject.forecaster, ModelForecaster) and isinstance(clips, DigitClips):
        subject.forecaster.prepare(settings.runs - 1)  # all batches of that run may have been there
        motion = motion_score(subject.forecaster.generator, clips, settings, subject.forecaster.dtype)
    notes += [] if motion is None else motion.advice
    warnings = sample_size_warnings(figures, network, protocol.clips)
    figures += frame_figures(bests, settings.samples)
    if subject.intervals and rank() == 0:  # which writes them
        (single_run,), (best_run,) = singles, bests
        figures = with_intervals(
            figures,
            reference,
            single_run,
            best_run,
            network,
            samples=settings.samples,
            splits=settings.inception_splits,
            seed=settings.seed,
        )
    evaluation = Evaluation(
        protocol,
        figures,
        series,
        motion,
        [*warnings, *dict.fromkeys(notes)],
        absent_figures(network, settings.features) + absent_lpips(lpips, settings, min(height, width)),
    )
    barrier()  # every process has read all batches
    if rank() == 0:
        evaluation.save(report)
        partial.remove()
    return evaluation


def check_count(network: FeatureNetwork, clips: int, splits: int) -> None:
    """Refuse fewer clips than the figures of a network need.

    Raises:
        TrivdError: there are too few.
    """
    if clips < FEWEST_CLIPS:
        raise TrivdError(
            f"{network.distance} needs at least {FEWEST_CLIPS} clips, but there are {clips}; give more (--clips), or "
            "features none (--features none) to leave it out."
        )
    if splits > clips:
        raise TrivdError(
            f"{network.inception} of {clips} clips cannot be had in {splits} splits; lower --inception-splits or raise "
            "--clips."
        )


def _protocol(
    subject: Subject,
    held_out: HeldOut,
    settings: EvaluationConfig,
    network: FeatureNetwork | None,
    *,
    frames: int,
    resolution: int,
) -> Protocol:
    clips = held_out.clips
    predicted = frames - subject.conditioning_frames
    return Protocol(
        data=held_out.name,
        split=clips.split,
        clips=min(settings.clips, clips.evaluation_clips),
        best_of_clips=min(settings.best_of_clips, clips.evaluation_clips),
        resolution=resolution,
        stride=held_out.stride,
        fps=clips.fps,
        conditioning_frames=subject.conditioning_frames,
        predicted_frames=predicted,
        compared_frames=frames if settings.count_conditioning else predicted,
        samples=settings.samples,
        runs=settings.runs,
        truncation=settings.truncation,
        seed=settings.seed,
        standing_statistics=subject.standing_statistics,
        features=network.about if network else "",
        inception_splits=settings.inception_splits,
        subject=subject.about,
    )
