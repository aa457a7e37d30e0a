"""Which data a run was trained on: recognised wherever they lie, and told from others, by their videos' names."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from trivd.data.clips import MOVING_DIGITS, ClipDataset, VideoClips
from trivd.runtime.errors import TrivdError

PLACE = "place"  # in a listing: the folder, links followed

Listing = dict[str, Any]  # JSON values


def full_name(data: str) -> str:
    """A data set's name from any working directory: an absolute path, or "moving-digits"."""
    return data if data == MOVING_DIGITS else os.path.abspath(data)


def list_videos(data: str, splits: Mapping[str, ClipDataset]) -> Listing:
    """What a data set holds, by split, in few words: enough to recognise it, but not its pixels.

    Args:
        data: where it lies.
        splits: that were found there.

    Returns:
        of each split the number of videos, their frames, and a checksum of names, classes and lengths; and the place.
        Nothing of data that are made on the fly, which the settings describe.
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
    """Whether a run's data are those that are named now.

    Args:
        saved: what the run names.
        saved_listing: see `list_videos`; empty if the run is of a version that kept none.
        data: what is named now, as `full_name` gives it.
        listing: of that.

    Returns:
        a sentence if they have moved or changed since, else "".

    Raises:
        TrivdError: they are others.
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
            f"The videos in {data} have changed since this run was started or last went on: "
            f"{_differences(saved_contents, contents)}. It goes on with what is there now."
        )
    if saved_contents and contents == saved_contents:
        return f"The run's data were in {saved}; they are found again in {data}."
    others = f": {_differences(saved_contents, contents)}" if saved_contents and contents else ""
    raise TrivdError(
        f"was trained on {saved}, and {data} holds other data{others}; name its own, wherever they lie now, or choose "
        "another --out."
    )


def _differences(before: Listing, now: Listing) -> str:
    """The first thing in which the contents of two listings differ, as part of a sentence."""
    for split, values in now.items():
        old = before.get(split)
        if old != values:
            if isinstance(old, dict) and _counted(old) != _counted(values):
                return f"{split} has {_counted(values)} instead of {_counted(old)}"
            return f"the {_counted(values)} in {split} have other names, classes or lengths"
    return "there are other splits"


def _counted(values: Listing) -> str:
    return f"{values.get('videos')} videos with {values.get('frames')} frames"
