"""Evaluation clips that are read while a GPU computes."""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import torch

from trivd.data.clips import Clip, ClipDataset, WrappedClips
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.threads import in_threads


class ReadAhead(WrappedClips):
    """A data set whose evaluation clips are read ahead in a thread, if they are announced; they are the same.

    There is one thread, as data sets keep files open for one reader at a time; and none on a CPU, which has nothing to
    do while it waits for its own cores.

    Args:
        clips: of the data set.
        device: that computes.
    """

    def __init__(self, clips: ClipDataset, device: torch.device) -> None:
        super().__init__(clips)
        self._gains = device.type == "cuda"
        self._lock = threading.Lock()  # of the data set
        self._numbers: deque[int] = deque()  # of the clips to come
        self._read: Generator[Clip | UnreadableVideo, None, None] | None = None

    @contextmanager
    def expecting(self, numbers: Sequence[int], ahead: int) -> Iterator[None]:
        """Context in which these clips will be asked for in this order; up to `ahead` are read before their turn."""
        if not self._gains:
            yield
            return
        with closing(in_threads(self._attempt, numbers, 1, ahead)) as self._read:
            self._numbers.extend(numbers)
            try:
                yield
            finally:
                self._numbers.clear()

    def evaluation_clip(self, index: int) -> Clip:
        if self._read is None or not self._numbers or self._numbers[0] != index:
            with self._lock:
                return self._clips.evaluation_clip(index)
        self._numbers.popleft()
        found = next(self._read)
        if isinstance(found, UnreadableVideo):
            raise found
        return found

    def _attempt(self, index: int) -> Clip | UnreadableVideo:
        """A clip, or why it cannot be read: the clips after it are expected all the same."""
        try:
            with self._lock:
                return self._clips.evaluation_clip(index)
        except UnreadableVideo as error:
            return error
