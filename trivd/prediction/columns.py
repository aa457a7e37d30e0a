"""The columns of a comparison: models with the truncation of their z, as the command line names them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trivd.config import VideoLimits
from trivd.data.clips import Clip, ClipDataset, open_clips
from trivd.data.splits import Split
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels
from trivd.runtime.words import counted

NONE = "none"  # no truncation


@dataclass(frozen=True)
class Column:
    """A model that draws one future of each clip."""

    name: str  # of the model, as it was given
    predictor: Predictor
    truncation: float | None

    @property
    def truncation_text(self) -> str:
        """The truncation in words."""
        if self.truncation is None:
            return "no truncation"
        return f"truncation {self.truncation:g}" if self.truncation else "z = 0"

    def sampling(self, seed: int, label: int = 0) -> Sampling:
        """The one future to draw."""
        return Sampling(1, self.truncation, seed, label=label)

    def video(self, clip: Clip, seed: int) -> Pixels:
        """The given frames of a clip and the model's future, (C + T, H, W, channels)."""
        past = clip.video[: self.predictor.config.conditioning_frames]
        sampling = self.sampling(seed, clip.label if self.predictor.config.classes else 0)
        return np.concatenate([past, self.predictor.draw(past, sampling).video[0]])


def split_name(word: str) -> tuple[str, float | None]:
    """A model's name and truncation from MODEL or MODEL:TRUNCATION, a number or "none".

    A path that exists is a name as a whole, and so is a word whose end is no truncation: names may hold colons.
    """
    name, colon, end = word.rpartition(":")
    if not colon or not name or os.path.lexists(word):
        return word, None
    if end.strip().lower() == NONE:
        return name, None
    try:
        return name, float(end)
    except ValueError:
        return word, None


def open_columns(words: Sequence[str], seed: int) -> list[Column]:
    """Load the models that are compared, each once.

    Raises:
        TrivdError: one cannot be loaded or is named twice, a truncation or the seed is out of range, or they predict
            other clips than the first.
    """
    predictors: dict[str, Predictor] = {}
    columns: list[Column] = []
    for name, truncation in map(split_name, words):
        if name not in predictors:
            predictors[name] = Predictor.from_pretrained(name)
        column = Column(name, predictors[name], truncation)
        column.sampling(seed).resolved(column.predictor.config)
        if column in columns:
            raise TrivdError(f"{name} with {column.truncation_text} is named twice; leave one out.")
        columns.append(column)
    first, *others = columns
    for other in others:
        if clips_in_words(other) != clips_in_words(first):
            raise TrivdError(
                f"{first.name} and {other.name} cannot stand side by side: the one predicts {clips_in_words(first)}, "
                f"the other {clips_in_words(other)}; compare models of the same clips."
            )
    return columns


def held_out_clips(columns: Sequence[Column], data: str, split: Split | None, limits: VideoLimits) -> ClipDataset:
    """The clips that the columns have in common, cut as the first model was trained.

    Args:
        columns: the models.
        data: path or name of the data set.
        split: whose clips; None: those that are held out, whichever split they make.
        limits: of its videos.

    Raises:
        TrivdError: there is no such data or split, it has no clip of this length, or not the classes of a model.
    """
    config = columns[0].predictor.trained_with
    settings = replace(config.data, layout="auto", limits=limits)  # of other data than it was trained on, perhaps
    model = replace(config.model, classes=0)  # each model's are checked below
    clips = open_clips(data, split or "validation", settings, model, exact=split is not None)
    for column in columns:
        classes = column.predictor.config.classes
        if classes not in (0, len(clips.classes)):
            raise TrivdError(
                f"{column.name} has {classes} classes but {data} has {len(clips.classes)}; use other clips."
            )
    return clips


def clips_in_words(column: Column) -> str:
    """The clips that a model predicts: frames, distance, rate, size and channels."""
    model = column.predictor.config
    data = column.predictor.trained_with.data
    rate = "" if data.fps is None else f" at {data.fps:g} frames a second"
    return (
        f"{model.conditioning_frames} -> {model.predicted_frames} frames, {data.stride} apart{rate}, of "
        f"{model.resolution} pixels in {counted(model.image_channels, 'channel')}"
    )


def labels(columns: Sequence[Column]) -> list[str]:
    """A label of each column in two lines: the model's name, short where that tells models apart, and truncation."""
    names = list(dict.fromkeys(column.name for column in columns))
    short = {name: _short(name) for name in names}
    if len(set(short.values())) < len(names):
        short = {name: name for name in names}
    return [f"{short[column.name]}\n{column.truncation_text}" for column in columns]


def _short(name: str) -> str:
    """The last part of a model's name, with the run before "best" and "last"."""
    path = Path(os.path.abspath(name)) if Path(name).exists() else Path(name)
    return f"{path.parent.name}/{path.name}" if path.name in ("best", "last") else path.name
