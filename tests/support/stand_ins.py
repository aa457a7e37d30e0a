"""Stand-ins of tests for a feature network, the protocol of an evaluation, and CUDA graphs."""

import torch
from torch import Tensor

from trivd.evaluation.networks.features import Features
from trivd.evaluation.outcome import Protocol
from trivd.runtime.graphs import Replay

PROTOCOL = Protocol(
    data="moving-digits",
    split="validation",
    clips=2,
    best_of_clips=2,
    resolution=32,
    stride=1,
    conditioning_frames=2,
    predicted_frames=3,
    compared_frames=5,
    samples=10,
    runs=2,
    truncation=0.8,
    seed=0,
    standing_statistics="standing statistics 2 x 2",
    features="means",
    inception_splits=1,
    subject="somebody",
)


class Means:
    """Features that can be computed by hand: the mean of each frame; logits are the mean of each colour."""

    distance, inception, about, shortest, fingerprint = "FVD (means)", "IS (means)", "means", 1, ""

    def __call__(self, video: Tensor) -> Features:
        assert video.dtype == torch.uint8
        return Features(video.float().mean(dim=(2, 3, 4)), video.float().mean(dim=(1, 2, 3)))


def call_directly(function: Replay) -> Replay:
    """A recorder that records nothing: with it a CPU takes a GPU's way through a step or a prediction."""
    return function


def record_as_a_gpu(function: Replay) -> Replay:
    """A recorder whose replays write to the same tensors each time, as those of a CUDA graph do."""
    outputs = function()

    def replay() -> tuple[Tensor, ...]:
        for output, value in zip(outputs, function(), strict=True):
            output.copy_(value)
        return outputs

    return replay
