"""A store of the simulated data set `robot-pushing`."""

from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.console import Console

from trivd.data.datasets.robot_pushing import ROBOT_PUSHING, robot_listing
from trivd.data.datasets.robot_scene import SCENE
from trivd.data.scan_report import ScanReport
from trivd.data.splits import Split
from trivd.data.store.plan import make_plan
from trivd.data.store.prepare import write_listing


def write_robot_store(
    destination: Path,
    *,
    clips: dict[Split, int],
    seed: int,
    resolution: int,
    channels: Literal[1, 3],
    workers: int | None,
    progress: Console | None,
) -> ScanReport | None:
    """Simulate robot-pushing into a store, or resume an earlier call that was stopped.

    Args:
        destination: the store's folder, new or from an earlier call with the same settings.
        clips: how many of each split.
        seed: of all that is random.
        resolution: height and width of the frames in pixels.
        channels: 3 (RGB) or 1 (grey).
        workers: see `write_listing`, as the result.
        progress: console for the size and progress bars; None shows nothing.

    Raises:
        TrivdError: pybullet is not installed, a number is too small; or see `write_listing`.
    """
    listing = robot_listing(clips, seed, resolution)
    # Another scene or simulator has other clips.
    settings = {"clips": clips, "seed": seed, "scene": SCENE, "pybullet": version("pybullet")}
    plan = make_plan(ROBOT_PUSHING, listing, resolution, channels, settings)
    return write_listing(
        listing, plan, destination, resolution=resolution, channels=channels, workers=workers, progress=progress
    )
