"""A robot's arm and random objects in a tray, simulated by Bullet and drawn by its software renderer.

The arm is Franka Emika's Panda, the objects are the thousand random ones that come with pybullet (extra `robot`).
Lengths are in metres, x points from the arm's base to the camera, z upwards; the tray's floor is z = 0.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from trivd.data.formats.frames import Frame
from trivd.runtime.errors import TrivdError

Floats = NDArray[np.float64]

SCENE = 1  # version of all that follows: to be raised with any change to what is simulated or drawn
KNOWN_OBJECTS = 1_000  # of pybullet_data
BROKEN_OBJECTS = (168,)  # of these, whose vertices are no numbers
OBJECT_SIZE = (0.07, 0.11)  # range of an object's longest side
OBJECT_MASS = 0.15  # kg
FRICTION = 0.6
TRAY = np.array([[0.34, -0.24], [0.70, 0.24]])  # its inner corners, (x, y)
WALL = (0.012, 0.035)  # thickness and height of its walls
FENCE = 0.3  # height of the walls as objects feel them, lest they leave the picture
OBJECT, BOX, ARM = 1, 2, 4  # groups of bodies: objects feel all of them, the others feel objects alone
WORKSPACE = np.array([[0.40, -0.17, 0.01], [0.64, 0.17, 0.09]])  # lowest and highest position of the gripper
CLEARANCE = 0.08  # least distance between the centres of objects, and of the gripper, at the start

ARM_JOINTS = 7
FINGERS = (9, 10)  # their joints
HAND = 8  # its joint; those from here on are the gripper
GRIPPER = 11  # the link between the finger tips
REST = (0.0, 0.25, 0.0, -2.3, 0.0, 2.55, 0.785)  # radians: the gripper points down at the tray's centre
ARM_FORCE, FINGER_FORCE = 200.0, 20.0  # N m, N

STEP = 1 / 120  # seconds of a simulated step
STEPS = 12  # between frames: 10 frames a second
MOVES = 4  # commands between frames, so that the gripper moves in a straight line
SETTLING = 30  # steps before the first frame, in which objects come to rest

EYE, LOOKS_AT, ANGLE = (1.0, 0.0, 0.62), (0.505, 0.0, 0.035), 40.0  # camera: positions, field of view in degrees
LIGHT = (0.6, 0.5, 1.4)  # towards it
SUPERSAMPLING = 2  # drawn pixels along a pixel's side: the renderer does not smooth edges

WOOD = np.array([0.66, 0.52, 0.37])
PLANKS = 9
TRAY_FLOOR, TRAY_WALL = (0.80, 0.77, 0.70), (0.33, 0.35, 0.38)
ARM_COLOURS = ((0.93, 0.93, 0.93), (0.55, 0.57, 0.60))  # of every other link
GRIPPER_COLOUR = (0.16, 0.17, 0.19)


class Scene:
    """One random scene; `close` it when it is no longer needed.

    Args:
        objects: numbers of the objects, below `KNOWN_OBJECTS`.
        rng: source of their sizes, colours and places, and of the gripper's place and angle.

    Raises:
        TrivdError: pybullet is not installed.
    """

    def __init__(self, objects: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._bullet: Any = pybullet()
        self._client: int = self._bullet.connect(self._bullet.DIRECT)
        self._call("setGravity", 0, 0, -9.81)
        self._call("setPhysicsEngineParameter", fixedTimeStep=STEP, deterministicOverlappingPairs=1)
        self._furnish()
        self._arm = self._load_arm()
        self._down = self._bullet.getQuaternionFromEuler((np.pi, 0.0, rng.uniform(-np.pi / 2, np.pi / 2)))
        self.target: Floats = rng.uniform(*WORKSPACE)  # position that the gripper is sent to, (x, y, z)
        self._reset_arm()
        self._objects = [
            self._add_object(number, place, rng)
            for number, place in zip(objects, _places(len(objects), self.target[:2], rng), strict=True)
        ]
        self._simulate(SETTLING)

    def close(self) -> None:
        """End the simulation."""
        self._call("disconnect")

    def gripper(self) -> Floats:
        """Where the gripper is, (x, y, z)."""
        return np.array(self._call("getLinkState", self._arm, GRIPPER)[0])

    def object(self, number: int) -> Floats:
        """Where the centre of mass of the object `number` of this scene is, (x, y, z)."""
        return np.array(self._call("getBasePositionAndOrientation", self._objects[number])[0])

    def move(self, displacement: Floats) -> None:
        """Send the gripper farther by (x, y, z), and let the time to the next frame pass."""
        start, self.target = self.target, self.target + displacement
        for share in np.linspace(0, 1, MOVES + 1)[1:]:
            self._steer(start + share * displacement)
            self._simulate(STEPS // MOVES)

    def draw(self, resolution: int) -> Frame:
        """What the camera sees, (resolution * SUPERSAMPLING, the same, 3) uint8."""
        size = resolution * SUPERSAMPLING
        _, _, pixels, *_ = self._call(
            "getCameraImage",
            size,
            size,
            viewMatrix=self._bullet.computeViewMatrix(EYE, LOOKS_AT, (0, 0, 1)),
            projectionMatrix=self._bullet.computeProjectionMatrixFOV(ANGLE, 1.0, 0.1, 3.0),
            lightDirection=LIGHT,
            lightAmbientCoeff=0.55,
            lightDiffuseCoeff=0.5,
            lightSpecularCoeff=0.05,
            shadow=0,
            renderer=self._bullet.ER_TINY_RENDERER,
            flags=self._bullet.ER_NO_SEGMENTATION_MASK,
        )
        return np.asarray(pixels, np.uint8).reshape(size, size, 4)[..., :3]

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self._bullet, name)(*arguments, physicsClientId=self._client, **options)

    def _simulate(self, steps: int) -> None:
        for _ in range(steps):
            self._call("stepSimulation")

    def _furnish(self) -> None:
        """The table of planks, and the tray on it."""
        for plank in range(PLANKS):
            tone = WOOD * (1.06 if plank % 2 else 0.95 + 0.02 * (plank % 3))
            self._add_box((0.3, (plank - PLANKS // 2) * 0.16, -0.03), (1.2, 0.079, 0.02), tone)
        (x0, y0), (x1, y1) = TRAY
        thickness, height = WALL
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        self._add_box((x, y, -0.005), ((x1 - x0) / 2, (y1 - y0) / 2, 0.005), TRAY_FLOOR)
        long = (thickness, (y1 - y0) / 2 + 2 * thickness, height / 2)
        for edge in (x0 - thickness, x1 + thickness):
            self._add_box((edge, y, height / 2), long, TRAY_WALL, FENCE)
        short = ((x1 - x0) / 2, thickness, height / 2)
        for edge in (y0 - thickness, y1 + thickness):
            self._add_box((x, edge, height / 2), short, TRAY_WALL, FENCE)

    def _add_box(
        self,
        centre: tuple[float, ...],
        half: tuple[float, ...],
        colour: tuple[float, ...] | Floats,
        fence: float | None = None,
    ) -> None:
        """A box that does not move, (x, y, z) in size twice `half`; with `fence`, objects feel it as that high."""
        box = self._bullet.GEOM_BOX
        body = self._call(
            "createMultiBody",
            0,
            self._call("createCollisionShape", box, halfExtents=(*half[:2], half[2] if fence is None else fence)),
            self._call("createVisualShape", box, halfExtents=half, rgbaColor=(*colour, 1)),
            centre,
        )
        self._call("changeDynamics", body, -1, lateralFriction=FRICTION)
        self._call("setCollisionFilterGroupMask", body, -1, BOX, OBJECT)

    def _load_arm(self) -> int:
        """The arm, drawn by the meshes of its collision shapes: the others have 100,000 triangles."""
        folder = data_folder() / "franka_panda"
        text = (folder / "panda.urdf").read_text().replace("meshes/visual/", "meshes/collision/")
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "panda.urdf"
            path.write_text(text.replace("package://", f"{escape(str(folder))}/"))
            arm: int = self._call("loadURDF", str(path), (0, 0, 0), useFixedBase=True)
        for link in range(-1, self._call("getNumJoints", arm)):
            colour = GRIPPER_COLOUR if link >= HAND else ARM_COLOURS[link % 2]
            self._call("changeVisualShape", arm, link, rgbaColor=(*colour, 1))
            self._call("setCollisionFilterGroupMask", arm, link, ARM, OBJECT)
        return arm

    def _joints(self, position: Floats) -> list[float]:
        """Angles of the arm's joints at which the gripper is at a position, pointing down."""
        angles = self._call("calculateInverseKinematics", self._arm, GRIPPER, position, self._down, maxNumIterations=50)
        return list(angles[:ARM_JOINTS])

    def _reset_arm(self) -> None:
        """Put the gripper at its target at once."""
        angles = list(REST)
        for _ in range(20):
            for joint, angle in enumerate(angles):
                self._call("resetJointState", self._arm, joint, angle)
            angles = self._joints(self.target)
        self._steer(self.target)

    def _steer(self, position: Floats) -> None:
        """Command the motors to bring the gripper, its fingers closed, to a position."""
        self._call(
            "setJointMotorControlArray",
            self._arm,
            (*range(ARM_JOINTS), *FINGERS),
            self._bullet.POSITION_CONTROL,
            targetPositions=(*self._joints(position), 0.0, 0.0),
            forces=(ARM_FORCE,) * ARM_JOINTS + (FINGER_FORCE,) * len(FINGERS),
            positionGains=(0.4,) * (ARM_JOINTS + len(FINGERS)),
        )

    def _add_object(self, number: int, place: Floats, rng: np.random.Generator) -> int:
        path = data_folder() / "random_urdfs" / f"{number:03}" / f"{number:03}.obj"
        low, high = extent(path)
        scale = rng.uniform(*OBJECT_SIZE) / (high - low).max()
        shape = {"fileName": str(path), "meshScale": (scale,) * 3}
        middle = -scale * (low + high) / 2  # its own origin may lie anywhere
        mesh = self._bullet.GEOM_MESH
        collision = self._call("createCollisionShape", mesh, collisionFramePosition=middle, **shape)
        visual = self._call(
            "createVisualShape", mesh, visualFramePosition=middle, rgbaColor=(*_colour(rng), 1), **shape
        )
        height = scale * (high - low)[2] / 2 + 0.002
        turn = self._bullet.getQuaternionFromEuler((0, 0, rng.uniform(-np.pi, np.pi)))
        body: int = self._call("createMultiBody", OBJECT_MASS, collision, visual, (*place, height), turn)
        self._call("setCollisionFilterGroupMask", body, -1, OBJECT, OBJECT | BOX | ARM)
        self._call(
            "changeDynamics",
            body,
            -1,
            lateralFriction=FRICTION,
            rollingFriction=0.002,
            spinningFriction=0.002,
            linearDamping=0.3,
            angularDamping=0.3,
        )
        return body


