"""Evaluation protocols of the paper: which clips of which split, and how many."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from trivd.config import Config, DataConfig, EvaluationConfig, ModelConfig
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

ProtocolName = Literal["kinetics600", "ucf101", "bair", "bair-balanced"]


@dataclass(frozen=True)
class NamedProtocol:
    """Settings of a protocol, which replace the model's own, and the models it is for."""

    about: str
    conditioning_frames: int
    predicted_frames: int
    data: Callable[[DataConfig], DataConfig]
    evaluation: Callable[[EvaluationConfig], EvaluationConfig]
    split: Split = "test"
    resolution: int = 64


PROTOCOLS: dict[ProtocolName, NamedProtocol] = {
    "kinetics600": NamedProtocol(
        "Kinetics-600 test set, 5 -> 11 frames without frame skipping (Table 3); 50,000 clips is our choice",
        conditioning_frames=5,
        predicted_frames=11,
        data=lambda data: replace(data, layout="kinetics600", stride=1),
        evaluation=lambda evaluation: replace(evaluation, clips=50_000, features="i3d"),
    ),
    "ucf101": NamedProtocol(
        "UCF-101 test list 1, 5 -> 11 frames, as many clips as it has videos (C.2)",
        conditioning_frames=5,
        predicted_frames=11,
        data=lambda data: replace(data, layout="ucf101", stride=1, ucf101_fold=1),
        evaluation=lambda evaluation: replace(evaluation, clips=3_783, features="i3d"),
    ),
    "bair": NamedProtocol(
        "BAIR robot pushing, original split: the first 16 frames of the 256 test videos, 1 -> 15 (Table 4, O)",
        conditioning_frames=1,
        predicted_frames=15,
        data=lambda data: replace(data, layout="bair", stride=1, balanced_split=False),
        evaluation=lambda evaluation: replace(evaluation, clips=256, features="i3d"),
    ),
    "bair-balanced": NamedProtocol(
        "BAIR robot pushing, the paper's balanced split: 30,000 clips of 16 frames, 1 -> 15, 10 runs (Table 4, B)",
        conditioning_frames=1,
        predicted_frames=15,
        # 13,236 videos of 30 frames give two clips each that start 14 frames apart, too few; 7 apart, they give three.
        data=lambda data: replace(data, layout="bair", stride=1, balanced_split=True, evaluation_step=7),
        evaluation=lambda evaluation: replace(evaluation, clips=30_000, features="i3d", runs=10),
    ),
}


def with_protocol(config: Config, name: ProtocolName, model: ModelConfig) -> tuple[Config, Split]:
    """A model's settings as a protocol wants them, and the split that counts.

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
    changed = replace(config, data=protocol.data(config.data), evaluation=protocol.evaluation(config.evaluation))
    return changed, protocol.split
