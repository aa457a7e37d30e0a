"""How a listing is cut into the units of a store, and the processes that write them."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivd.data.formats.decode import VideoFile, VideoInfo
from trivd.data.listing import Entry, Listing
from trivd.data.processes import Workers
from trivd.data.scan_report import Skipped
from trivd.data.store.shards import plan_shards
from trivd.runtime.errors import TrivdError


@given(
    videos=st.lists(st.one_of(st.none(), st.integers(1, 90_000)), min_size=1, max_size=400),
    channels=st.sampled_from([1, 3]),
)
def test_units_are_runs_of_the_listing(videos: list[int | None], channels: int) -> None:
    """Frames of each video, None for those that are unreadable; a frame is 32 x 32."""
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(len(videos)))
    found = Listing(Path("root"), entries, (), (), ())
    probes = [
        Skipped(str(n), "bad") if frames is None else VideoInfo(frames, 64, 64) for n, frames in enumerate(videos)
    ]
    units = plan_shards(Path("store"), found, probes, 32, channels)
    assert [unit.number for unit in units] == list(range(len(units)))
    joined = [(entry.name, size) for unit in units for entry, size in zip(unit.entries, unit.sizes, strict=True)]
    readable = [(str(n), frames * (32 * 32 * channels + 4)) for n, frames in enumerate(videos) if frames is not None]
    assert joined == readable
    for unit in units:
        assert 1 <= len(unit.entries) <= max(1, len(readable) // 64)
        assert len(unit.entries) == 1 or sum(unit.sizes) <= 2**28


def test_large_sets_have_large_units() -> None:
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(64 * 64 + 1))
    found = Listing(Path("root"), entries, (), (), ())
    units = plan_shards(Path("store"), found, [VideoInfo(10, 64, 64)] * len(entries), 32, 3)
    assert [len(unit.entries) for unit in units] == [64] * 64 + [1]
    units = plan_shards(Path("store"), found, [VideoInfo(300, 64, 96)] * len(entries), 64, 3)
    assert {len(unit.entries) for unit in units[:-1]} == {2**28 // (300 * 64 * 96 * 3)}


def test_a_killed_worker_is_one_sentence() -> None:
    with Workers(2) as workers, pytest.raises(TrivdError, match=r"worker process was killed.*fewer --workers"):
        list(workers.each(os._exit, [1, 1]))


def test_an_error_ends_busy_workers_at_once() -> None:
    def interrupted() -> None:
        with Workers(2) as workers:
            for _ in workers.each(time.sleep, [0, 600, 600, 600]):
                raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 300
