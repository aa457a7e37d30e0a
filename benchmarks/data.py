"""How fast videos are decoded, clips come out of a store, and stores are made; each beside a plain way to do the same.

`python benchmarks/data.py --json OUT` makes videos of its own, takes turns between contestants, and prints medians.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import av
import numpy as np
import torch
import tyro
from av.video.reformatter import Interpolation
from measuring import circumstances, take_turns
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from trivd.config import DataConfig
from trivd.data.clips import VideoClips
from trivd.data.decode import VideoFile
from trivd.data.frames import EXACT, FrameConverter, resized
from trivd.data.loader import TrainingStream
from trivd.data.prepare import write_store
from trivd.data.processes import Ranks, Workers
from trivd.data.source import span_of
from trivd.data.store import StoreSource
from trivd.files import write_atomically

CHANNELS: Final = 3
STRIDE = 1


@dataclass(frozen=True)
class Settings:
    """Options of the benchmark."""

    json: Path | None = None  # where to write the figures
    videos: int = 24
    frames: int = 300  # of each video
    height: int = 240
    width: int = 320
    resolution: int = 64  # pixels of the short side in the store
    clip_frames: int = 16
    batch_size: int = 32  # clips
    batches: int = 20  # of a turn
    decoded_videos: int = 4  # of a turn
    turns: int = 5  # of each contestant


@dataclass(frozen=True)
class Contest:
    """One thing done in two ways; medians over the turns."""

    name: str
    unit: str  # of the rates
    ours: float  # rate
    plain: float  # rate
    against: str  # what the plain way is

    @property
    def ratio(self) -> float:
        return self.ours / self.plain


def main(settings: Settings) -> None:
    console = Console()
    torch.set_num_threads(1)
    cores = Ranks().cores
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / "videos" / f"{number:03}.mp4" for number in range(settings.videos)]
        for number, path in enumerate(paths):
            write_video(path, settings, seed=number)
        contests = [
            decoding(paths[: settings.decoded_videos], settings),
            *preparing(folder, settings, cores),
            *reading(folder / "store", settings),
        ]
    found = circumstances(torch.device("cpu"))
    table = Table("what", "ours", "plain", "ratio", "unit", "plain is")
    for contest in contests:
        rates = f"{contest.ours:,.1f}", f"{contest.plain:,.1f}", f"{contest.ratio:.2f}"
        table.add_row(contest.name, *rates, contest.unit, contest.against)
    console.print(table)
    console.print(f"{found['hardware']}, medians of {settings.turns} turns", soft_wrap=True)
    if settings.json is not None:
        options = asdict(settings) | {"json": str(settings.json)}
        rows = [asdict(contest) | {"ratio": contest.ratio} for contest in contests]
        record = found | {"settings": options, "contests": rows}
        write_atomically(settings.json, (json.dumps(record, indent=2) + "\n").encode())
        console.print(f"Written: {settings.json}", soft_wrap=True)


def write_video(path: Path, settings: Settings, seed: int) -> None:
    """H.264: a square that moves over smooth noise."""
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


def decoding(paths: list[Path], settings: Settings) -> Contest:
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

    count = len(paths) * settings.frames
    times = take_turns({"ours": ours, "plain": plain}, settings.turns)
    return Contest(
        "decoding",
        "frames/s",
        count / times["ours"],
        count / times["plain"],
        "PyAV's decode and to_ndarray, same resize",
    )


def preparing(folder: Path, settings: Settings, cores: int) -> list[Contest]:
    """All cores against one process, from the listing to the verified store; leaves `folder`/store."""
    with Workers(cores) as pool:  # what the workers import is imported once, and does not count
        list(pool.each(abs, [0] * cores))
    made = 0

    def prepare(workers: int) -> None:
        nonlocal made
        made += 1
        write_store(
            folder / "videos", folder / f"store-{made}", settings.resolution, CHANNELS, DataConfig(), workers, None
        )

    times = take_turns({"ours": lambda: prepare(cores), "plain": lambda: prepare(1)}, settings.turns)
    (folder / "store-1").rename(folder / "store")
    against = "1 worker"
    videos, frames = settings.videos, settings.videos * settings.frames
    return [
        Contest(f"preparing, {cores} workers", "videos/s", videos / times["ours"], videos / times["plain"], against),
        Contest(f"preparing, {cores} workers", "frames/s", frames / times["ours"], frames / times["plain"], against),
    ]


def reading(store: Path, settings: Settings) -> list[Contest]:
    """Training batches of random clips from a store, read in this process, against copying as many bytes."""
    span = span_of(settings.clip_frames, STRIDE)
    source = StoreSource(store, "train", span, balanced=False)
    clips = VideoClips(source, settings.clip_frames, STRIDE, settings.resolution)
    stream = iter(TrainingStream(clips, settings.batch_size, seed=0, start=0, workers=0))
    shape = (settings.batches, settings.batch_size, settings.clip_frames, settings.resolution, settings.resolution, 3)
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    copy = np.empty_like(pixels)

    def ours() -> None:
        for _ in islice(stream, settings.batches):
            pass

    times = take_turns({"ours": ours, "plain": lambda: np.copyto(copy, pixels)}, settings.turns)
    stream.close()
    count, megabytes = settings.batches * settings.batch_size, pixels.nbytes / 1e6
    against = "np.copyto of as many bytes"
    return [
        Contest("reading a store", "clips/s", count / times["ours"], count / times["plain"], against),
        Contest("reading a store", "MB/s", megabytes / times["ours"], megabytes / times["plain"], against),
    ]


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
