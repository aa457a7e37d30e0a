"""Folders of videos as sets of clips, which need no names in common with others."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from trivd.config import EvaluationConfig, VideoLimits
from trivd.data.clips import Clip, FixedClips
from trivd.data.formats.decode import is_video
from trivd.data.source import span_of
from trivd.data.splits import Split
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.predictions.fitting import enlargement, reduced, squared
from trivd.evaluation.predictions.folders import (
    Preferred,
    contents_digest,
    inner_folders,
    is_of_predict,
    preference,
    samples_in,
    videos_by_name,
    visible,
)
from trivd.evaluation.predictions.samples import Samples, find_samples
from trivd.evaluation.readable import MOST_NAMED
from trivd.evaluation.set_protocols import SET_PROTOCOLS, Choice, SetProtocolName
from trivd.evaluation.sets import evaluate_sets
from trivd.evaluation.subjects import Progress
from trivd.runtime.errors import TrivdError


class VideoSet(FixedClips):
    """Clips of one length from the videos of a folder and of the folders in it; a `ClipDataset`.

    Args:
        folder: of videos or arrays of samples, or of folders of these, such as one for each class.
        frames: of a clip.
        stride: between them, in frames of the video.
        limits: of what a video may ask of the machine.
        clips: the most there are to be.
        choice: which clips: "first", the beginning of each of the first videos by name; otherwise see `Choice`.
        seed: of random starts.
        resolution: side in pixels of the square that frames are resized and cut to; None: their own size.
        like: a set whose size the frames must have; None: one size of their own.

    Raises:
        TrivdError: a video cannot be opened, none is long enough, or sizes differ.
    """

    split: Split = "test"
    classes: tuple[str, ...] = ()
    fps: float | None = None

    def __init__(
        self,
        folder: Path,
        frames: int,
        stride: int,
        limits: VideoLimits,
        *,
        clips: int,
        choice: Choice | Literal["first"],
        seed: int = 0,
        resolution: int | None = None,
        like: "VideoSet | None" = None,
    ) -> None:
        self.folder = folder
        self._frames, self._stride, self._resolution = frames, stride, resolution
        span = span_of(frames, stride)
        preferred: Preferred = []
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda path: find_samples(path, limits), _videos(folder, preferred)))
        short = [str(samples.path) for samples in found if samples.info.frames < span]
        videos = [(samples, number) for samples in found for number in range(len(samples))]
        videos = [(samples, number) for samples, number in videos if samples.info.frames >= span]
        if not videos:
            raise TrivdError(f"{folder} holds no video of at least {span} frames; give longer ones.")
        self.height, self.width = self._size([samples for samples, _ in videos], like)
        self._clips = _chosen([samples.info.frames - span + 1 for samples, _ in videos], clips, choice, seed)
        self._videos = videos
        side = f"{self.width} x {self.height}" if resolution is None else f"{resolution} x {resolution}"
        self.summary = [f"{folder}: {len(self._clips)} clips of {frames} frames, {choice}, seed {seed}, {side}"]
        self.summary.append(f"files {contents_digest(samples.path for samples in found)}")  # for resuming
        self.notes = preference(preferred)
        if short:
            named = ", ".join(short[:MOST_NAMED]) + (", ..." if len(short) > MOST_NAMED else "")
            self.notes.append(f"Left out: {len(short):,} videos that have fewer than {span} frames: {named}.")
        if len(self._clips) < clips:
            self.notes.append(f"{folder} gives {len(self._clips):,} clips, where {clips:,} were wanted.")

    def __len__(self) -> int:
        return len(self._clips)

    def evaluation_clip(self, index: int) -> Clip:
        place, start = self._clips[index]
        samples, number = self._videos[place]
        video = samples.clip(number, start, self._frames, self._stride)
        if self._resolution is not None:
            return Clip(squared(video, self._resolution), 0)
        return Clip(reduced(video, enlargement(samples, self.height, self.width)), 0)

    def _size(self, found: Sequence[Samples], like: "VideoSet | None") -> tuple[int, int]:
        """Height and width of all frames."""
        first = found[0].info
        height, width = (first.height, first.width) if like is None else (like.height, like.width)
        if self._resolution is None:
            for samples in found:
                enlargement(samples, height, width)
        return height, width


def _videos(folder: Path, preferred: Preferred) -> list[Path]:
    """All videos and arrays of samples of a folder, by name, then those of the folders in it."""
    inner = inner_folders(folder)
    own: list[Path] = []
    if is_of_predict(folder):  # among whose files are pictures of motion, and GIFs of what is in the MP4s
        own = samples_in(folder, preferred)
    elif not inner or any(map(is_video, visible(folder))):
        own = list(videos_by_name(folder, preferred).values())
    return [*own, *(path for part in inner for path in samples_in(part, preferred))]


def _chosen(starts: Sequence[int], clips: int, choice: Choice | Literal["first"], seed: int) -> list[tuple[int, int]]:
    """The video and the first frame of each clip.

    Args:
        starts: how many first frames each video has.
        clips, choice, seed: see `VideoSet`.
    """
    rng = np.random.default_rng(seed)
    if choice == "windows":
        after = np.cumsum(starts)
        windows = rng.choice(int(after[-1]), min(clips, int(after[-1])), replace=False)
        places = np.searchsorted(after, windows, side="right")
        before = np.concatenate([[0], after])
        return [(int(place), int(window - before[place])) for place, window in zip(places, windows, strict=True)]
    return [(place, int(rng.integers(count)) if choice == "one" else 0) for place, count in enumerate(starts[:clips])]


def evaluate_folder_set(
    predictions: Path,
    truth: Path,
    name: SetProtocolName,
    settings: EvaluationConfig,
    *,
    limits: VideoLimits,
    resolution: int | None,
    device: torch.device,
    report: Path,
    progress: Progress,
) -> Evaluation:
    """Compare two folders of videos by a protocol of sets, and write the report.

    Args:
        predictions: the model's videos.
        truth: true ones.
        name: of the protocol.
        settings: with the protocol's input of I3D, and the most clips of each set.
        limits: of what a video may ask of the machine.
        resolution: see `VideoSet`.
        device, report, progress: see `evaluate`.

    Raises:
        TrivdError: see `VideoSet` and `evaluate_sets`.
    """
    protocol = SET_PROTOCOLS[name]
    shape = (protocol.frames, protocol.stride, limits)
    true = VideoSet(
        truth,
        *shape,
        clips=settings.clips,
        choice=protocol.true_clips,
        seed=settings.seed,
        resolution=resolution,
    )
    made = VideoSet(predictions, *shape, clips=settings.clips, choice="first", resolution=resolution, like=true)
    return evaluate_sets(
        true,
        made,
        protocol,
        settings,
        choose_network(settings, true, device, label=name),
        name=f"{truth} by protocol {name}",
        about=f"predictions {predictions}",
        notes=[*true.notes, *made.notes],
        device=device,
        report=report,
        progress=progress,
    )
