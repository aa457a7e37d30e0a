"""Decode a data set once into a store: on all cores, under torchrun on all machines, and resumable at any moment.

Each job decodes one shard, and is done once the shard's index is written. So a repeated command finds what is done,
however the one before ended, and any number of processes writes the same bytes.
"""

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track

from trivd.config import DataConfig
from trivd.data.datasets import layouts
from trivd.data.formats.decode import VideoInfo
from trivd.data.listing import Entry, Listing, nothing_usable, probe_all
from trivd.data.processes import Job, RankShare, Result, Workers
from trivd.data.scan_report import ScanReport, Skipped, rate_notes
from trivd.data.store.index import (
    INDEX,
    LARGEST_INDEX,
    ShardIndex,
    StoreIndex,
    read_index,
    shard_path,
    write_index,
)
from trivd.data.store.plan import (
    PROBES,
    check_plan,
    listing_settings,
    make_plan,
    open_store,
    remove_empty_store,
    remove_temporaries,
)
from trivd.data.store.shards import ShardJob, plan_shards, verify_shard, write_shard
from trivd.runtime.console import say
from trivd.runtime.distributed import barrier, process_group
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically
from trivd.runtime.words import counted

TIMEOUT = 30 * 24 * 3600  # seconds that the processes of torchrun wait for the slowest of them
PROBED_VIDEOS = 256  # whose probes share a file


def write_store(
    source_root: Path,
    destination: Path,
    *,
    resolution: int,
    channels: Literal[1, 3],
    data: DataConfig,
    workers: int | None,
    progress: Console | None,
) -> ScanReport | None:
    """Decode each readable video of a folder once into a store, or resume an earlier call that was stopped.

    Args:
        source_root: a folder in any layout of `trivd.data.datasets.layouts`; it is not changed.
        data: settings that the listing and its splits depend on, and the rate at which videos are read.

    The other arguments, the result and the errors are those of `write_listing`, which does the work; the destination
    must not lie in the source either.
    """
    if destination.resolve().is_relative_to(source_root.resolve()):
        raise TrivdError(f"{destination} lies within the videos' folder; name a place outside of {source_root}.")
    listing = layouts.find(source_root, replace(data, balanced_split=False))  # a store gives that split when it is read
    plan = make_plan(str(source_root.resolve()), listing, resolution, channels, listing_settings(data))
    return write_listing(
        listing, plan, destination, resolution=resolution, channels=channels, workers=workers, progress=progress
    )


def write_listing(
    listing: Listing,
    plan: dict[str, Any],
    destination: Path,
    *,
    resolution: int,
    channels: Literal[1, 3],
    workers: int | None,
    progress: Console | None,
) -> ScanReport | None:
    """Decode each readable video of a listing once into a store, or resume an earlier call that was stopped.

    Under torchrun every process calls it; `destination` must lie on a file system that all of them share. Any
    exception, including KeyboardInterrupt, leaves the finished shards and removes what is half done.

    Args:
        listing: the videos.
        plan: all that decides what the store will hold, see `trivd.data.store.plan`.
        destination: the store's folder, new or from an earlier call with the same plan.
        resolution: short side of the stored frames in pixels.
        channels: 3 (RGB) or 1 (grey).
        workers: number of decoding processes; 0 or 1 decodes in this one, None takes all cores of the machine, which
            the processes that torchrun started there share.
        progress: console for the size and progress bars; None shows nothing.

    Returns:
        What was stored and skipped; None on all share but rank 0.

    Raises:
        TrivdError: no video can be read, the destination holds something else, the disk is too small, or a process
            failed.
    """
    if workers is not None and workers < 0:
        raise TrivdError(f"--workers is {workers}; it must be 0 or more.")
    with process_group(torch.device("cpu"), TIMEOUT):
        share = RankShare()
        if share.rank == 0:
            open_store(destination, plan)
        barrier()
        if share.rank > 0:
            check_plan(destination, plan)
        if (destination / INDEX).is_file():
            lengths = tuple(video.frames for video in read_index(destination).videos)
            notes = ("complete already: nothing was left to do",)
            report = ScanReport(f"{destination} (store)", listing.classes, lengths, 1, listing.skipped, notes)
            return report if share.rank == 0 else None
        remove_temporaries(destination, share)
        try:
            with Workers(share.cores if workers is None else workers) as pool:
                console = progress if share.rank == 0 else None
                return _Preparation(listing, destination, resolution, channels, share, pool, console).run()
        finally:
            remove_temporaries(destination, share)


