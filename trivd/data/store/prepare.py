"""Decode a data set once into a store: on all cores, under torchrun on all machines, and restartable at any moment.

Work is done in units, each of which becomes a shard and is done once the shard's record is written. So a repeated
command finds what is done, however the one before ended, and any number of processes writes the same bytes.
"""

import hashlib
import itertools
import json
import re
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

from trivd.config import DEFAULT_LIMITS, DataConfig
from trivd.data.datasets import layouts
from trivd.data.formats.decode import VideoInfo
from trivd.data.formats.frames import READER
from trivd.data.listing import Entry, Listing, nothing_usable, probe_all
from trivd.data.processes import Job, RankShare, Result, Workers
from trivd.data.scan_report import ScanReport, Skipped
from trivd.data.store.index import (
    FORMAT,
    INDEX,
    LARGEST_INDEX,
    PLAN,
    SHARDS,
    VERSION,
    ShardIndex,
    StoreIndex,
    read_index,
    shard_path,
    write_index,
)
from trivd.data.store.shards import ShardJob, plan_shards, verify_shard, write_shard
from trivd.data.store.source import older_reader
from trivd.runtime.console import say
from trivd.runtime.distributed import barrier, process_group
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically

PATIENCE = 30 * 24 * 3600  # seconds that processes of torchrun wait for the slowest of them
PROBES = "probes"
PROBE_VIDEOS = 256  # whose probes share a file
LISTING_SETTINGS = ("layout", "validation_share", "ucf101_fold", "bair_camera")  # of DataConfig: what decides a listing
TEMPORARY = re.compile(r"\.?(\d{5,}|plan|index)\.(u8|json)\.\d+\.tmp")  # names of our files before they are whole


def write_store(
    source_root: Path,
    destination: Path,
    resolution: int,
    channels: Literal[1, 3],
    data: DataConfig,
    workers: int | None,
    progress: Console | None,
) -> ScanReport | None:
    """Decode each readable video of a data set once into a store, or go on where an earlier call was stopped.

    Under torchrun every process calls it; `destination` must lie on a file system that all of them share. Any
    exception, KeyboardInterrupt too, leaves the finished shards and removes what is half done.

    Args:
        source_root: a folder in any layout of `trivd.data.datasets.layouts`; it is not changed.
        destination: the store's folder, new or of an earlier call with the same settings.
        resolution: pixels of the short side.
        channels: 3 (RGB) or 1 (grey).
        data: what the listing and its splits depend on.
        workers: decoding processes; 0 or 1 decodes in this one, None takes all cores of the machine, which the
            processes that torchrun started there share.
        progress: where to say the size and show bars; None shows nothing.

    Returns:
        What was stored and skipped; None in processes of torchrun other than the first.

    Raises:
        TrivdError: nothing can be read, the destination holds something else or lies in the source, the disk is too
            small, or a process failed.
    """
    if workers is not None and workers < 0:
        raise TrivdError(f"--workers is {workers}; it must be 0 or more.")
    if destination.resolve().is_relative_to(source_root.resolve()):
        raise TrivdError(f"{destination} lies within the videos' folder; name a place outside of {source_root}.")
    found = layouts.find(source_root, replace(data, balanced_split=False))  # a store gives that split when it is read
    plan = _plan(source_root, found, resolution, channels, data)
    with process_group(torch.device("cpu"), PATIENCE):
        ranks = RankShare()
        if ranks.rank == 0:
            _open(destination, plan)
        barrier()
        if ranks.rank > 0:
            _check(destination, plan)
        if (destination / INDEX).is_file():
            lengths = tuple(video.frames for video in read_index(destination).videos)
            notes = ("complete already: nothing was left to do",)
            report = ScanReport(f"{destination} (store)", found.classes, lengths, 1, found.skipped, notes)
            return report if ranks.rank == 0 else None
        _remove_temporaries(destination, ranks)
        try:
            with Workers(ranks.cores if workers is None else workers) as pool:
                console = progress if ranks.rank == 0 else None
                return _Preparation(found, destination, resolution, channels, ranks, pool, console).run()
        finally:
            _remove_temporaries(destination, ranks)


