"""A small classifier of moving-digits, to compare videos in its features where no I3D weights are at hand.

The Fréchet distance between its features is called "FVD (moving-digits)": it is not comparable with any other FVD.
"""

import hashlib
from importlib.resources import files
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from trivd.evaluation.networks.features import Features, check_clips
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import full_float32
from trivd.runtime.pixels import to_float

WEIGHTS = "digits_network.safetensors"  # written by benchmarks/scripts/train_digits_network.py
SIDE = 64  # pixels of the frames that the network sees
SMALLEST, LARGEST = 32, 256  # pixels of the frames that are resized to that
SHORTEST = 5  # frames
CLASSES = 10  # digits
HIDDEN = 64  # of the head that reads quantities
QUANTITIES = (  # velocities in pixels of a 64 pixel frame from one frame to the next
    "digits_x",  # mean velocity over the digits and the clip, so that a bounce counts against the way before
    "digits_y",
    "digits_speed",
    "pan_x",  # velocity of the view over the background
    "pan_y",
    "blur",  # standard deviation in pixels of a 64 pixel frame, mean over the frames
    "noise",  # standard deviation in twentieths of the range from black to white, mean over the frames
)
LAYERS = (  # output channels, kernel, stride: both (T, H, W)
    (16, (3, 5, 5), (1, 2, 2)),  # 32 pixels
    (32, (3, 3, 3), (1, 2, 2)),  # 16
    (64, (3, 3, 3), (2, 2, 2)),  # 8, and half the frames
    (96, (3, 3, 3), (1, 2, 2)),  # 4
    (128, (3, 3, 3), (1, 1, 1)),
)
WIDTH = LAYERS[-1][0]
TEXTURE_LAYER = 2  # the third: later ones no longer tell fine texture, and with it blur
# The embedding's blocks are divided by about the spread they have over real clips, the square root of their total
# variance. Without it, content would drown the others in the Fréchet distance.
CONTENT_SPREAD, MOTION_SPREAD, TEXTURE_SPREAD = 8.5, 2.7, 0.25


class Readings(NamedTuple):
    """Outputs of the classifier for a batch of clips."""

    embedding: Tensor  # (B, 138): content, motion and texture, see `DigitsClassifier.read`
    nearest: Tensor  # (B, 10) logits: which digit is nearest to the viewer
    visible: Tensor  # (B, 10) logits: whether each digit moves in the clip
    quantities: Tensor  # (B, 7), see QUANTITIES


class DigitsClassifier(nn.Module):
    """3D convolutions with ReLU, averaged over time and space, and three heads on that: content, motion, sharpness."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, *(width for width, _, _ in LAYERS))
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
            for before, (after, kernel, stride) in zip(channels, LAYERS, strict=False)
        )
        self.nearest = nn.Linear(WIDTH, CLASSES)
        self.visible = nn.Linear(WIDTH, CLASSES)
        self.quantities = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, len(QUANTITIES)),
        )

    def forward(self, video: Tensor) -> Readings:
        """Read clips (B, 3, T, 64, 64) in [-1, 1]."""
        return self.read(self.feature_maps(video))

    def feature_maps(self, video: Tensor) -> list[Tensor]:
        """Feature maps of every layer for clips (B, 3, T, 64, 64); the last is (B, 128, T / 2 rounded up, 4, 4)."""
        maps = []
        for number in range(len(LAYERS)):
            video = F.relu(self.convolve(number, video))
            maps.append(video)
        return maps

    def convolve(self, number: int, video: Tensor) -> Tensor:
        """One layer before its ReLU."""
        convolved: Tensor = self.convolutions[number](video)
        return convolved

    def read(self, maps: list[Tensor]) -> Readings:
        """Apply the heads to the feature maps.

        The embedding holds the logits of the visible digits (10), the features that velocities, blur and noise are
        read from (64), and the mean of an early layer (64).
        """
        pooled = maps[-1].mean(dim=(2, 3, 4))  # (B, 128)
        nearest = self.nearest(pooled)
        visible = self.visible(pooled)
        motion = self.quantities[:2](pooled)  # (B, 64)
        quantities = self.quantities[2](motion)
        texture = maps[TEXTURE_LAYER].mean(dim=(2, 3, 4))  # (B, 64)
        blocks = [visible / CONTENT_SPREAD, motion / MOTION_SPREAD, texture / TEXTURE_SPREAD]
        return Readings(torch.cat(blocks, dim=1), nearest, visible, quantities)


class DigitsNetwork:
    """The trained classifier as a `trivd.evaluation.networks.features.FeatureNetwork`, float32 on every device.

    Args:
        classifier: the trained network; it is put into evaluation mode.
        sha256: checksum of the file of weights, in hexadecimal digits.
    """

    distance = "FVD (moving-digits)"
    inception = "IS (moving-digits)"
    shortest = SHORTEST

    def __init__(self, classifier: DigitsClassifier, sha256: str) -> None:
        self.classifier = classifier.eval().requires_grad_(False)
        self.about = f"moving-digits classifier {sha256[:8]}"
        self.fingerprint = f"moving-digits {sha256}"

    @torch.no_grad()
    def read(self, video: Tensor) -> Readings:
        """All outputs for clips (B, T, H, W, C) of uint8, C = 1 or 3, on any device.

        Raises:
            TrivdError: the clips are not uint8, too short, not square, or not of 32 to 256 pixels.
        """
        device = self.classifier.nearest.weight.device
        # An algorithm chosen by timing may differ from one run to the next.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            full_float32(device),
        ):
            readings: Readings = self.classifier(network_input(video.to(device)))
        return readings

    def __call__(self, video: Tensor) -> Features:
        """Embedding (B, 138) and logits (B, 10) of the nearest digit; arguments and errors are those of `read`."""
        readings = self.read(video)
        return Features(readings.embedding, readings.nearest)


def network_input(video: Tensor) -> Tensor:
    """Clips (B, T, H, W, C) of uint8 as the classifier takes them: float32 (B, 3, T, 64, 64) in [-1, 1].

    Frames of another size are resized (bilinear, antialiased where they shrink); grey is repeated for all colours.

    Raises:
        TrivdError: the clips are not uint8, too short, not square, or not of 32 to 256 pixels.
    """
    check_clips(video, SHORTEST)
    height, width = video.shape[2:4]
    if height != width or not SMALLEST <= height <= LARGEST:
        raise TrivdError(
            f"Frames are {height} x {width} pixels, but the moving-digits network takes square ones of "
            f"{SMALLEST} to {LARGEST}."
        )
    frames = to_float(video)  # (B, T, C, H, W)
    if height != SIDE:
        flat = F.interpolate(frames.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        frames = flat.unflatten(0, video.shape[:2])
    return frames.transpose(1, 2).expand(-1, 3, -1, -1, -1)


def load_digits_network(device: torch.device) -> DigitsNetwork:
    """The network with the weights that come with the package, on `device`."""
    content = (files("trivd.evaluation.networks") / WEIGHTS).read_bytes()
    classifier = DigitsClassifier().float()  # whatever the caller's default type is
    classifier.load_state_dict(load(content))
    return DigitsNetwork(classifier.to(device), hashlib.sha256(content).hexdigest())
