"""The clips that the feature network of moving-digits is trained on, and the answers that it should give for them."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trivd.data.datasets.digits import DIGIT_CELLS, DIGIT_MARGIN, MovingDigits
from trivd.data.splits import Split
from trivd.evaluation.networks.digits import CLASSES, QUANTITIES, SIDE, network_input

# At least 5 frames: of 2 after the temporal stride, torch 2.13's bfloat16 convolution makes NaN gradients on the CPU.
FRAMES = (5, 8, 10, 12, 14, 16)  # of a batch; all else varies from clip to clip
RESOLUTIONS = (32, 64)
CHANNELS = (1, 3, 3, 3)
STRIDES = (1, 1, 1, 2)
DIGITS = (1, 2, 2, 3)
ENDLESS = 10**9  # clips; none is drawn twice
CELLS = 4  # across the feature map
FRAMES_PER_CELL = 2
EMPTY = CLASSES  # class of a cell that holds no digit's centre
DAMAGED = 0.3  # share of the training clips
BLUR, NOISE = 3.0, 3.0  # the strongest, in the units of QUANTITIES
NOISE_UNIT = 0.1  # a twentieth of the range [-1, 1]
Kind = tuple[int, int, int, int]  # stride, resolution, channels, digits


class Truth(NamedTuple):
    """The answers that the classifier should give for clips."""

    nearest: Tensor  # (B,) int64
    visible: Tensor  # (B, 10), 0 or 1
    quantities: Tensor  # (B, 7), see QUANTITIES
    cells: Tensor  # (B, T', 4, 4) int64: which digit has its centre there, or EMPTY
    cells_velocity: Tensor  # (B, 2, T', 4, 4): its velocity in pixels of a 64 pixel frame from one frame to the next


@functools.cache
def moving_digits(split: Split, frames: int, kind: Kind) -> MovingDigits:
    stride, resolution, channels, digits = kind
    return MovingDigits(
        split, frames=frames, stride=stride, resolution=resolution, channels=channels, digits=digits, clips=ENDLESS
    )


def truth_of(data: MovingDigits, index: int) -> Truth:
    """The answers for one clip, as a batch of one."""
    scene = data._scene(index)
    labels = scene.labels.astype(np.int64)
    corners = data._corners(scene)  # (D, T, 2) in frames
    steps = SIDE * np.diff(corners, axis=1)  # (D, T-1, 2) pixels
    pan = SIDE * scene.pan_velocity * (data.times[1] - data.times[0])
    visible = np.zeros(CLASSES, np.float32)
    visible[labels] = 1
    quantities = np.array([*steps.mean(axis=(0, 1)), np.linalg.norm(steps, axis=2).mean(), *pan, 0, 0], np.float32)

    moments = np.arange(0, len(data.times), FRAMES_PER_CELL)  # that the feature map has cells for
    cells = np.full((len(moments), CELLS, CELLS), EMPTY)
    cells_velocity = np.zeros((2, len(moments), CELLS, CELLS), np.float32)
    centres = corners + scene.sizes[:, None, None] * ((DIGIT_CELLS / 2 + DIGIT_MARGIN) / DIGIT_CELLS)
    places = (centres[:, moments] * CELLS).astype(np.int64)  # (D, T', 2)
    velocities = steps[:, np.minimum(moments, steps.shape[1] - 1)]  # (D, T', 2)
    times = np.arange(len(moments))
    for label, place, velocity in zip(labels, places, velocities, strict=True):  # nearer ones overwrite
        cells[times, place[:, 1], place[:, 0]] = label
        cells_velocity[:, times, place[:, 1], place[:, 0]] = velocity.T
    values = (labels[-1], visible, quantities, cells, cells_velocity)
    return Truth(*(torch.as_tensor(value)[None] for value in values))


def batch_of(clips: list[tuple[MovingDigits, int]]) -> tuple[Tensor, Truth]:
    """Clips of the same length as the network's input (B, 3, T, 64, 64), and what they show."""
    inputs = [network_input(torch.from_numpy(data.clip(index))[None]) for data, index in clips]
    truths = [truth_of(data, index) for data, index in clips]
    return torch.cat(inputs), Truth(*(torch.cat(values) for values in zip(*truths, strict=True)))


def damage(video: Tensor, truth: Truth, rng: np.random.Generator) -> None:
    """Blur some clips and add noise to some, from a random frame on as predictions are worse; in place."""
    frames = video.shape[2]
    for clip, quantities in zip(video, truth.quantities, strict=True):
        kind, strength, start = rng.uniform(), rng.uniform(), int(rng.integers(frames))
        worse = clip[:, start:]  # (3, T - start, 64, 64)
        share = 1 - start / frames
        if kind < DAMAGED / 2:
            worse.copy_(gaussian_blur(worse, BLUR * strength))
            quantities[QUANTITIES.index("blur")] = BLUR * strength * share
        elif kind < DAMAGED:
            worse += NOISE * NOISE_UNIT * strength * torch.from_numpy(rng.standard_normal(worse.shape, np.float32))
            worse.clamp_(-1, 1)
            quantities[QUANTITIES.index("noise")] = NOISE * strength * share


def gaussian_blur(frames: Tensor, sigma: float) -> Tensor:
    """Blur (..., 64, 64) with a standard deviation in pixels; what lies beyond the border does not count."""
    distance = torch.arange(SIDE)[:, None] - torch.arange(SIDE)
    weights = torch.softmax(-0.5 * (distance / max(sigma, 1e-3)).square(), dim=1)
    return weights @ frames @ weights.T


def random_clips(rng: np.random.Generator, first: int, count: int) -> list[tuple[MovingDigits, int]]:
    """Training clips number `first` and following, of one length, each of a random kind."""
    frames = int(rng.choice(FRAMES))
    kinds: list[Kind] = [
        (int(rng.choice(STRIDES)), int(rng.choice(RESOLUTIONS)), int(rng.choice(CHANNELS)), int(rng.choice(DIGITS)))
        for _ in range(count)
    ]
    return [(moving_digits("train", frames, kind), first + number) for number, kind in enumerate(kinds)]
