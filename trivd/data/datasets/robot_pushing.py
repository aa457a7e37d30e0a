"""The simulated data set `robot-pushing`: an arm pushes random objects about, with its actions; like BAIR's videos.

An arm above a tray of five objects goes from one random target to the next, mostly through an object, so that the
future of one frame is open. A clip depends on its split, its number and the seed alone. The splits share neither
objects nor random numbers. What is simulated and drawn: `trivd.data.datasets.robot_scene`.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivd.data.datasets.robot_scene import BROKEN_OBJECTS, KNOWN_OBJECTS, WORKSPACE, Scene, pybullet
from trivd.data.formats.frames import Frame, FrameConverter, VideoInfo
from trivd.data.listing import Entry, Listing
from trivd.data.splits import SPLITS, Split
from trivd.runtime.errors import TrivdError

ROBOT_PUSHING = "robot-pushing"
FRAMES = 30  # of a clip, as BAIR's
OBJECTS = 5  # in a clip
HELD_OUT = 10  # each tenth object is drawn in validation clips only, and each one after it in test clips only
PUSHES = 0.8  # share of the targets that lie behind an object
BEHIND = 0.1  # m from its centre
SPEED = (0.012, 0.035)  # range of the gripper's way from frame to frame, m
BLOCKED = 0.03  # m by which the gripper lags where it is blocked, so that it gets another target


@dataclass(frozen=True)
class RobotClip:
    """One clip: a `Video` that is simulated when it is read."""

    split: Split
    number: int
    seed: int
    resolution: int

    @property
    def path(self) -> Path:
        """No file, for messages."""
        return Path(f"{ROBOT_PUSHING}:{self.name}")

    @property
    def name(self) -> str:
        """Its name in the data set."""
        return f"{self.split}/{self.number:06}"

    def probe(self) -> VideoInfo:
        """The size, which needs no simulation."""
        return VideoInfo(FRAMES, self.resolution, self.resolution)

    def frames(self, start: int, stride: int, convert: FrameConverter) -> Iterator[Frame]:
        """See `Video.frames`."""
        convert.expect(self.resolution, self.resolution)
        return (convert.array(image) for image in episode(self).images[start::stride])

    def series(self) -> dict[str, NDArray[np.float32]]:
        """What is known at each frame beside its pixels; names and units as BAIR's.

        Returns:
            `action` (T, 3), the displacement in m that the gripper is sent by until the next frame, and
            `endeffector_pos` (T, 3), where the gripper is in m. x points to the camera, z upwards.
        """
        seen = episode(self)
        return {"action": seen.action, "endeffector_pos": seen.position}


class Episode(NamedTuple):
    """A simulated clip of T frames."""

    images: list[Frame]  # T of (H, W, 3), larger than the clip's frames
    action: NDArray[np.float32]  # (T, 3) m
    position: NDArray[np.float32]  # (T, 3) m


@lru_cache(maxsize=1)  # a store asks for the frames, then for the series
def episode(clip: RobotClip) -> Episode:
    """Simulate a clip."""
    rng = np.random.default_rng((clip.seed, SPLITS.index(clip.split), clip.number))
    images: list[Frame] = []
    action, position = np.empty((2, FRAMES, 3), np.float32)
    with closing(Scene(rng.choice(objects_of(clip.split), OBJECTS, replace=False), rng)) as scene:
        displacement, left = np.zeros(3), 0  # for the frames that are left until a target is reached
        for t in range(FRAMES):
            images.append(scene.draw(clip.resolution))
            position[t] = gripper = scene.gripper()
            if np.abs(gripper - scene.target).max() > BLOCKED:
                scene.target, left = gripper, 0
            if left == 0:
                way = _next_target(scene, rng) - scene.target
                left = max(1, int(np.ceil(np.linalg.norm(way) / rng.uniform(*SPEED))))
                displacement = way / left
            action[t] = displacement
            scene.move(displacement)
            left -= 1
    return Episode(images, action, position)


def _next_target(scene: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    """Behind a random object at the height of the table, or anywhere: (x, y, z)."""
    target = rng.uniform(*WORKSPACE)
    if rng.uniform() < PUSHES:
        towards = scene.object(int(rng.integers(OBJECTS))) - scene.target
        distance = np.linalg.norm(towards[:2])
        target[:2] = scene.target[:2] + towards[:2] * (1 + BEHIND / max(float(distance), BEHIND))
        target[2] = WORKSPACE[0, 2]
    return np.clip(target, *WORKSPACE)


def objects_of(split: Split) -> NDArray[np.int64]:
    """Numbers of the objects that clips of a split are made with: about 800 for training, 100 for each other split."""
    numbers = np.setdiff1d(np.arange(KNOWN_OBJECTS), BROKEN_OBJECTS)
    remainder = {"validation": 0, "test": 1}
    if split in remainder:
        return numbers[numbers % HELD_OUT == remainder[split]]
    return numbers[numbers % HELD_OUT >= len(remainder)]


def robot_listing(clips: dict[Split, int], seed: int, resolution: int) -> Listing:
    """The clips of all splits, not simulated yet.

    Args:
        clips: how many of each split.
        seed: of all that is random.
        resolution: height and width in pixels.

    Raises:
        TrivdError: pybullet is not installed, or a number is too small.
    """
    pybullet()
    for option, value, least in (
        ("--clips", clips["train"], 1),
        ("--validation-clips", clips["validation"], 0),
        ("--test-clips", clips["test"], 0),
        ("--seed", seed, 0),
        ("--resolution", resolution, 1),
    ):
        if value < least:
            raise TrivdError(f"{option} is {value}; it must be at least {least}.")
    videos = [RobotClip(split, number, seed, resolution) for split in SPLITS for number in range(clips[split])]
    entries = tuple(Entry(video, video.name, video.split, None) for video in videos)
    return Listing(Path(ROBOT_PUSHING), entries, (), (), (f"seed {seed}, pybullet {version('pybullet')}",))
