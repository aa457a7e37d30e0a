"""Every setting of the system and its default: the only home of defaults.

The defaults are the paper's (ch 48, Table 1 and appendix E.2); `trivd.presets` holds what each experiment changes.
"""

from trivd.config.data import DEFAULT_LIMITS, DataConfig, Layout, VideoLimits
from trivd.config.evaluation import EvaluationConfig, I3DInput
from trivd.config.levels import MotionLevels, chosen_levels, level_names
from trivd.config.model import (
    FIRST_RESOLUTION,
    Decomposition,
    DiscriminatorConfig,
    ModelConfig,
    Unit,
    WarpPadding,
)
from trivd.config.run import Changes, Config, changes_from_defaults, from_dict, override, to_dict
from trivd.config.training import Augmentation, CudaGraph, TrainingConfig

__all__ = [
    "DEFAULT_LIMITS",
    "FIRST_RESOLUTION",
    "Augmentation",
    "Changes",
    "Config",
    "CudaGraph",
    "DataConfig",
    "Decomposition",
    "DiscriminatorConfig",
    "EvaluationConfig",
    "I3DInput",
    "Layout",
    "ModelConfig",
    "MotionLevels",
    "TrainingConfig",
    "Unit",
    "VideoLimits",
    "WarpPadding",
    "changes_from_defaults",
    "chosen_levels",
    "from_dict",
    "level_names",
    "override",
    "to_dict",
]
