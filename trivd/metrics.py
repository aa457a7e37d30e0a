"""The scores of `trivd evaluate` as torchmetrics metrics, and the networks that some of them look through."""

from trivd.evaluation.metrics.fvd import FrechetVideoDistance
from trivd.evaluation.metrics.modules import (
    EndPointError,
    FramePSNR,
    FrameSSIM,
    MotionMagnitude,
    SampleDiversity,
    Sharpness,
    VideoInceptionScore,
)
from trivd.evaluation.networks.digits import load_digits_network
from trivd.evaluation.networks.weights.library import load_i3d

__all__ = [
    "EndPointError",
    "FramePSNR",
    "FrameSSIM",
    "FrechetVideoDistance",
    "MotionMagnitude",
    "SampleDiversity",
    "Sharpness",
    "VideoInceptionScore",
    "load_digits_network",
    "load_i3d",
]