def pybullet() -> ModuleType:
    """The simulator.

    Raises:
        TrivdError: it is not installed.
    """
    if find_spec("pybullet") is None:
        raise TrivdError("robot-pushing is simulated by pybullet, which is missing; run: pip install 'trivd[robot]'")
    with _silence():
        return import_module("pybullet")


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what is written to stderr by C: at its import, pybullet says when it was built."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def data_folder() -> Path:
    """The folder of meshes that come with pybullet."""
    spec = find_spec("pybullet_data")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def extent(path: Path) -> tuple[Floats, Floats]:
    """Lowest and highest coordinates of a mesh's vertices, (3,) each."""
    lines = path.read_text().splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
    return vertices.min(axis=0), vertices.max(axis=0)


def _places(count: int, gripper: Floats, rng: np.random.Generator) -> list[Floats]:
    """Places of objects in the tray, (x, y), apart from each other and from the gripper."""
    places: list[Floats] = []
    while len(places) < count:
        place = rng.uniform(TRAY[0] + 0.05, TRAY[1] - 0.05)
        if all(np.linalg.norm(place - other) > CLEARANCE for other in (gripper, *places)):
            places.append(place)
    return places


def _colour(rng: np.random.Generator) -> Floats:
    """A saturated random colour."""
    hue, saturation, value = rng.uniform(), rng.uniform(0.55, 1.0), rng.uniform(0.55, 1.0)
    ramps = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation * (1 - np.clip(ramps, 0, 1)))
