"""A store as a source of clips; each frame is verified as it is read.

Files are read, not mapped into memory: if a mapped file is truncated, the process is killed. The layout of the files is
described in `trivd.data.store.index`; `trivd.data.store.prepare` writes them.
"""

import os
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from trivd.config import DataConfig
from trivd.data.formats.frames import READER, UnreadableVideo
from trivd.data.listing import TOO_SHORT, nothing_usable
from trivd.data.scan_report import ScanReport, Skipped
from trivd.data.splits import Segment, Split, balanced_splits, divide, existing_split
from trivd.data.store.index import CHECKSUM, StoredVideo, is_store, read_index, shard_path, verify_store

__all__ = ["StoreSource", "is_store", "verify_store"]

OPEN_SHARDS = 256  # open at once; the limit of a process is often 1,024 files


class DamagedVideo(UnreadableVideo):
    """A stored video whose bytes have changed."""

    remedy = "delete the store's index.json and repeat its `trivd prepare` command, which writes it again"


class StoreSource:
    """One split of a store.

    Args:
        root: the store's folder.
        split: split to read; the store has the split of each video.
        span: number of consecutive frames that a clip spans; shorter videos are skipped.
        balanced: whether to use the paper's balanced split of the stored videos instead of their own; see
            `balanced_splits`.
        validation_share: share held out if the store holds out no video; see `trivd.data.splits`.
        exact: whether the other held-out split will not do.

    Raises:
        TrivdError: this is no store, it is unfinished or damaged, or has no usable video in this split.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        span: int,
        balanced: bool,
        validation_share: float = DataConfig.validation_share,
        *,
        exact: bool = False,
    ) -> None:
        self.root = root
        index = read_index(root)
        self.resolution = index.resolution
        self.channels = index.channels
        self.fps = index.fps
        self.classes = index.classes
        splits = [video.split for video in index.videos]
        if balanced:
            splits = balanced_splits(splits)
        is_open = set(splits) == {"train"}
        self.split = existing_split({"train", "validation"} if is_open else set(splits), split, root, exact)
        wanted = [video for video, of in zip(index.videos, splits, strict=True) if is_open or of == self.split]
        used = [video for video in wanted if video.frames >= span]
        segments = [Segment(number, self.split, 0, video.frames) for number, video in enumerate(used)]
        notes: tuple[str, ...] = ()
        if is_open and used:
            names, lengths = [video.name for video in used], [video.frames for video in used]
            segments, note = divide(root, names, lengths, span, validation_share)
            segments, notes = [segment for segment in segments if segment.split == self.split], (note,)
        if index.fps is not None:
            notes = (*notes, f"prepared at {index.fps:g} frames a second")
        if index.reader < READER:
            notes = (*notes, older_reader(root))
        self._videos = [used[segment.video] for segment in segments]
        self._first = [segment.first for segment in segments]
        self.names = [video.name for video in self._videos]
        self.labels = [video.label for video in self._videos]
        self.lengths = [segment.frames for segment in segments]
        skipped = [
            Skipped(video.name, TOO_SHORT, f"{video.frames} of {span} frames")
            for video in wanted
            if video.frames < span
        ]
        self.report = ScanReport(
            f"{root} (store), {self.split}", self.classes, tuple(self.lengths), span, tuple(skipped), notes
        )
        self.summary = self.report.lines()
        self._files: OrderedDict[int, FileIO] = OrderedDict()  # least recently used first
        if not self._videos:
            raise nothing_usable(root, self.split, self.report, set(splits), index.fps)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video: (count, H, W, C). See `VideoSource.read`.

        Raises:
            DamagedVideo: the frames have changed since they were written, or are gone.
        """
        stored, start = self._videos[video], self._first[video] + start
        pixels = np.empty((count, stored.height, stored.width, self.channels), np.uint8)
        checksums = np.empty((count - 1) * stride + 1, CHECKSUM)
        table = stored.offset + stored.frames * pixels[0].nbytes
        try:
            shard = self._shard(stored.shard)
            for number, run in enumerate(pixels[None] if stride == 1 else pixels):  # adjacent frames are read at once
                _fill(run, shard, stored.offset + (start + number * stride) * pixels[0].nbytes)
            _fill(checksums, shard, table + start * CHECKSUM.itemsize)
        except OSError as error:
            raise self._damaged(stored, error.strerror or "it ends too early") from error
        if any(google_crc32c.value(frame) != said for frame, said in zip(pixels, checksums[::stride], strict=True)):
            raise self._damaged(stored, "wrong checksum")
        return pixels

    def _damaged(self, stored: StoredVideo, why: str) -> DamagedVideo:
        return DamagedVideo(shard_path(self.root, stored.shard), why, stored.name)

    def _shard(self, number: int) -> int:
        """File descriptor of a shard, opened on first use, so that each worker process has its own."""
        if number not in self._files:
            if len(self._files) == OPEN_SHARDS:
                self._files.popitem(last=False)[1].close()
            self._files[number] = shard_path(self.root, number).open("rb", buffering=0)
        self._files.move_to_end(number)
        return self._files[number].fileno()

    def __getstate__(self) -> dict[str, Any]:
        """Pickled state, without the open files."""
        return self.__dict__ | {"_files": OrderedDict()}


def older_reader(root: Path) -> str:
    """The message about a store whose videos were decoded by an older version."""
    return (
        f"{root} was prepared by an older version of trivd, which read some videos differently from how they "
        "are displayed (mirrored, interlaced, pixels that are not square); to be sure, prepare them again in a new "
        "folder."
    )


def _fill(array: NDArray[Any], file: int, offset: int) -> None:
    """Fill an array with a file's bytes from `offset` on. Raises OSError if there are too few."""
    if os.preadv(file, [array.data], offset) != array.nbytes:
        raise OSError
