"""Any data source as a map-style dataset of PyTorch, for a training or evaluation loop of one's own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trivd.config import DataConfig
from trivd.config.checks import chosen_from, require
from trivd.data.clips import ClipDataset, ClipShape, open_clips
from trivd.data.splits import SPLITS, Split
from trivd.runtime.pixels import to_float

LARGEST_SEED = 2**63 - 1


class VideoDataset(Dataset[tuple[Tensor, int]]):
    """The clips of one split with their classes; made by `trivd.clips`.

    Item i is a pair: the video, float32 (T, C, H, W) from -1 (black) to 1 (white), and its class, 0 where the data have
    none. Items of "train" have random starts and crops, those of held-out splits a fixed start and a centre crop. It
    can be pickled, and reads files on its own in every worker of a DataLoader.

    Args:
        data: clips of the split.
        seed: of starts and crops, which are then the same at each access; None: others each time, drawn from torch's
            random numbers, which a DataLoader seeds in its workers.

    Raises:
        TrivdError: while reading an item whose video cannot be read.
    """

    def __init__(self, data: ClipDataset, seed: int | None) -> None:
        self.data = data
        self.seed = seed
        self.classes = data.classes  # names; empty when the data have none
        self.summary = data.summary  # what was found, one line each
        self.split: Split = data.split  # whose clips these are
        self._is_random = self.split == "train"

    def __len__(self) -> int:
        return len(self.data) if self._is_random else self.data.evaluation_clips

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        if self._is_random:
            seed = int(torch.randint(LARGEST_SEED, ())) if self.seed is None else self.seed
            clip = self.data.training_clip(index, np.random.default_rng((seed, index)))
        else:
            clip = self.data.evaluation_clip(index)
        return to_float(clip.video), clip.label


def clips(
    data: str | Path,
    *,
    split: Split = "train",
    frames: int = 16,
    resolution: int = 64,
    channels: int = 3,
    stride: int = DataConfig.stride,
    fps: float | None = DataConfig.fps,
    seed: int | None = None,
) -> VideoDataset:
    """A map-style dataset of a folder of videos, a store of `trivd prepare`, a video, or "moving-digits".

    Args:
        data: path, or name of the embedded data set.
        split: "train", "validation" or "test"; where there is one held-out split alone, it is taken for the other.
        frames: T of a clip.
        resolution: H = W, pixels; the shorter side of each frame is resized to it, and a square is cut out.
        channels: C, 3 (RGB) or 1 (grey).
        stride: distance between the frames of a clip, in frames of the video (at `fps`, if set).
        fps: rate at which videos are read, each frame the nearest in time; None: their own frames.
        seed: see `VideoDataset`.

    Raises:
        TrivdError: a value is out of range, or there is no such data or split, or no clip of this length.
    """
    chosen_from(SPLITS, "split", split)
    chosen_from((1, 3), "channels", channels)
    require(frames >= 1, f"frames is {frames}; it must be at least 1.")
    require(resolution >= 1, f"resolution is {resolution}; it must be at least 1 pixel.")
    require(seed is None or seed >= 0, f"seed is {seed}; it must be at least 0, or None.")
    shape = ClipShape(frames, resolution, channels)
    return VideoDataset(open_clips(data, split, DataConfig(stride=stride, fps=fps), shape), seed)