@dataclass(frozen=True)
class _Preparation:
    """The work of one call, from a listing to a store; of n processes each takes every n-th job."""

    listing: Listing
    root: Path  # of the store
    resolution: int
    channels: int
    share: RankShare
    pool: Workers
    console: Console | None

    def run(self) -> ScanReport | None:
        probes = self.probe()
        unreadable = [seen for seen in probes if isinstance(seen, Skipped)]
        jobs = plan_shards(self.root, self.listing, probes, self.resolution, self.channels)
        before = [job.finished() for job in jobs]
        undone = [job for job, index in zip(jobs, before, strict=True) if index is None]
        if self.share.rank == 0:
            if not jobs:
                remove_empty_store(self.root)
                raise nothing_usable(self.listing.root, "all", self.report((), unreadable, ()))
            self.check_space(undone)
        barrier()

        started = time.monotonic()
        self.each("Writing", write_shard, [job for job in undone if self.share.owns(job.number)])
        barrier()
        seconds = time.monotonic() - started
        changed = list(itertools.chain.from_iterable(self.each("Verifying", verify_shard, self.share.of(jobs))))
        if changed:
            raise TrivdError(
                f"{self.root} does not hold what was written to it: the checksums differ for {', '.join(changed)}; "
                "check the disk and repeat the command to write them again."
            )
        barrier()
        return self.finish(jobs, before, probes, seconds) if self.share.rank == 0 else None

    def each(self, title: str, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Results of all jobs in the order in which they came, with a progress bar."""
        results = self.pool.each(function, jobs)
        hidden = self.console is None or not self.console.is_terminal
        return list(track(results, title, total=len(jobs), console=self.console, transient=True, disable=hidden))

    def probe(self) -> list[VideoInfo | Skipped]:
        """Probe each video of the listing; half a million take long, so the results are kept in files."""
        places = range(0, len(self.listing.entries), PROBED_VIDEOS)
        jobs = [
            (self.root / PROBES / f"{number:05}.json", self.listing.entries[place : place + PROBED_VIDEOS])
            for number, place in enumerate(places)
        ]
        self.each("Scanning", _probe, [job for job in self.share.of(jobs) if _read_probes(job[0]) is None])
        barrier()
        probes: list[VideoInfo | Skipped] = []
        for path, _ in jobs:
            seen = _read_probes(path)
            if seen is None:
                raise TrivdError(f"{path} is missing; all processes must share {self.root}. Repeat the command.")
            probes += seen
        return probes

    def check_space(self, jobs: list[ShardJob]) -> None:
        """Show the size of the shards that are left; raise TrivdError if the disk has too little space."""
        splits: Counter[str] = Counter()
        for job in jobs:
            for entry, size in zip(job.entries, job.sizes, strict=True):
                splits[entry.split] += size
        size, free = splits.total(), shutil.disk_usage(self.root).free
        if size > free:
            raise TrivdError(
                f"The store needs {size / 1e9:.1f} GB but {self.root} has {free / 1e9:.1f} GB left; make room and "
                "repeat the command, or name a destination on a larger disk."
            )
        if self.console is not None:
            videos = sum(len(job.entries) for job in jobs)
            by_split = ", ".join(f"{split} {part / 1e6:,.1f} MB" for split, part in splits.items())
            rate = "" if self.listing.fps is None else f" at {self.listing.fps:g} frames a second"
            say(self.console, f"Writing {counted(videos, 'video')}{rate} into {size / 1e6:,.1f} MB ({by_split})")
            if layouts.OWN_RATES in self.listing.notes:  # said before hours are spent, too
                say(self.console, f"no --fps: {layouts.OWN_RATES}")

    def finish(
        self,
        jobs: list[ShardJob],
        before: list[ShardIndex | None],
        probes: list[VideoInfo | Skipped],
        seconds: float,
    ) -> ScanReport:
        """Write the index; `before` says which shards an earlier call finished, the others took `seconds`."""
        shards = []
        for job in jobs:
            shard = job.finished()
            if shard is None:
                path = shard_path(job.root, job.number)
                raise TrivdError(f"{path} is missing; all processes must share {self.root}. Repeat the command.")
            shards.append(shard)
        videos = tuple(itertools.chain.from_iterable(shard.videos for shard in shards))
        skipped = [seen for seen in probes if isinstance(seen, Skipped)]
        skipped += itertools.chain.from_iterable(shard.skipped for shard in shards)
        sizes = tuple(shard.bytes for shard in shards)
        lengths = [video.frames for shard, old in zip(shards, before, strict=True) if not old for video in shard.videos]
        notes = list(rate_notes([seen for seen in probes if isinstance(seen, VideoInfo)], self.listing.fps))
        notes += [f"{sum(sizes) / 1e6:,.1f} MB at {self.resolution} pixels in {len(sizes):,} shards; all sums verified"]
        if lengths:
            notes.append(
                f"wrote {counted(len(lengths), 'video')}, {sum(lengths):,} frames in {seconds:,.1f} s: "
                f"{len(lengths) / seconds:,.1f} videos/s, {sum(lengths) / seconds:,.0f} frames/s"
            )
        report = self.report(tuple(video.frames for video in videos), skipped, tuple(notes))
        if not videos:
            raise nothing_usable(self.listing.root, "all", report)
        classes, fps = self.listing.classes, self.listing.fps
        write_index(self.root, StoreIndex(self.resolution, self.channels, classes, sizes, videos, fps))
        return report

    def report(self, lengths: tuple[int, ...], skipped: list[Skipped], notes: tuple[str, ...]) -> ScanReport:
        """The report of what was stored, and of what the listing, the probes and decoding skipped."""
        skipped, notes = [*self.listing.skipped, *skipped], (*self.listing.notes, *notes)
        return ScanReport(f"{self.root} (store)", self.listing.classes, lengths, 1, tuple(skipped), notes)


def _probe(job: tuple[Path, tuple[Entry, ...]]) -> None:
    """Probe some videos, and keep the results in a file."""
    path, entries = job
    write_atomically(path, json.dumps([asdict(seen) for _, seen in probe_all(list(entries))]).encode())


def _read_probes(path: Path) -> list[VideoInfo | Skipped] | None:
    """The results of `_probe`; None if it has not been done."""
    try:
        rows = read_json(path, LARGEST_INDEX)
        return [Skipped(**row) if "reason" in row else VideoInfo(**row) for row in rows]
    except (FileNotFoundError, ValueError, TypeError):
        return None
