"""Subjects of an evaluation: a trained model, or any other forecaster, and how the protocol describes it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trivd.config import EvaluationConfig, TrainingConfig, from_dict
from trivd.data.clips import ClipDataset
from trivd.evaluation.outcome import COPIES
from trivd.evaluation.scorer import BEST_OF, Clips, Forecaster, ModelForecaster
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.models.generator import Generator
from trivd.models.pretrained import weights_hash
from trivd.runtime.graphs import recorder
from trivd.runtime.hardware import dtype_name

Progress = Callable[[str, int, int], None]  # name of the part, clips done of it, clips it has


@dataclass(frozen=True)
class Subject:
    """A forecaster whose futures are scored, and its part of the protocol."""

    forecaster: Forecaster
    about: str  # for the protocol
    conditioning_frames: int
    standing_statistics: str = ""  # for the protocol
    notes: Sequence[str] = ()  # sentences to add to the figures; complete once these are there
    best_of: Sequence[int] = BEST_OF  # the counts l for which best-of-l is reported, where there are so many samples
    intervals: bool = False  # whether figures, of one run, get intervals over clips
    check: Callable[[Progress], None] = lambda progress: None  # raises early what would end the evaluation later


@dataclass(frozen=True)
class TrainedModel:
    """A trained generator with averaged weights."""

    generator: Generator  # on its device; an evaluation replaces its standing statistics
    history: dict[str, Any]  # from its config.json
    dtype: torch.dtype  # of convolutions


class Copies:
    """Copies of the last given frame: the baseline that every forecaster should beat (D.3)."""

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""

    def futures(self, clips: Clips, samples: int, run: int) -> Iterator[Tensor]:
        """See `Forecaster.futures`."""
        for _ in range(samples):
            yield clips.last_frame_repeated()


class _RefreshedModel(ModelForecaster):
    """A generator whose standing statistics are collected anew for each run (E.2)."""

    def __init__(self, model: TrainedModel, train: ClipDataset, settings: EvaluationConfig) -> None:
        record = recorder(next(model.generator.parameters()).device)
        super().__init__(model.generator, model.dtype, settings.seed, settings.truncation, record)
        self._train = train
        self._settings = settings
        self._run = -1
        self.notes: list[str] = []  # of training clips that could not be read
        self._loaded = {name: buffer.clone() for name, buffer in model.generator.named_buffers()}

    def prepare(self, run: int) -> None:
        """See `Forecaster.prepare`."""
        if run != self._run:
            self.generator.load_state_dict(self._loaded, strict=False)  # whichever runs came before
            settings = replace(self._settings, seed=self._settings.seed + run)
            unreadable = refresh_standing_statistics(self.generator, self._train, settings, self.dtype)
            self.notes += [f"Another training clip is taken for the standing statistics: {line}" for line in unreadable]
            self._run = run
            super().prepare(run)


def copy_subject(conditioning_frames: int) -> Subject:
    """Copies of the last given frame as the subject."""
    return Subject(Copies(), COPIES, conditioning_frames)


def model_subject(
    model: TrainedModel, train: ClipDataset, settings: EvaluationConfig, train_name: str | None = None
) -> Subject:
    """A trained model as the subject.

    Args:
        model: its standing statistics are replaced.
        train: clips for the standing statistics.
        settings: seed, truncation, and sizes of the standing statistics.
        train_name: of the data set of `train`; None if it is the evaluated one.
    """
    standing = f"standing statistics {settings.standing_batches} x {settings.standing_batch_size}"
    if settings.truncation is not None:
        standing += f" at truncation {settings.truncation:g}"
    if train_name is not None:
        standing += f" of training clips of {train_name}"
    losses = from_dict(TrainingConfig, model.history["config"]["training"], "the model's history").losses
    weights = f"weights {weights_hash(model.generator)[:12]} after {model.history['step']} steps"
    forecaster = _RefreshedModel(model, train, settings)
    return Subject(
        forecaster,
        f"{weights}, trained by {losses}, {dtype_name(model.dtype)}",
        model.generator.config.conditioning_frames,
        standing,
        forecaster.notes,
    )
