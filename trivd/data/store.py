"""Videos that were decoded once, by `trivd prepare`, into files of uint8 frames that training maps into memory.

The files' layout is described in `trivd.data.store_index`; `trivd.data.prepare` writes them.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivd.data.listing import nothing_usable
from trivd.data.report import ScanReport, Skipped
from trivd.data.source import Split, existing_split
from trivd.data.source import balanced as balanced_splits
from trivd.data.store_index import is_store, read_index, shard_path, verify_store, video_bytes

__all__ = ["StoreSource", "is_store", "verify_store"]

OPEN_SHARDS = 256  # maps that a source keeps: each holds a file open, of which a process may often have but 1,024


class StoreSource:
    """One split of a store.

    Args:
        root: the store's folder.
        split: which videos; the store remembers their splits.
        span: frames below which a video is too short.
        balanced: take the paper's balanced split of the stored videos instead of their own; see `source.balanced`.

    Raises:
        TrivdError: this is no store, it is unfinished or damaged, or has nothing usable in this split.
    """

    def __init__(self, root: Path, split: Split, span: int, balanced: bool) -> None:
        self.root = root
        index = read_index(root)
        self.resolution = index.resolution
        self.channels = index.channels
        self.classes = index.classes
        splits = [video.split for video in index.videos]
        if balanced:
            splits = balanced_splits(splits)
        self.split = existing_split(set(splits), split)
        wanted = [video for video, of in zip(index.videos, splits, strict=True) if of == self.split]
        self._videos = [video for video in wanted if video.frames >= span]
        self.names = [video.name for video in self._videos]
        self.labels = [video.label for video in self._videos]
        self.lengths = [video.frames for video in self._videos]
        skipped = [
            Skipped(video.name, "too short", f"{video.frames} of {span} frames")
            for video in wanted
            if video.frames < span
        ]
        self.report = ScanReport(
            f"{root} (store), {self.split}", self.classes, tuple(self.lengths), span, tuple(skipped)
        )
        self.summary = self.report.lines()
        self._maps: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # the one used last at the end
        if not self._videos:
            raise nothing_usable(root, self.split, self.report)

    def read(self, video: int, start: int, count: int, stride: int) -> NDArray[np.uint8]:
        """Frames of one video, a read-only view of the file: (count, H, W, C). See `VideoSource.read`."""
        stored = self._videos[video]
        pixels = self._shard(stored.shard)[stored.offset : stored.offset + video_bytes(stored, self.channels)]
        frames = pixels.reshape(stored.frames, stored.height, stored.width, self.channels)
        return frames[start : start + (count - 1) * stride + 1 : stride]

    def _shard(self, number: int) -> NDArray[np.uint8]:
        """The bytes of a shard, mapped where they are used, so that each worker process maps the file itself."""
        if number not in self._maps:
            if len(self._maps) == OPEN_SHARDS:
                self._maps.popitem(last=False)  # the file is closed when the last view of it is gone
            self._maps[number] = np.memmap(shard_path(self.root, number), np.uint8, "r")
        self._maps.move_to_end(number)
        return self._maps[number]

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker process: not the maps, which would be sent as all the bytes of their files."""
        return self.__dict__ | {"_maps": OrderedDict()}
