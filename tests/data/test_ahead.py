"""Clips read ahead: the same as without, each read once and in order, and never too many."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from trivd.data.ahead import ReadAhead
from trivd.data.clips import Clip
from trivd.data.formats.frames import UnreadableVideo

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MAIN = threading.main_thread()


class Numbered:
    """A data set whose clips hold their numbers; every third cannot be read."""

    split, classes, fps, summary, evaluation_clips = "validation", (), None, ["numbers"], 20

    def __init__(self) -> None:
        self.read: list[int] = []
        self.threads: set[threading.Thread] = set()
        self._one = threading.Lock()

    def __len__(self) -> int:
        return self.evaluation_clips

    def training_clip(self, index: int, rng: np.random.Generator) -> Clip:
        return self.evaluation_clip(index)

    def evaluation_clip(self, index: int) -> Clip:
        assert self._one.acquire(blocking=False), "two threads read at a time"
        self.read.append(index)
        self.threads.add(threading.current_thread())
        time.sleep(0.001)
        self._one.release()
        if index % 3 == 2:
            raise UnreadableVideo(Path(f"{index}.mp4"), "damaged")
        return Clip(np.full((1, 1, 1, 1), index, np.uint8), index)


def take(ahead: ReadAhead, index: int) -> int:
    """The clip's number; -1 if it cannot be read."""
    try:
        return ahead.evaluation_clip(index).label
    except UnreadableVideo as error:
        return -1 if f"{index}.mp4" in str(error) else -2


def found(index: int) -> int:
    return -1 if index % 3 == 2 else index


@pytest.mark.parametrize("device", [CPU, GPU])
def test_clips_are_the_same(device: torch.device) -> None:
    clips, order = Numbered(), [4, 2, 9, 9, 0, 5, 8, 1]
    ahead = ReadAhead(clips, device)
    with ahead.expecting(order, 3):
        assert [take(ahead, index) for index in order] == [found(index) for index in order]
    assert clips.read == order
    assert (MAIN in clips.threads) == (device == CPU)
    assert [take(ahead, index) for index in (7, 8)] == [7, -1]  # nobody expects them
    assert (ahead.evaluation_clips, len(ahead), ahead.summary) == (20, 20, ["numbers"])


def test_others_may_come_between() -> None:
    clips = Numbered()
    ahead = ReadAhead(clips, GPU)
    with ahead.expecting([0, 1, 2, 3, 4], 2):
        assert [take(ahead, index) for index in (0, 7, 1, 9, 2)] == [0, 7, 1, 9, -1]
        assert take(ahead, 4) == 4  # 3 was expected: read at once
        assert [take(ahead, index) for index in (3, 4)] == [3, 4]
    with ahead.expecting([6], 2):
        assert take(ahead, 6) == 6


def test_few_are_read_ahead_and_none_after_the_end() -> None:
    clips = Numbered()
    ahead = ReadAhead(clips, GPU)
    with ahead.expecting(range(20), 4):
        for index in range(3):
            take(ahead, index)
        time.sleep(0.1)
        assert len(clips.read) == 3 + 4
    time.sleep(0.05)
    assert len(clips.read) <= 3 + 4
    assert take(ahead, 3) == 3


def test_other_errors_come_in_their_place() -> None:
    class Broken(Numbered):
        def evaluation_clip(self, index: int) -> Clip:
            if index == 1:
                raise MemoryError("clip 1")
            return super().evaluation_clip(index)

    ahead = ReadAhead(Broken(), GPU)
    with ahead.expecting([0, 1, 3], 3):
        assert take(ahead, 0) == 0
        with pytest.raises(MemoryError, match="clip 1"):
            take(ahead, 1)
    assert take(ahead, 3) == 3
