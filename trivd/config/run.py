"""All settings of a run, and configurations as plain values."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dacite

from trivd.config.checks import require
from trivd.config.data import DataConfig
from trivd.config.evaluation import EvaluationConfig
from trivd.config.levels import chosen_levels
from trivd.config.model import SMALLEST_DISCRIMINATOR_INPUT, VIDEO_ONLY, DiscriminatorConfig, ModelConfig
from trivd.config.training import TrainingConfig
from trivd.runtime.errors import TrivdError


@dataclass(frozen=True)
class Config:
    """All settings of a run; saved with it as config.json."""

    model: ModelConfig = field(default_factory=ModelConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        fewest, setting = self.model.predicted_frames, "model.predicted_frames"
        if self.training.curriculum > 0:
            require(
                self.training.curriculum_start <= fewest,
                f"training.curriculum_start is {self.training.curriculum_start}, but only {fewest} frames are "
                "predicted; lower it.",
            )
            fewest, setting = self.training.curriculum_start, "training.curriculum_start"
        require(
            self.discriminator.frames <= fewest or self.discriminator.decomposition in (*VIDEO_ONLY, "mocogan_k1"),
            f"discriminator.frames is {self.discriminator.frames}, but only {fewest} frames are predicted; lower it or "
            f"raise {setting}.",
        )
        smallest = self.model.resolution // self.discriminator.downsampling
        require(
            smallest >= SMALLEST_DISCRIMINATOR_INPUT,
            f"discriminator.downsampling {self.discriminator.downsampling} leaves discriminators {smallest} of "
            f"{self.model.resolution} pixels; they need {SMALLEST_DISCRIMINATOR_INPUT}, so lower it.",
        )
        chosen_levels(self.evaluation.motion_levels, self.model.recurrent_resolutions)

    def frames_at(self, position: float) -> int:
        """Frames of training clips, the given ones included, at a position of the curriculum.

        Every number of frames but the last is trained on for as many steps.

        Args:
            position: see `TrainingConfig.position`.
        """
        end = self.training.curriculum * self.training.steps
        if position >= end:
            return self.model.frames
        first = self.training.curriculum_start
        predicted = first + int(position / end * (self.model.predicted_frames - first))
        return self.model.conditioning_frames + predicted


def changes_from_defaults(config: Config) -> dict[str, dict[str, Any]]:
    """Settings that differ from the defaults, by section; new settings of later versions leave it unchanged."""
    values, defaults = to_dict(config), to_dict(Config())
    changed = {
        section: {name: value for name, value in settings.items() if value != defaults[section][name]}
        for section, settings in values.items()
    }
    return {section: settings for section, settings in changed.items() if settings}


T = TypeVar("T")
Changes = Mapping[str, Mapping[str, Any]]  # section -> setting -> value


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values (tuples become lists)."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def from_dict(cls: type[T], values: dict[str, Any], source: str = "the configuration") -> T:
    """Rebuild a configuration; missing keys take their defaults.

    Raises:
        TrivdError: a key is unknown, a value has the wrong type, or settings contradict each other; `source` is named.
    """
    try:
        return dacite.from_dict(cls, values, config=dacite.Config(strict=True, cast=[tuple]))
    except (dacite.DaciteError, AttributeError, TypeError, ValueError) as error:  # the others: no settings at all
        raise TrivdError(f"{source} does not fit this version of trivd: {error}.") from error
    except TrivdError as error:
        raise TrivdError(f"{source}: {error}") from error


def override(config: T, changes: Changes, source: str) -> T:
    """`config` with the settings of `changes` (section -> setting -> value) in place of its own."""
    values = to_dict(config)
    for section, settings in changes.items():
        values.setdefault(section, {}).update(settings)
    return from_dict(type(config), values, source)
