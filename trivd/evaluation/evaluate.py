"""An evaluation that can be repeated and gone on with: all scores of somebody's futures on held-out clips."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trivd.config import Config, EvaluationConfig, TrainingConfig, from_dict
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
from trivd.evaluation.scorer import Columns, Forecaster, ModelForecaster, Part, Scorer, batches, collect
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.models.generator import Generator
from trivd.models.pretrained import weights_hash
from trivd.runtime.distributed import all_gather, any_process, barrier, rank, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import dtype_name

FEWEST_CLIPS = 4  # whose halves have covariances

Progress = Callable[[str, int, int], None]  # what is being done, clips done of it, clips it has


@dataclass(frozen=True)
class Subject:
    """Whose futures are scored."""

    forecaster: Forecaster
    about: str  # for the protocol
    conditioning_frames: int
    standing_statistics: str = ""  # for the protocol
    notes: Sequence[str] = ()  # what else is said with the figures, when they are there
    check: Callable[[Progress], None] = lambda progress: None  # raises what would end the evaluation later


class _RefreshedModel(ModelForecaster):
    """A generator whose standing statistics are redone for each run (E.2)."""

    def __init__(
        self, generator: Generator, train: ClipDataset, settings: EvaluationConfig, dtype: torch.dtype
    ) -> None:
        super().__init__(generator, dtype, settings.seed, settings.truncation)
        self._train = train
        self._settings = settings
        self._run = -1
        self.notes: list[str] = []  # of training clips that could not be read
        self._loaded = {name: buffer.clone() for name, buffer in generator.named_buffers()}

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""
        if run != self._run:
            self.generator.load_state_dict(self._loaded, strict=False)  # whichever runs came before
            settings = replace(self._settings, seed=self._settings.seed + run)
            unreadable = refresh_standing_statistics(self.generator, self._train, settings, self.dtype)
            self.notes += [f"Another training clip is taken for the standing statistics: {line}" for line in unreadable]
            self._run = run


def model_subject(
    generator: Generator, history: dict[str, Any], train: ClipDataset, settings: EvaluationConfig, dtype: torch.dtype
) -> Subject:
    """A trained generator as the subject.

    Args:
        generator: with averaged weights; its standing statistics are replaced.
        history: of the model, from its config.json.
        train: for the standing statistics.
        settings: seed, truncation, and sizes of the standing statistics.
        dtype: of convolutions.
    """
    losses = from_dict(TrainingConfig, history["config"]["training"], "the model's history").losses
    weights = f"weights {weights_hash(generator)[:12]} after {history['step']} steps"
    model = _RefreshedModel(generator, train, settings, dtype)
    return Subject(
        model,
        f"{weights}, trained by {losses}, {dtype_name(dtype)}",
        generator.config.conditioning_frames,
        f"standing statistics {settings.standing_batches} x {settings.standing_batch_size}",
        model.notes,
    )


def evaluate_model(
    generator: Generator,
    history: dict[str, Any],
    dtype: torch.dtype,
    data: str,
    name: str,
    config: Config,
    split: Split,
    settings: EvaluationConfig,
    device: torch.device,
    report: Path,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Score a trained generator on a data set.

    Args:
        generator: on `device`, with averaged weights; its standing statistics are replaced.
        history: of the model, from its config.json.
        dtype: of convolutions.
        data: path or name of the data set.
        name: of it, for the protocol.
        config: how clips are cut.
        split: whose clips count.
        settings: how many of what.
        device: of all computation.
        report: JSON file to write.
        progress: see `evaluate`.

    Raises:
        TrivdError: see `evaluate`.
    """
    train, held_out = (open_clips(data, part, config.data, config.model) for part in ("train", split))
    network = choose_network(settings, held_out, device)
    subject = model_subject(generator, history, train, settings, dtype)
    return evaluate(subject, name, config.data.stride, held_out, settings, network, device, report, progress)


def evaluate(
    subject: Subject,
    data: str,
    stride: int,
    held_out: ClipDataset,
    settings: EvaluationConfig,
    network: FeatureNetwork | None,
    device: torch.device,
    report: Path,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Score a subject and write the report; called again after a stop, it goes on (4.1, C.1, E.2).

    Clips that cannot be read are left out; the report names and counts them.

    Processes that torchrun started share the batches; they must see the same folder. The first one writes the report.

    Args:
        subject: whose futures.
        data: name of the data set, for the protocol.
        stride: of its clips, for the protocol.
        held_out: the clips that count.
        settings: how many of what.
        network: of the Fréchet distance and the inception score; None leaves them out.
        device: of all computation.
        report: JSON file to write; finished batches are kept beside it until then.
        progress: called before the first and after each batch.

    Raises:
        TrivdError: no clip can be read, they are too few, too short or too small, or the report cannot be written, or
            would take the place of something else.
    """
    check_report(report)
    protocol = _protocol(subject, data, stride, held_out, settings, network)
    if network is not None:
        _check_count(network, protocol.clips, settings.inception_splits)
    subject.check(progress)
    readable = LeavingOut(held_out)
    partial = PartialResults(report, asdict(protocol) | {"batch": settings.batch_size, "data": held_out.summary})

    def collected(what: str, part: Part, clips: int, prepare: Callable[[], None] = lambda: None) -> Columns:
        """Each process computes batches of its own, and all read those of all."""
        name, numbers = what.replace(" ", "-"), evaluation_numbers(held_out, clips)
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
    ones, several_each = (evaluation_numbers(held_out, clips) for clips in (settings.clips, settings.best_of_clips))
    reference, *singles = in_common([reference, *singles], held_out, ones)
    bests = in_common(bests, held_out, several_each)
    scored, scored_often = (set(columns[NUMBER].tolist()) for columns in (reference, bests[0]))
    missing = sorted((set(ones) - scored) | (set(several_each) - scored_often))
    protocol = replace(protocol, clips=len(scored), best_of_clips=len(scored_often), unreadable=len(missing))
    if network is not None:
        _check_count(network, protocol.clips, settings.inception_splits)
    notes = [*left_out(held_out, missing), *itertools.chain.from_iterable(all_gather(list(subject.notes)))]
    figures = distribution_figures(reference, singles, network, settings.inception_splits)
    motion = None
    if isinstance(subject.forecaster, ModelForecaster) and isinstance(held_out, DigitClips):
        subject.forecaster.prepare(settings.runs - 1)  # all batches of that run may have been there
        motion = motion_score(subject.forecaster.generator, held_out, settings, subject.forecaster.dtype)
    evaluation = Evaluation(
        protocol,
        figures + frame_figures(bests, settings.samples),
        curves(reference, singles, bests, settings.samples),
        motion,
        [*sample_size_warnings(figures, network, protocol.clips), *dict.fromkeys(notes)],
    )
    barrier()  # all have read what is kept
    if rank() == 0:
        evaluation.save(report)
        partial.remove()
    return evaluation


def _check_count(network: FeatureNetwork, clips: int, splits: int) -> None:
    """Raise TrivdError if there are too few clips for the figures of a network."""
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
    subject: Subject,
    data: str,
    stride: int,
    held_out: ClipDataset,
    settings: EvaluationConfig,
    network: FeatureNetwork | None,
) -> Protocol:
    frames, height, width = ReadableClips(held_out).evaluation_clip(0).video.shape[:3]
    check_size(height, width)
    predicted = frames - subject.conditioning_frames
    return Protocol(
        data=data,
        split=held_out.split,
        clips=min(settings.clips, held_out.evaluation_clips),
        best_of_clips=min(settings.best_of_clips, held_out.evaluation_clips),
        resolution=height,
        stride=stride,
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