@dataclass(frozen=True)
class _Preparation:
    """One call's way from a listing to a store; of n processes each takes every n-th job."""

    found: Listing
    root: Path  # of the store
    resolution: int
    channels: int
    ranks: RankShare
    pool: Workers
    console: Console | None

    def run(self) -> ScanReport | None:
        probes = self.probe()
        unreadable = [seen for seen in probes if isinstance(seen, Skipped)]
        units = plan_shards(self.root, self.found, probes, self.resolution, self.channels)
        before = [unit.record() for unit in units]
        undone = [unit for unit, record in zip(units, before, strict=True) if record is None]
        if self.ranks.rank == 0:
            if not units:
                _remove_empty(self.root)
                raise nothing_usable(self.found.root, "all", self.report((), unreadable, ()))
            self.check_space(undone)
        barrier()

        started = time.monotonic()
        self.each("Decoding", write_shard, [unit for unit in undone if self.ranks.owns(unit.number)])
        barrier()
        seconds = time.monotonic() - started
        changed = list(itertools.chain.from_iterable(self.each("Verifying", verify_shard, self.ranks.share(units))))
        if changed:
            raise TrivdError(
                f"{self.root} does not hold what was written to it: the checksums differ for {', '.join(changed)}; "
                "check the disk and repeat the command to write them again."
            )
        barrier()
        return self.finish(units, before, unreadable, seconds) if self.ranks.rank == 0 else None

    def each(self, title: str, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Do all jobs, below a progress bar; their results in the order in which they came."""
        results = self.pool.each(function, jobs)
        hidden = self.console is None or not self.console.is_terminal
        return list(track(results, title, total=len(jobs), console=self.console, transient=True, disable=hidden))

    def probe(self) -> list[VideoInfo | Skipped]:
        """A look at each video of the listing; half a million take long, so what was seen is kept in files."""
        places = range(0, len(self.found.entries), PROBE_VIDEOS)
        jobs = [
            (self.root / PROBES / f"{number:05}.json", self.found.entries[place : place + PROBE_VIDEOS])
            for number, place in enumerate(places)
        ]
        self.each("Scanning", _probe, [job for job in self.ranks.share(jobs) if _read_probes(job[0]) is None])
        barrier()
        probes: list[VideoInfo | Skipped] = []
        for path, _ in jobs:
            seen = _read_probes(path)
            if seen is None:
                raise TrivdError(f"{path} is missing; all processes must share {self.root}. Repeat the command.")
            probes += seen
        return probes

    def check_space(self, units: list[ShardJob]) -> None:
        """Say what the units that are left will take; raise TrivdError if the disk has not as much."""
        splits: Counter[str] = Counter()
        for unit in units:
            for entry, size in zip(unit.entries, unit.sizes, strict=True):
                splits[entry.split] += size
        size, free = splits.total(), shutil.disk_usage(self.root).free
        if size > free:
            raise TrivdError(
                f"The store needs {size / 1e9:.1f} GB but {self.root} has {free / 1e9:.1f} GB left; make room and "
                "repeat the command, or name a destination on a larger disk."
            )
        if self.console is not None:
            videos = sum(len(unit.entries) for unit in units)
            parts = ", ".join(f"{split} {part / 1e6:,.1f} MB" for split, part in splits.items())
            line = f"Decoding {videos:,} videos into {size / 1e6:,.1f} MB ({parts})"
            say(self.console, line)

    def finish(
        self, units: list[ShardJob], before: list[ShardIndex | None], unreadable: list[Skipped], seconds: float
    ) -> ScanReport:
        """Write the index; `before` are the records from before this call, `seconds` the time that the others took."""
        records = []
        for unit in units:
            record = unit.record()
            if record is None:
                path = shard_path(unit.root, unit.number)
                raise TrivdError(f"{path} is missing; all processes must share {self.root}. Repeat the command.")
            records.append(record)
        videos = tuple(itertools.chain.from_iterable(record.videos for record in records))
        skipped = [*unreadable, *itertools.chain.from_iterable(record.skipped for record in records)]
        sizes = tuple(record.bytes for record in records)
        lengths = [
            video.frames for record, old in zip(records, before, strict=True) if not old for video in record.videos
        ]
        notes = [f"{sum(sizes) / 1e6:,.1f} MB at {self.resolution} pixels in {len(sizes):,} shards; all sums verified"]
        if lengths:
            notes.append(
                f"decoded {len(lengths):,} videos, {sum(lengths):,} frames in {seconds:,.1f} s: "
                f"{len(lengths) / seconds:,.1f} videos/s, {sum(lengths) / seconds:,.0f} frames/s"
            )
        report = self.report(tuple(video.frames for video in videos), skipped, tuple(notes))
        if not videos:
            raise nothing_usable(self.found.root, "all", report)
        write_index(self.root, StoreIndex(self.resolution, self.channels, self.found.classes, sizes, videos))
        return report

    def report(self, lengths: tuple[int, ...], skipped: list[Skipped], notes: tuple[str, ...]) -> ScanReport:
        """What was stored, and what the listing, the probes and decoding left out."""
        skipped, notes = [*self.found.skipped, *skipped], (*self.found.notes, *notes)
        return ScanReport(f"{self.root} (store)", self.found.classes, lengths, 1, tuple(skipped), notes)


def _plan(source_root: Path, found: Listing, resolution: int, channels: int, data: DataConfig) -> dict[str, Any]:
    """All that decides what a store will hold, as JSON values."""
    digest = hashlib.sha256()
    for entry in found.entries:
        try:
            status = entry.video.path.stat()
            file = (status.st_size, status.st_mtime_ns)
        except OSError:  # a probe will say why
            file = (-1, -1)
        digest.update(json.dumps((entry.name, entry.split, entry.class_name, *file)).encode())
    return {
        "format": FORMAT,
        "version": VERSION,
        "reader": READER,
        "source": str(source_root.resolve()),
        "resolution": resolution,
        "image_channels": channels,
        **{name: getattr(data, name) for name in LISTING_SETTINGS},
        **({"limits": asdict(data.limits)} if data.limits != DEFAULT_LIMITS else {}),  # they decide what is skipped
        "videos": f"{len(found.entries)}; sha256 of names, splits, classes, sizes and times: {digest.hexdigest()}",
    }


def _open(destination: Path, plan: dict[str, Any]) -> None:
    """Make the store's folder with its plan, unless it is there from an earlier call."""
    if (destination / PLAN).is_file():
        _check(destination, plan)
    elif destination.exists() and not (
        destination.is_dir() and all(TEMPORARY.fullmatch(path.name) for path in destination.iterdir())
    ):
        raise TrivdError(f"{destination} exists and is not overwritten; name a new folder.")
    else:
        write_atomically(destination / PLAN, json.dumps(plan, indent=2).encode())
    for name in (PROBES, SHARDS):
        (destination / name).mkdir(exist_ok=True)


def _check(destination: Path, plan: dict[str, Any]) -> None:
    """Raise TrivdError if the folder has another plan."""
    path = destination / PLAN
    try:
        saved = read_json(path, LARGEST_INDEX)
        changed = [name for name in plan | saved if saved.get(name) != plan.get(name)]
    except FileNotFoundError as error:
        raise TrivdError(f"{path} is not seen by all processes; name a folder that all machines share.") from error
    except (ValueError, TypeError) as error:
        raise TrivdError(f"{path} is damaged; delete {destination}, or name a new folder.") from error
    if changed == ["reader"]:
        raise TrivdError(older_reader(destination))
    if changed:
        raise TrivdError(
            f"{destination} exists and is not overwritten: it was begun from other videos or settings "
            f"({', '.join(changed)}); repeat the command that it was begun with, or name a new folder."
        )


def _remove_empty(root: Path) -> None:
    """Remove the folder of a store for which there are no videos: it would be in the way when there are some."""
    (root / PLAN).unlink()
    shutil.rmtree(root / PROBES)
    for folder in (root / SHARDS, root):
        if not any(folder.iterdir()):
            folder.rmdir()


def _remove_temporaries(destination: Path, ranks: RankShare) -> None:
    """Remove what killed processes left half written; each process looks after the numbers that are its share."""
    for folder in (destination, destination / SHARDS, destination / PROBES):
        for path in folder.glob("*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and ranks.owns(int(match[1]) if match[1].isdigit() else 0):
                path.unlink(missing_ok=True)


def _probe(job: tuple[Path, tuple[Entry, ...]]) -> None:
    """Look at some videos, and keep what was seen in a file."""
    path, entries = job
    write_atomically(path, json.dumps([asdict(seen) for _, seen in probe_all(list(entries))]).encode())


def _read_probes(path: Path) -> list[VideoInfo | Skipped] | None:
    """What `_probe` saw; None if it has not been done."""
    try:
        rows = read_json(path, LARGEST_INDEX)
        return [Skipped(**row) if "reason" in row else VideoInfo(**row) for row in rows]
    except (FileNotFoundError, ValueError, TypeError):
        return None
