"""Settings of the data, and limits on what a video may ask of the machine."""

from dataclasses import dataclass
from typing import Literal

from trivd.config.checks import at_least, at_most, check_literals, one_of, require

Layout = Literal["auto", "folder", "kinetics600", "ucf101", "bair"]
MOST_DIGITS = 100
LOWEST_FPS, HIGHEST_FPS = 0.01, 1000.0


@dataclass(frozen=True)
class VideoLimits:
    """Limits on what a video may ask of the machine: files can claim anything, and small ones can unpack to much."""

    max_frame_pixels: int = 8_192 * 4_320  # 8K cinema
    max_aspect_ratio: int = 32  # long side / short side: resized to a given short side, the long one grows with it
    max_video_frames: int = 1_000_000  # nine hours at 30 frames a second
    max_video_bytes: int = 1 << 30  # of one that is held in memory whole: an .npz array, a record of BAIR, a prediction

    def __post_init__(self) -> None:
        names = ("max_frame_pixels", "max_aspect_ratio", "max_video_frames", "max_video_bytes")
        at_least(1, "limits", self, *names)


DEFAULT_LIMITS = VideoLimits()


@dataclass(frozen=True)
class DataConfig:
    """The data, and the clips that are cut from it (4.1, E.2)."""

    fps: float | None = None  # rate at which videos are read, each frame the nearest in time; None: their own frames
    stride: int = 1  # distance between neighbouring frames of a clip, in frames of the video (at data.fps, if set)
    layout: Layout = "auto"  # how the data's folder is arranged; auto recognises each
    validation_share: float = 0.1  # where no video is held out: by a hash of each path; of one video, its end
    balanced_split: bool = False  # train on the first 70% of train alone, hold out its rest with the test videos (C.1)
    ucf101_fold: int = 1  # 1, 2 or 3: which trainlist0N.txt and testlist0N.txt
    bair_camera: Literal["image_aux1", "image_main"] = "image_aux1"  # the field reports image_aux1
    evaluation_step: int | None = None  # frames between the starts of evaluation clips; None: clips do not overlap
    workers: int = 1  # processes that read clips; 0 reads in the training process
    unreadable_share: float = 0.05  # of the last 1,000 training clips; others are taken for them, with more it stops
    digits: int = 2  # moving-digits: how many move in a clip
    digits_clips: int = 100_000  # moving-digits: length of the training split
    limits: VideoLimits = DEFAULT_LIMITS  # beyond which a video is refused before it is decoded

    def __post_init__(self) -> None:
        check_literals("data", self)
        at_least(1, "data", self, "stride", "digits", "digits_clips")
        at_most(MOST_DIGITS, "data", self, "digits")
        at_least(0, "data", self, "workers")
        one_of((1, 2, 3), "data", self, "ucf101_fold")
        require(
            self.fps is None or LOWEST_FPS <= self.fps <= HIGHEST_FPS,
            f"data.fps is {self.fps}; it must lie between {LOWEST_FPS:g} and {HIGHEST_FPS:g}, or be None.",
        )
        require(
            self.evaluation_step is None or self.evaluation_step >= 1,
            f"data.evaluation_step is {self.evaluation_step}; it must be at least 1, or none.",
        )
        require(
            0.0 <= self.unreadable_share <= 1.0,
            f"data.unreadable_share is {self.unreadable_share}; it must lie between 0 and 1.",
        )
        require(
            0.0 < self.validation_share < 1.0,
            f"data.validation_share is {self.validation_share}; it must lie between 0 and 1.",
        )
