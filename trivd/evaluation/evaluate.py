"""Resumable evaluation of any forecaster on held-out clips."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from trivd.config import Config, EvaluationConfig
from trivd.data.clips import ClipDataset, DigitClips, ReadableClips, open_clips
from trivd.data.loader import evaluation_numbers
from trivd.data.splits import Split
from trivd.evaluation.figures import curves, distribution_figures, frame_figures, sample_size_warnings
from trivd.evaluation.metrics.frame_scores import check_size
from trivd.evaluation.metrics.motion_error import motion_score
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.evaluation.outcome import Evaluation, Protocol, check_report
from trivd.evaluation.partial import PartialResults
from trivd.evaluation.readable import NUMBER, LeavingOut, in_common, left_out
from trivd.evaluation.scorer import Columns, ModelForecaster, Part, Scorer, batches, collect
from trivd.evaluation.subjects import Progress, Subject, TrainedModel, model_subject
from trivd.runtime.distributed import all_gather, any_process, barrier, rank, world_size
from trivd.runtime.errors import TrivdError

FEWEST_CLIPS = 4  # so that each half of them has a covariance


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
    split: Split,
    device: torch.device,
    report: Path,
    progress: Progress = lambda part, done, total: None,
) -> Evaluation:
    """Score a trained generator on a data set.

    Args:
        model: on `device`; its standing statistics are replaced.
        config: how clips are cut, and the settings of the evaluation.
        data: path or name of the data set.
        name: of the data set, for the protocol.
        split: whose clips count.
        device: of all computation.
        report: JSON file to write.
        progress: see `evaluate`.

    Raises:
        TrivdError: see `evaluate`.
    """
    train, clips = (open_clips(data, part, config.data, config.model) for part in ("train", split))
    settings = config.evaluation
    network = choose_network(settings, clips, device)
    subject = model_subject(model, train, settings)
    held_out = HeldOut(clips, name, config.data.stride)
    return evaluate(subject, held_out, settings, network, device=device, report=report, progress=progress)


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
    protocol = _protocol(subject, held_out, settings, network)
    if network is not None:
        _check_count(network, protocol.clips, settings.inception_splits)
    subject.check(progress)
    readable = LeavingOut(clips)
    partial = PartialResults(report, asdict(protocol) | {"batch": settings.batch_size, "data": clips.summary})

    def collected(what: str, part: Part, count: int, prepare: Callable[[], None] = lambda: None) -> Columns:
        """Columns of a part of the evaluation; each process computes some of its batches and reads all."""
        name, numbers = what.replace(" ", "-"), evaluation_numbers(clips, count)
        kept, parts = partial.kept(name, readable.only_readable(part)), batches(numbers, settings.batch_size)
        if any_process(any(partial.read(name, batch) is None for batch in parts), device):
            prepare()
        progress(what, 0, len(numbers))
        for done, batch in enumerate(parts[rank() :: world_size()], start=1):
            kept(batch)
            progress(what, min(done * settings.batch_size * world_size(), len(numbers)), len(numbers))
        barrier()
        return collect(kept, numbers, settings.batch_size)

    scorer = Scorer(readable, subject.conditioning_frames, network, settings.count_conditioning, device)
    reference = collected("truth and copy", scorer.reference, settings.clips)
    singles, bests = [], []
    for run in range(settings.runs):
        suffix = f" in run {run + 1}" if settings.runs > 1 else ""
        prepare = functools.partial(subject.forecaster.prepare, run)
        single = functools.partial(scorer.single, subject.forecaster, run)
        several = functools.partial(scorer.several, subject.forecaster, run, settings.samples)
        singles.append(collected(f"one future each{suffix}", single, settings.clips, prepare))
        bests.append(collected(f"{settings.samples} futures each{suffix}", several, settings.best_of_clips, prepare))
    ones, several_each = (evaluation_numbers(clips, count) for count in (settings.clips, settings.best_of_clips))
    reference, *singles = in_common([reference, *singles], clips, ones)
    bests = in_common(bests, clips, several_each)
    scored, scored_often = (set(columns[NUMBER].tolist()) for columns in (reference, bests[0]))
    missing = sorted((set(ones) - scored) | (set(several_each) - scored_often))
    protocol = replace(protocol, clips=len(scored), best_of_clips=len(scored_often), unreadable=len(missing))
    if network is not None:
        _check_count(network, protocol.clips, settings.inception_splits)
    notes = [*left_out(clips, missing), *itertools.chain.from_iterable(all_gather(list(subject.notes)))]
    figures = distribution_figures(reference, singles, network, settings.inception_splits)
    motion = None
    if isinstance(subject.forecaster, ModelForecaster) and isinstance(clips, DigitClips):
        subject.forecaster.prepare(settings.runs - 1)  # all batches of that run may have been there
        motion = motion_score(subject.forecaster.generator, clips, settings, subject.forecaster.dtype)
    notes += [] if motion is None else motion.advice
    evaluation = Evaluation(
        protocol,
        figures + frame_figures(bests, settings.samples),
        curves(reference, singles, bests, settings.samples),
        motion,
        [*sample_size_warnings(figures, network, protocol.clips), *dict.fromkeys(notes)],
    )
    barrier()  # every process has read all batches
    if rank() == 0:
        evaluation.save(report)
        partial.remove()
    return evaluation


def _check_count(network: FeatureNetwork, clips: int, splits: int) -> None:
    """Refuse fewer clips than the figures of a network need.

    Raises:
        TrivdError: there are too few.
    """
    if clips < FEWEST_CLIPS:
        raise TrivdError(
            f"{network.distance} needs at least {FEWEST_CLIPS} clips, but there are {clips}; "
            "raise --clips or give --features none."
        )
    if splits > clips:
        raise TrivdError(
            f"{network.inception} of {clips} clips cannot be had in {splits} splits; lower --inception-splits or raise "
            "--clips."
        )


def _protocol(
    subject: Subject, held_out: HeldOut, settings: EvaluationConfig, network: FeatureNetwork | None
) -> Protocol:
    clips = held_out.clips
    frames, height, width = ReadableClips(clips).evaluation_clip(0).video.shape[:3]
    check_size(height, width)
    predicted = frames - subject.conditioning_frames
    return Protocol(
        data=held_out.name,
        split=clips.split,
        clips=min(settings.clips, clips.evaluation_clips),
        best_of_clips=min(settings.best_of_clips, clips.evaluation_clips),
        resolution=height,
        stride=held_out.stride,
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
