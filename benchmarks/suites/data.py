"""`trivd benchmark data`: decoding videos, preparing a store and reading it, each against a plain way.

3 rows; about two minutes on two CPU cores. The suite makes videos of its own.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from benchmarks.measuring import take_turns
from benchmarks.suite import Case, Column, Suite
from trivd.config import DataConfig
from trivd.data.clips import VideoClips
from trivd.data.formats.decode import VideoFile
from trivd.data.formats.frames import EXACT, FrameConverter, resized
from trivd.data.loader import TrainingStream
from trivd.data.processes import RankShare, Workers
from trivd.data.source import span_of
from trivd.data.store.prepare import write_store
from trivd.data.store.source import StoreSource

CHANNELS: Final = 3
STRIDE = 1


@dataclass(frozen=True)
class Data(Suite):
    """Settings.

    Args:
        videos: that are made.
        frames: of each video.
        height: of the videos, in pixels.
        width: of the videos, in pixels.
        resolution: pixels of the short side in the store.
        clip_frames: of the clips that are read.
        batch_size: clips.
        batches: of a turn.
        decoded_videos: of a turn.
    """

    name = "data"
    title = "Videos: decoding, preparing and reading a store"
    columns = (
        Column("what", ("case", "what")),
        Column("unit", ("unit",)),
        Column("ours", ("rates", "ours"), 1),
        Column("plain", ("rates", "plain"), 1),
        Column("ours / plain", ("speed_ratio",)),
        Column("plain is", ("against",)),
    )

    videos: int = 24
    frames: int = 300
    height: int = 240
    width: int = 320
    resolution: int = 64
    clip_frames: int = 16
    batch_size: int = 32
    batches: int = 20
    decoded_videos: int = 4
    turns: int = 5

    @classmethod
    def quick(cls) -> "Data":
        return cls(videos=2, frames=20, height=48, width=64, resolution=32, batch_size=2, batches=2, turns=1)

    def cases(self) -> Sequence[Case]:
        return [{"what": what} for what in ("decoding", "preparing", "reading")]

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = [folder / "videos" / f"{number:03}.mp4" for number in range(self.videos)]
            for number, path in enumerate(paths):
                write_video(path, self, seed=number)
            if case["what"] == "decoding":
                return decoding(paths[: self.decoded_videos], self)
            return preparing(folder, self) if case["what"] == "preparing" else reading(folder, self)


def write_video(path: Path, settings: Data, seed: int) -> None:
    """An H.264 video of a square that moves over smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (settings.height // 16 + 1, settings.width // 16 + 1, CHANNELS), np.uint8)
    background = coarse.repeat(16, axis=0).repeat(16, axis=1)[: settings.height, : settings.width]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = settings.height, settings.width, "yuv420p"
        for t in range(settings.frames):
            frame = np.roll(background, t, axis=1)
            top = 2 * t % (settings.height - 40)
            frame[top : top + 40, 100:140] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))


def decoding(paths: list[Path], settings: Data) -> dict[str, Any]:
    """Our reader, which resizes exactly and turns frames upright, against PyAV alone; both on one thread."""
    height, width = resized(settings.height, settings.width, settings.resolution)

    def ours() -> None:
        for path in paths:
            for _ in VideoFile(path).frames(0, 1, FrameConverter(settings.resolution, CHANNELS)):
                pass

    def plain() -> None:
        for path in paths:
            with av.open(str(path)) as container:
                container.streams.video[0].thread_type = "NONE"
                for frame in container.decode(video=0):
                    frame.to_ndarray(
                        format="rgb24", height=height, width=width, interpolation=Interpolation.AREA | EXACT, threads=1
                    )

    seconds = take_turns({"ours": ours, "plain": plain}, settings.turns)
    return row("frames/s", len(paths) * settings.frames, seconds, "PyAV's decode and to_ndarray, same resize")


def preparing(folder: Path, settings: Data) -> dict[str, Any]:
    """All cores against one process, from the listing to the verified store."""
    cores = RankShare().cores
    with Workers(cores) as pool:  # what workers import is imported once and not counted
        list(pool.each(abs, [0] * cores))
    made = 0

    def prepare(workers: int) -> None:
        nonlocal made
        made += 1
        prepare_store(folder, folder / f"store-{made}", settings, workers)

    seconds = take_turns({"ours": lambda: prepare(cores), "plain": lambda: prepare(1)}, settings.turns)
    return row("frames/s", settings.videos * settings.frames, seconds, f"1 worker; ours has {cores}")


def prepare_store(folder: Path, store: Path, settings: Data, workers: int) -> None:
    """A store of the videos."""
    write_store(
        folder / "videos",
        store,
        resolution=settings.resolution,
        channels=CHANNELS,
        data=DataConfig(),
        workers=workers,
        progress=None,
    )


def reading(folder: Path, settings: Data) -> dict[str, Any]:
    """Training batches of random clips from a store, read in this process, against copying as many bytes."""
    span = span_of(settings.clip_frames, STRIDE)
    prepare_store(folder, folder / "store", settings, 1)
    source = StoreSource(folder / "store", "train", span, balanced=False)
    clips = VideoClips(source, settings.clip_frames, STRIDE, settings.resolution)
    stream = iter(TrainingStream(clips, settings.batch_size, seed=0, start=0, workers=0))
    shape = (settings.batches, settings.batch_size, settings.clip_frames, settings.resolution, settings.resolution, 3)
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    copy = np.empty_like(pixels)

    def ours() -> None:
        for _ in islice(stream, settings.batches):
            pass

    seconds = take_turns({"ours": ours, "plain": lambda: np.copyto(copy, pixels)}, settings.turns)
    stream.close()
    return row("MB/s", pixels.nbytes / 1e6, seconds, "np.copyto of as many bytes")


def row(unit: str, amount: float, seconds: Mapping[str, float], against: str) -> dict[str, Any]:
    """The speeds and their ratio for `amount` units of work in these times."""
    return {
        "unit": unit,
        "rates": {name: amount / time for name, time in seconds.items()},
        "speed_ratio": seconds["plain"] / seconds["ours"],
        "seconds": dict(seconds),
        "against": against,
    }
