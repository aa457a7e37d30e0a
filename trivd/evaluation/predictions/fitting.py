"""Lengths and sizes of predictions beside those of the truth: what fits, and how what does not is made to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trivd.data.formats.frames import FrameConverter, VideoInfo
from trivd.evaluation.metrics.frame_scores import SSIM_WINDOW
from trivd.evaluation.predictions.folders import is_of_predict
from trivd.evaluation.predictions.samples import Samples
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels

Cut = Literal["whole", "futures"]
LARGEST_SIDE = 4_096  # pixels that frames are resized to


@dataclass(frozen=True)
class Fit:
    """What is done with videos of several lengths or sizes; by default they are refused."""

    cut: Cut | None = None  # to the shortest; whole: predictions begin with the given frames, futures: after them
    resolution: int | None = None  # pixels of the square that all frames are resized and cut to

    def __post_init__(self) -> None:
        if self.resolution is not None and not SSIM_WINDOW <= self.resolution <= LARGEST_SIDE:
            raise TrivdError(f"--resolution is {self.resolution}; give {SSIM_WINDOW} to {LARGEST_SIDE:,} pixels.")


AS_THEY_ARE = Fit()


def squared(video: Pixels, side: int) -> Pixels:
    """Frames (T, H, W, C) whose shorter side is resized to `side`, and whose middle is cut out."""
    convert = FrameConverter(side, video.shape[-1])
    frames = np.stack([convert.array(frame) for frame in video])
    top, left = ((size - side) // 2 for size in frames.shape[1:3])
    return frames[:, top : top + side, left : left + side]


def reduced(video: Pixels, factor: int) -> Pixels:
    """Frames (T, H, W, C) reduced by a whole factor, as rounded means over squares of pixels."""
    if factor == 1:
        return video
    frames, height, width, channels = video.shape
    squares = video.reshape(frames, height // factor, factor, width // factor, factor, channels)
    means: Pixels = squares.mean(axis=(2, 4)).round().astype(np.uint8)
    return means


def enlargement(samples: Samples, height: int, width: int) -> int:
    """By how much predictions are larger than the truth: 1, or more in files of `trivd predict`.

    Raises:
        TrivdError: their size does not fit the truth's.
    """
    info, path = samples.info, samples.path
    factor = max(1, info.height // height) if is_of_predict(path.parent) else 1
    if (info.height, info.width) != (factor * height, factor * width):
        raise TrivdError(
            f"{path} is {info.width} x {info.height} pixels but the truth {width} x {height}; "
            "videos are compared at one size: give --resolution, or resize one side."
        )
    return factor


def predicted_frames(samples: Samples, true_frames: int, given: int, cut: Cut | None) -> int:
    """The number of predicted frames in each sample, which are its last ones.

    Args:
        samples: predictions of a clip.
        true_frames: frames of its truth.
        given: how many of them were given.
        cut: see `Fit`.

    Raises:
        TrivdError: their length does not fit the truth's.
    """
    frames, path, predicted = samples.info.frames, samples.path, true_frames - given
    if cut is None:
        if frames not in (true_frames, predicted):
            raise TrivdError(
                f"{path} has {frames} frames; a prediction has the truth's {true_frames}, or the {predicted} that "
                f"follow {given} given ones (--conditioning-frames). To compare what both have, give --cut whole "
                "(predictions begin with the given frames) or --cut futures (they begin after them)."
            )
        return predicted
    found = frames - given if cut == "whole" else frames
    if found < 1:
        raise TrivdError(f"{path} has {frames} frames, so there is none after {given} given ones; leave it out.")
    return found


def check_lengths(infos: dict[str, VideoInfo], given: int, fit: Fit) -> None:
    """Refuse true videos, by file, of several lengths or sizes that nothing was said about, or of given frames alone.

    Raises:
        TrivdError: they differ, or are too short.
    """
    lengths: dict[int, str] = {}  # and the first file of each
    sizes: dict[tuple[int, int], str] = {}
    for file, info in infos.items():
        lengths.setdefault(info.frames, file)
        sizes.setdefault((info.width, info.height), file)
    if len(lengths) > 1 and fit.cut is None:
        (a, first), (b, second) = list(lengths.items())[:2]
        raise TrivdError(
            f"{first} has {a} frames but {second} {b}; give --cut whole or --cut futures to cut all to the shortest "
            "(see trivd evaluate --help), or cut the true videos to one length."
        )
    if len(sizes) > 1 and fit.resolution is None:
        (a_size, first), (b_size, second) = list(sizes.items())[:2]
        raise TrivdError(
            f"{first} is {a_size[0]} x {a_size[1]} pixels but {second} {b_size[0]} x {b_size[1]}; give --resolution, "
            "or resize the true videos to one size."
        )
    shortest = min(lengths)
    if shortest <= given:
        raise TrivdError(
            f"{lengths[shortest]} has {shortest} frames, so --conditioning-frames {given} leaves none to score; "
            "give fewer."
        )
