"""The plan of a store, which says what it is made of, and the store's folder from the first file to the last.

A repeated `trivd prepare` finds the plan and continues only if it would make the same store.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trivd.config import DEFAULT_LIMITS, DataConfig
from trivd.data.formats.frames import READER
from trivd.data.listing import Listing
from trivd.data.processes import RankShare
from trivd.data.store.index import FORMAT, LARGEST_INDEX, PLAN, SHARDS, VERSION
from trivd.data.store.source import older_reader
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically

PROBES = "probes"
# Of DataConfig: what decides a listing, and the frames of its videos.
LISTING_SETTINGS = ("fps", "layout", "validation_share", "ucf101_fold", "bair_camera")
TEMPORARY = re.compile(r"\.?(\d{5,}|plan|index)\.(u8|npz|json)\.\d+\.tmp")  # names of our files while they are written


def listing_settings(data: DataConfig) -> dict[str, Any]:
    """The settings by which videos were listed, as JSON values."""
    return {
        **{name: getattr(data, name) for name in LISTING_SETTINGS},
        **({"limits": asdict(data.limits)} if data.limits != DEFAULT_LIMITS else {}),  # they decide what is skipped
    }


def make_plan(
    source: str, listing: Listing, resolution: int, channels: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides what a store will hold, as JSON values; `settings` are those that decide the listing."""
    digest = hashlib.sha256()
    for entry in listing.entries:
        try:
            status = entry.video.path.stat()
            file = (status.st_size, status.st_mtime_ns)
        except OSError:  # the probe will give the reason
            file = (-1, -1)
        digest.update(json.dumps((entry.name, entry.split, entry.class_name, *file)).encode())
    return {
        "format": FORMAT,
        "version": VERSION,
        "reader": READER,
        "source": source,
        "resolution": resolution,
        "image_channels": channels,
        **settings,
        "videos": f"{len(listing.entries)}; sha256 of names, splits, classes, sizes and times: {digest.hexdigest()}",
    }


def open_store(destination: Path, plan: dict[str, Any]) -> None:
    """Create the store's folder with its plan, or check the plan of an earlier call.

    Raises:
        TrivdError: the folder holds something else, or has another plan.
    """
    if (destination / PLAN).is_file():
        check_plan(destination, plan)
    elif destination.exists() and not (
        destination.is_dir() and all(TEMPORARY.fullmatch(path.name) for path in destination.iterdir())
    ):
        raise TrivdError(f"{destination} exists and is not overwritten; name a new folder.")
    else:
        write_atomically(destination / PLAN, json.dumps(plan, indent=2).encode())
    for name in (PROBES, SHARDS):
        (destination / name).mkdir(exist_ok=True)


def check_plan(destination: Path, plan: dict[str, Any]) -> None:
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


def remove_empty_store(root: Path) -> None:
    """Remove the folder of a store without videos, which would be in the way once there are some."""
    (root / PLAN).unlink()
    shutil.rmtree(root / PROBES)
    for folder in (root / SHARDS, root):
        if not any(folder.iterdir()):
            folder.rmdir()


def remove_temporaries(destination: Path, share: RankShare) -> None:
    """Remove what killed processes left half written; each process removes the files whose numbers are its share."""
    for folder in (destination, destination / SHARDS, destination / PROBES):
        for path in folder.glob("*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and share.owns(int(match[1]) if match[1].isdigit() else 0):
                path.unlink(missing_ok=True)
