"""Evaluation protocols of the paper, and one like them: which clips of which split, and how many."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trivd.config import Config, DataConfig, EvaluationConfig, ModelConfig
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

ProtocolName = Literal[
    "kinetics600-validation", "kinetics600", "kinetics600-train", "ucf101", "bair", "bair-balanced", "robot-pushing"
]


@dataclass(frozen=True)
class NamedProtocol:
    """Settings of a protocol, which replace the model's own, and the models it is for."""

    about: str
    conditioning_frames: int
    predicted_frames: int
    data: DataConfig
    evaluation: EvaluationConfig
    split: Split = "test"
    resolution: int = 64


def _kinetics600(about: str, split: Split, runs: int = 1) -> NamedProtocol:
    return NamedProtocol(
        f"{about}; 50,000 clips is our choice",
        conditioning_frames=5,
        predicted_frames=11,
        data=DataConfig(fps=25.0, layout="kinetics600", stride=1),  # 25 frames a second: 4.1
        evaluation=EvaluationConfig(clips=50_000, features="i3d", runs=runs),
        split=split,
    )


PROTOCOLS: dict[ProtocolName, NamedProtocol] = {
    "kinetics600-validation": _kinetics600(
        "Kinetics-600 validation set, 5 -> 11 frames (Tables 1 and 2; copies of the last frame have FVD 330, D.3)",
        "validation",
    ),
    "kinetics600": _kinetics600(
        "Kinetics-600 test set, 5 -> 11 frames without frame skipping, 10 runs (Table 3)", "test", runs=10
    ),
    "kinetics600-train": _kinetics600("Kinetics-600 training set, 5 -> 11 frames (F.1: the ConvLSTMs)", "train"),
    "ucf101": NamedProtocol(
        "UCF-101 test list 1, 5 -> 11 frames, as many clips as it has videos, 10 runs (C.2)",
        conditioning_frames=5,
        predicted_frames=11,
        data=DataConfig(layout="ucf101", stride=1, ucf101_fold=1),
        evaluation=EvaluationConfig(clips=3_783, features="i3d", runs=10),
    ),
    "bair": NamedProtocol(
        "BAIR robot pushing, original split, first 16 frames of the 256 test videos, 1 -> 15 (Table 4, O; Figure 5)",
        conditioning_frames=1,
        predicted_frames=15,
        data=DataConfig(layout="bair", stride=1),
        evaluation=EvaluationConfig(clips=256, features="i3d"),
    ),
    "bair-balanced": NamedProtocol(
        "BAIR robot pushing, the paper's balanced split: 30,000 clips of 16 frames, 1 -> 15, 10 runs (Table 4, B)",
        conditioning_frames=1,
        predicted_frames=15,
        # 13,236 videos of 30 frames give two clips each that start 14 frames apart, too few; 7 apart, they give three.
        data=DataConfig(layout="bair", stride=1, balanced_split=True, evaluation_step=7),
        evaluation=EvaluationConfig(clips=30_000, features="i3d", runs=10),
    ),
    "robot-pushing": NamedProtocol(
        "simulated, not BAIR's; first 16 frames of the test videos, 1 -> 15 (like Table 4, O, and Figure 5)",
        conditioning_frames=1,
        predicted_frames=15,
        data=DataConfig(stride=1),
        evaluation=EvaluationConfig(clips=256, features="i3d"),
    ),
}


def model_of(name: ProtocolName | None) -> ModelConfig:
    """A model of the clips that a protocol is about; of the paper's 5 -> 11 frames at 64 pixels for None."""
    if name is None:
        return ModelConfig()
    protocol = PROTOCOLS[name]
    return ModelConfig(
        conditioning_frames=protocol.conditioning_frames,
        predicted_frames=protocol.predicted_frames,
        resolution=protocol.resolution,
    )


def with_protocol(config: Config, name: ProtocolName, model: ModelConfig) -> tuple[Config, Split]:
    """A model's settings as a protocol wants them, and the split that counts.

    Only what no figure depends on remains of the model's settings: limits of videos, batch size, file of I3D's weights.

    Raises:
        TrivdError: the model predicts other clips than the protocol is about.
    """
    protocol = PROTOCOLS[name]
    wanted = (protocol.conditioning_frames, protocol.predicted_frames, protocol.resolution)
    if (model.conditioning_frames, model.predicted_frames, model.resolution) != wanted:
        raise TrivdError(
            f"--protocol {name} is about {wanted[0]} -> {wanted[1]} frames at {wanted[2]} pixels, but the model "
            f"predicts {model.conditioning_frames} -> {model.predicted_frames} at {model.resolution}; evaluate it "
            "without --protocol, or another model."
        )
    own = config.evaluation
    data = replace(protocol.data, limits=config.data.limits)
    evaluation = replace(protocol.evaluation, batch_size=own.batch_size, i3d_weights=own.i3d_weights)
    return replace(config, data=data, evaluation=evaluation), protocol.split


def scored_name(data: str, settings: DataConfig, protocol: ProtocolName | None) -> str:
    """The data set's name in a report: its own, its balanced split, and the protocol by which it is scored.

    Args:
        data: path or name of the data set.
        settings: how its clips are cut.
        protocol: None for the model's own settings.
    """
    balanced = " (balanced)" if settings.balanced_split else ""
    return f"{Path(data).name}{balanced}" + (f" by protocol {protocol}" if protocol else "")
