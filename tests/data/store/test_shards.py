"""The jobs of making a store: neighbours of the listing become a shard; worker processes end at once."""

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
def test_shards_are_runs_of_the_listing(videos: list[int | None], channels: int) -> None:
    """Frames of each video, None for those that are unreadable; a frame is 32 x 32."""
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(len(videos)))
    found = Listing(Path("root"), entries, (), (), ())
    probes = [
        Skipped(str(n), "bad") if frames is None else VideoInfo(frames, 64, 64) for n, frames in enumerate(videos)
    ]
    jobs = plan_shards(Path("store"), found, probes, 32, channels)
    assert [job.number for job in jobs] == list(range(len(jobs)))
    joined = [(entry.name, size) for job in jobs for entry, size in zip(job.entries, job.sizes, strict=True)]
    readable = [(str(n), frames * (32 * 32 * channels + 4)) for n, frames in enumerate(videos) if frames is not None]
    assert joined == readable
    for job in jobs:
        assert 1 <= len(job.entries) <= max(1, len(readable) // 64)
        assert len(job.entries) == 1 or sum(job.sizes) <= 2**28


def test_large_data_sets_have_large_shards() -> None:
    entries = tuple(Entry(VideoFile(Path("v")), str(n), "train", None) for n in range(64 * 64 + 1))
    found = Listing(Path("root"), entries, (), (), ())
    jobs = plan_shards(Path("store"), found, [VideoInfo(10, 64, 64)] * len(entries), 32, 3)
    assert [len(job.entries) for job in jobs] == [64] * 64 + [1]
    jobs = plan_shards(Path("store"), found, [VideoInfo(300, 64, 96)] * len(entries), 64, 3)
    assert {len(job.entries) for job in jobs[:-1]} == {2**28 // (300 * 64 * 96 * 3)}


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
