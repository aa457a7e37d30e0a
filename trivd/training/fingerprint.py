"""Fingerprints of data sets, which recognise the data of a run wherever it lies, and tell it from other data."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from trivd.data.clips import MOVING_DIGITS, ClipDataset, VideoClips
from trivd.runtime.errors import TrivdError

PLACE = "place"  # key of the folder, links followed

Listing = dict[str, Any]  # JSON values


def full_name(data: str) -> str:
    """A data set's name from any working directory: an absolute path, or "moving-digits"."""
    return data if data == MOVING_DIGITS else os.path.abspath(data)


def list_videos(data: str, splits: Mapping[str, ClipDataset]) -> Listing:
    """The contents of a data set by split, without pixels: enough to recognise it.

    Args:
        data: its folder.
        splits: its clips by split.

    Returns:
        for each split the numbers of videos and frames, and a checksum of names, classes and lengths; and the place.
        Empty for data that is made on the fly, which the settings describe.
    """
    listed: Listing = {}
    for split, clips in splits.items():
        if isinstance(clips, VideoClips):
            source = clips.source
            digest = hashlib.sha256(json.dumps([clips.split, clips.classes]).encode())
            for video in zip(source.names, source.labels, source.lengths, strict=True):
                digest.update(json.dumps([video[0], int(video[1]), int(video[2])]).encode())
            listed[split] = {
                "videos": len(source.names),
                "frames": int(sum(source.lengths)),
                "sha256": digest.hexdigest(),
            }
            listed[PLACE] = os.path.realpath(data)
    return listed


def compare_data(saved: str, saved_listing: Listing, data: str, listing: Listing) -> str:
    """Compare a run's data with the data that is named now.

    Args:
        saved: name of the run's data.
        saved_listing: its contents, see `list_videos`; empty in runs of versions that kept none.
        data: name of the data now, see `full_name`.
        listing: its contents.

    Returns:
        a sentence if the data has moved or changed since, else "".

    Raises:
        TrivdError: it is other data.
    """
    contents, saved_contents = (
        {split: values for split, values in listed.items() if split != PLACE} for listed in (listing, saved_listing)
    )
    here = listing.get(PLACE, data)
    there = saved_listing.get(PLACE, saved if saved == MOVING_DIGITS else os.path.realpath(saved))
    if here == there:
        if not saved_listing or contents == saved_contents:
            return ""
        return (
            f"The videos in {data} have changed since this run was started or last resumed: "
            f"{_differences(saved_contents, contents)}. It resumes with what is there now."
        )
    if saved_contents and contents == saved_contents:
        return f"The run's data was in {saved}; it is found again in {data}."
    others = f": {_differences(saved_contents, contents)}" if saved_contents and contents else ""
    raise TrivdError(
        f"was trained on {saved}, and {data} holds other data{others}; name its own, wherever they lie now, or choose "
        "another --out."
    )


def _differences(before: Listing, now: Listing) -> str:
    """The first difference between the contents of two listings, as part of a sentence."""
    for split, values in now.items():
        old = before.get(split)
        if old != values:
            if isinstance(old, dict) and _counted(old) != _counted(values):
                return f"{split} has {_counted(values)} instead of {_counted(old)}"
            return f"the {_counted(values)} in {split} have other names, classes or lengths"
    return "there are other splits"


def _counted(values: Listing) -> str:
    return f"{values.get('videos')} videos with {values.get('frames')} frames"
