"""BAIR robot pushing (Ebert et al. 2017): 30 frames of 64 x 64 of a robot's arm, with its actions, in record files.

Layout: `softmotion30_44k/{train,test}/traj_0_to_255.tfrecords`, one record a trajectory, each a tf.train.Example with
`{t}/image_aux1/encoded` and `{t}/image_main/encoded` (raw RGB), `{t}/action` and `{t}/endeffector_pos`, t from 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.datasets.tree import is_hidden, printable
from trivd.data.formats.frames import Frame, FrameConverter, UnreadableVideo, VideoInfo, check_bytes
from trivd.data.formats.tfrecord import Example, Record, find_records, parse_example, read_record
from trivd.data.listing import Entry, Listing
from trivd.data.scan_report import Skipped
from trivd.data.splits import Split
from trivd.runtime.errors import TrivdError

FOLDER = "softmotion30_44k"
FILE_NAME = re.compile(r"traj_(\d+)_to_(\d+)\.tfrecords", re.ASCII)  # numbers of the first and the last trajectory
OFFICIAL: dict[Split, int] = {"train": 43_264, "test": 256}  # trajectories (C.1)
SHAPE = (64, 64, 3)  # (H, W, C) of a frame
FRAME_BYTES = 64 * 64 * 3
ACTION, POSITION = 4, 3  # numbers at each time step


@dataclass(frozen=True)
class BairTrajectory:
    """One record of a file: a `Video` of 64 x 64 pixels."""

    path: Path
    offset: int  # of the record's data in the file, in bytes
    length: int  # of the record's data, in bytes
    camera: str  # image_aux1 or image_main
    limits: VideoLimits = DEFAULT_LIMITS

    def example(self) -> Example:
        """All features of the record, its checksums verified. Raises UnreadableVideo."""
        check_bytes(self.path, self.length, self.limits)
        return parse_example(read_record(self.path, Record(self.offset, self.length)), self.path)

    def probe(self) -> VideoInfo:
        """Read the record and check all its frames. Raises UnreadableVideo."""
        return VideoInfo(len(self._images()), *SHAPE[:2])

    def frames(self, start: int, stride: int, convert: FrameConverter) -> Iterator[Frame]:
        """See `Video.frames`."""
        for image in self._images()[start::stride]:
            yield convert.array(np.frombuffer(image, np.uint8).reshape(SHAPE))

    def _images(self) -> list[bytes]:
        """The frames in order, each the raw bytes of (64, 64, 3)."""
        example = self.example()
        images = []
        for t in range(self.length_of(example)):
            match example.get(f"{t}/{self.camera}/encoded"):
                case [bytes(image)] if len(image) == FRAME_BYTES:
                    images.append(image)
                case [bytes(image)]:
                    raise self.unreadable("wrong size of a frame", f"{len(image):,} of {FRAME_BYTES:,} bytes")
                case _:
                    raise self.unreadable("a frame is missing", f"frame {t}")
        return images

    def length_of(self, example: Example) -> int:
        """Number of the camera's frames among the record's features."""
        count = sum(name.endswith(f"/{self.camera}/encoded") for name in example)
        if not count:
            raise self.unreadable(f"no camera {self.camera}", f"{len(example)} features")
        return count

    def unreadable(self, reason: str, detail: str) -> UnreadableVideo:
        """An error that names the record."""
        return UnreadableVideo(self.path, reason, f"{detail} in the record at byte {self.offset}")


class Actions(NamedTuple):
    """The robot's actions and gripper positions at each time step, float32."""

    action: NDArray[np.float32]  # (T, 4)
    endeffector_pos: NDArray[np.float32]  # (T, 3)


def read_actions(trajectory: BairTrajectory) -> Actions:
    """Actions and gripper positions of all T frames of a trajectory.

    Raises:
        UnreadableVideo: the record is damaged, or actions or positions are missing.
    """
    example = trajectory.example()
    frames = trajectory.length_of(example)

    def series(name: str, size: int) -> NDArray[np.float32]:
        values = np.empty((frames, size), np.float32)
        for t in range(frames):
            value = example.get(f"{t}/{name}")
            if not isinstance(value, np.ndarray) or value.shape != (size,):
                raise trajectory.unreadable(f"not {size} numbers of {name}", f"frame {t}")
            values[t] = value
        return values

    return Actions(series("action", ACTION), series("endeffector_pos", POSITION))


def is_bair(root: Path) -> bool:
    """Whether a folder holds the data set."""
    return any(next(folder.glob("*.tfrecords"), None) is not None for folder in (root, *_split_folders(root).values()))


def find_bair(root: Path, camera: str, limits: VideoLimits = DEFAULT_LIMITS) -> Listing:
    """List the trajectories by number; only the records' lengths are read.

    Args:
        root: the folder softmotion30_44k, or the one that holds it.
        camera: image_aux1 or image_main.
        limits: limits on the size of videos.

    Raises:
        TrivdError: the folder holds no train or test folder.
    """
    folders = _split_folders(root)
    if not folders:
        raise TrivdError(
            f"{root} holds no train/ or test/ with BAIR's record files; "
            f"name {FOLDER}, which holds both, or the folder that holds {FOLDER}."
        )
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for split, folder in folders.items():
        numbered, others = _record_files(folder)
        skipped += [Skipped(f"{split}/{name}", "not named traj_A_to_B.tfrecords") for name in others]
        before = len(entries)
        for path, expected in numbered:
            records, problem = _usable_records(path, expected)
            name = f"{split}/{path.name}"
            if problem:
                skipped.append(Skipped(name, problem.reason, problem.detail))
            entries += [
                Entry(BairTrajectory(path, *record, camera, limits), f"{name}#{number}", split, None)
                for number, record in enumerate(records)
            ]
        notes.append(f"{split}: {len(entries) - before:,} of {OFFICIAL[split]:,} trajectories of the data set")
    return Listing(root, tuple(entries), (), tuple(skipped), (*notes, f"camera {camera}"))


def _split_folders(root: Path) -> dict[Split, Path]:
    """The folders train and test that hold record files, in `root` or in its softmotion30_44k."""
    inner = root / FOLDER if (root / FOLDER).is_dir() else root
    return {split: inner / split for split in OFFICIAL if next((inner / split).glob("*.tfrecords"), None) is not None}


def _record_files(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The record files by number, each with the number of trajectories by its name; and the names of other files."""
    numbered, others = [], []
    for path in folder.iterdir():
        if match := FILE_NAME.fullmatch(path.name):
            first, last = int(match[1]), int(match[2])
            numbered.append((first, last, path))
        elif not is_hidden(path.name):
            others.append(printable(path.name))
    return [(path, last - first + 1) for first, last, path in sorted(numbered)], sorted(others)


def _usable_records(path: Path, expected: int) -> tuple[list[Record], UnreadableVideo | None]:
    """The records before the first damage, and the reason why the others cannot be used."""
    records: list[Record] = []
    try:
        for record in find_records(path):
            records.append(record)
    except UnreadableVideo as error:
        detail = f"{len(records)} of {expected} trajectories; {error.detail}" if error.detail else ""
        return records, UnreadableVideo(path, error.reason, detail)
    if len(records) < expected:
        return records, UnreadableVideo(path, "incomplete", f"{len(records)} of {expected} trajectories")
    return records, None
