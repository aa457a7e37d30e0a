"""Protocols of other repositories, which compare two sets of clips whose members are no pairs."""

from dataclasses import dataclass
from typing import Literal

from trivd.config import I3DInput

SetProtocolName = Literal["stylegan-v", "videogpt", "tats"]
Choice = Literal["one", "windows"]  # a random window of each of the first videos; any windows of any videos


@dataclass(frozen=True)
class SetProtocol:
    """Settings of a protocol for sets."""

    about: str
    clips: int  # of each set
    true_clips: Choice
    i3d_input: I3DInput
    ddof: Literal[0, 1]  # covariances are over N - ddof
    frames: int = 16
    stride: int = 1  # between the frames of a clip


FLOAT32 = "its statistics are in float32, whose square root drops what is below 1e-10; ours are exact"

SET_PROTOCOLS: dict[SetProtocolName, SetProtocol] = {
    "stylegan-v": SetProtocol(
        "StyleGAN-V's fvd2048_16f: a random window of 16 frames of each of the first 2,048 true videos by name, "
        "shorter videos left out; the beginnings of 2,048 generated ones. Unlike ours: no pairs and no given frames, "
        "torch's bilinear resize to 224 before scaling to -1 to 1, covariances over N instead of N - 1. Its starts are "
        "drawn anew each time, ours from the seed; its resize is inside its I3D file, not at hand: TATS' is taken",
        clips=2_048,
        true_clips="one",
        i3d_input="torch",
        ddof=0,
    ),
    "videogpt": SetProtocol(
        "VideoGPT's compute_fvd.py: 256 random windows of 16 frames of all true videos, 256 generated clips (on BAIR "
        "continuations of one frame, which counts; mean of several trials there, one here: --seed). Unlike ours: no "
        "pairs, torch's bilinear resize of the shorter side to 224, its middle, and values from -0.5 to 0.5, half of "
        f"what I3D was trained on; {FLOAT32}",
        clips=256,
        true_clips="windows",
        i3d_input="videogpt",
        ddof=1,
    ),
    "tats": SetProtocol(
        "TATS' FVD: 2,048 random windows of 16 frames of all true training videos, 2,048 generated clips (its BAIR "
        "predictions of one frame alike). Unlike ours: no pairs and no given frames, torch's bilinear resize to 224 "
        f"before scaling to -1 to 1; {FLOAT32}. Its frames are resized to the model's size before: --resolution",
        clips=2_048,
        true_clips="windows",
        i3d_input="torch",
        ddof=1,
    ),
}
