"""Evaluation protocols of the paper and ours: which clips of which split, and how many."""

from dataclasses import dataclass, field
from typing import Any, Literal

from trivd.config import Config, ModelConfig, override
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

ProtocolName = Literal["kinetics600", "ucf101", "bair", "bair-balanced"]


@dataclass(frozen=True)
class NamedProtocol:
    """What differs from the model's own settings (section -> setting -> value), and what the model must fit."""

    about: str
    split: Split
    resolution: int
    conditioning_frames: int
    predicted_frames: int
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


PROTOCOLS: dict[ProtocolName, NamedProtocol] = {
    "kinetics600": NamedProtocol(
        "Kinetics-600 test set, 5 -> 11 frames without frame skipping (Table 3); 50,000 clips is our choice",
        "test",
        64,
        5,
        11,
        {"data": {"layout": "kinetics600", "stride": 1}, "evaluation": {"clips": 50_000, "features": "i3d"}},
    ),
    "ucf101": NamedProtocol(
        "UCF-101 test list 1, 5 -> 11 frames, as many clips as it has videos (C.2)",
        "test",
        64,
        5,
        11,
        {
            "data": {"layout": "ucf101", "stride": 1, "ucf101_fold": 1},
            "evaluation": {"clips": 3_783, "features": "i3d"},
        },
    ),
    "bair": NamedProtocol(
        "BAIR robot pushing, original split: the first 16 frames of the 256 test videos, 1 -> 15 (Table 4, O)",
        "test",
        64,
        1,
        15,
        {
            "data": {"layout": "bair", "stride": 1, "balanced_split": False},
            "evaluation": {"clips": 256, "features": "i3d"},
        },
    ),
    "bair-balanced": NamedProtocol(
        "BAIR robot pushing, the paper's balanced split: 30,000 clips of 16 frames, 1 -> 15, 10 runs (Table 4, B)",
        "test",
        64,
        1,
        15,
        {
            # 13,236 videos of 30 frames give two clips each that start 14 frames apart, too few: three do.
            "data": {"layout": "bair", "stride": 1, "balanced_split": True, "evaluation_step": 7},
            "evaluation": {"clips": 30_000, "features": "i3d", "runs": 10},
        },
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
    return override(config, protocol.changes, f"protocol {name}"), protocol.split
