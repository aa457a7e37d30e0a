"""The embedded data set `moving-digits`: handwritten digits that bounce over a panning background, with true flow.

The digits are the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, CC BY 4.0,
doi 10.24432/C50P49), bundled as `optdigits.npz`; see `OPTDIGITS.md`.

A scene is a set of continuous functions of the unit square (lattices interpolated by a cubic), evaluated at the pixels
of each frame. So motion is exact to a fraction of a pixel, nothing is blurred by resampling, and the same clip can
be drawn at any resolution and for any number of frames.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trivd.data.splits import SPLITS, Split

Floats = NDArray[np.float32]

CLASSES = tuple("0123456789")
VALIDATION_EVERY = 5  # each fifth handwritten image is drawn in validation clips only
DIGIT_CELLS = 8  # lattice cells across a handwritten digit
DIGIT_MARGIN = 1  # cells around it over which its strokes fade out
DIGIT_SIZE = (0.30, 0.42)  # range of a digit's height, in frames
DIGIT_SPEED = (1 / 64, 1 / 16)  # range, in frames' widths per time step: 0.5 to 2 pixels at 32 pixels
PAN_SPEED = (1 / 80, 1 / 32)  # range for the background, same unit: 0.8 to 2 pixels at 64 pixels
TEXTURE_CELLS = 16  # lattice cells of the background across a frame
TEXTURE_PERIOD = 2  # frames after which the background repeats
OCTAVES = ((4, 0.09), (8, 0.06), (16, 0.05), (32, 0.04))  # cells in a period, standard deviation (white is 1)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Flow(NamedTuple):
    """Backward optical flow of a clip: the content of pixel p in frame t was at p + flow in frame t - 1."""

    flow: Floats  # (T-1, 2, H, W) in pixels, channels (x, y)
    visible: NDArray[np.bool_]  # (T-1, H, W), False where it was hidden or outside of frame t - 1


@dataclass(frozen=True)
class _Scene:
    """The scene of a clip, in units of the frame and of one time step; digits from the farthest to the nearest."""

    images: Floats  # (D, 8, 8) in [0, 1]
    labels: NDArray[np.uint8]  # (D,)
    colours: Floats  # (D, 3) in [0, 1]
    sizes: Floats  # (D,)
    corners: Floats  # (D, 2) top left (x, y) at time 0, before bouncing
    velocities: Floats  # (D, 2)
    pan_start: Floats  # (2,)
    pan_velocity: Floats  # (2,)


class MovingDigits:
    """Clips by number: the same number, split and seed always give the same clip, up to a machine's rounding.

    Training and validation clips share neither handwritten images nor random numbers.

    Args:
        split: train or validation.
        frames: number T of frames of a clip.
        stride: time steps between neighbouring frames.
        resolution: height and width in pixels.
        channels: 3 (RGB) or 1 (grey).
        digits: number of digits in a clip.
        clips: number of clips of the split.
        seed: seed of all that is random.
    """

    classes = CLASSES

    def __init__(
        self,
        split: Split,
        *,
        frames: int,
        stride: int,
        resolution: int,
        channels: int,
        digits: int,
        clips: int,
        seed: int = 0,
    ) -> None:
        with np.load(str(files("trivd.data.datasets") / "optdigits.npz"), allow_pickle=False) as table:
            held_out = np.arange(len(table["labels"])) % VALIDATION_EVERY == 0
            chosen = held_out if split == "validation" else ~held_out
            self.images: Floats = table["images"][chosen].astype(np.float32) / 16
            self.labels: NDArray[np.uint8] = table["labels"][chosen]
        self.split = split
        self.resolution = resolution
        self.channels = channels
        self.digits = digits
        self.clips = clips
        self.seed = seed
        self.times = np.arange(frames, dtype=np.float32) * stride
        self._centres = (np.arange(resolution, dtype=np.float32) + np.float32(0.5)) / np.float32(resolution)
        period = TEXTURE_CELLS * TEXTURE_PERIOD
        self._refine = [_periodic_weights(np.arange(period) * (cells / period), cells) for cells, _ in OCTAVES]

    def __len__(self) -> int:
        return self.clips

    def label(self, index: int) -> int:
        """Class of the digit nearest to the viewer."""
        return int(self._scene(index).labels[-1])

    def clip(self, index: int) -> NDArray[np.uint8]:
        """The clip as (T, H, W, C) uint8."""
        scene = self._scene(index)
        colours = scene.colours if self.channels == 3 else scene.colours @ LUMA[:, None]  # (D, C)
        video = self._background(index, scene)  # (T, C, H, W)
        for digit, (rows, columns, alpha) in enumerate(self._alphas(scene)):
            for t in range(len(video)):
                window = video[t, :, rows[t], columns[t]]
                window += alpha[t] * (colours[digit][:, None, None] - window)
        np.clip(video, 0, 1, out=video)
        video *= 255
        video += 0.5  # round to nearest
        pixels = np.empty((len(video), *video.shape[2:], self.channels), np.uint8)
        for channel in range(self.channels):  # several times as fast as one transposed copy
            pixels[..., channel] = video[:, channel]
        return pixels

    def flow(self, index: int) -> Flow:
        """The true motion of a clip, known by construction.

        A pixel belongs to the nearest digit that covers at least half of it, else to the background.
        """
        scene = self._scene(index)
        frames, size = len(self.times), self.resolution
        covers = np.zeros((self.digits, frames, size, size), np.float32)
        for digit, (rows, columns, alpha) in enumerate(self._alphas(scene)):
            for t in range(frames):
                covers[digit, t, rows[t], columns[t]] = alpha[t]

        pan = np.broadcast_to(scene.pan_velocity * (self.times[1] - self.times[0]), (frames - 1, 2)) * size
        steps = [pan, *(-size * np.diff(self._corners(scene), axis=1))]  # (T-1, 2) of each layer, farthest first
        flow = np.empty((frames - 1, 2, size, size), np.float32)
        visible = np.empty((frames - 1, size, size), np.bool_)
        grid = np.arange(size, dtype=np.float32)
        for layer, step in enumerate(steps):  # layer 0 is the background; nearer ones overwrite
            nearer = covers[layer:].max(axis=0, initial=0.0)
            for t in range(frames - 1):
                mine = covers[layer - 1, t + 1] >= 0.5 if layer else np.ones((size, size), np.bool_)
                x, y = grid + step[t, 0], grid + step[t, 1]
                inside = ((y >= 0) & (y <= size - 1))[:, None] & ((x >= 0) & (x <= size - 1))
                flow[t, :, mine] = step[t]
                visible[t, mine] = (inside & (_bilinear(nearer[t], x, y) < 0.5))[mine]
        return Flow(flow, visible)

    def _scene(self, index: int) -> _Scene:
        if not 0 <= index < self.clips:
            raise IndexError(f"clip {index} of {self.clips}")
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        chosen = rng.integers(len(self.labels), size=self.digits)
        sizes = rng.uniform(*DIGIT_SIZE, self.digits).astype(np.float32)
        hues = rng.uniform() + np.arange(self.digits) / self.digits + rng.uniform(-0.1, 0.1, self.digits)
        return _Scene(
            images=self.images[chosen],
            labels=self.labels[chosen],
            colours=_bright(hues, rng.uniform(0.35, 1.0, self.digits)),
            sizes=sizes,
            corners=rng.uniform(size=(self.digits, 2)).astype(np.float32) * _room(sizes),
            velocities=_velocities(rng, DIGIT_SPEED, self.digits),
            pan_start=rng.uniform(0, TEXTURE_PERIOD, 2).astype(np.float32),
            pan_velocity=_velocities(rng, PAN_SPEED, 1)[0],
        )

    def _corners(self, scene: _Scene) -> Floats:
        """Top left (x, y) of each digit in each frame, (D, T, 2): straight lines folded at the borders."""
        room = _room(scene.sizes)[:, None]
        free = scene.corners[:, None] + self.times[:, None] * scene.velocities[:, None]
        return np.asarray(room - np.abs(free % (2 * room) - room), np.float32)

    def _alphas(self, scene: _Scene) -> list[tuple[list[slice], list[slice], Floats]]:
        """Rows and columns of each digit in each frame, and the share of each pixel there that it covers, (T, h, w)."""
        drawn = []
        for image, side, corner in zip(scene.images, scene.sizes, self._corners(scene), strict=True):
            cell = side / DIGIT_CELLS  # in frames
            window = min(int(np.ceil((DIGIT_CELLS + 2 * DIGIT_MARGIN) * cell * self.resolution)) + 1, self.resolution)
            first = np.minimum((corner * self.resolution).astype(np.int64), self.resolution - window)  # (T, 2)
            centres = (first[..., None] + np.arange(window) + 0.5) / self.resolution  # (T, 2, w) in frames
            cells = (centres - corner[..., None]) / cell - (DIGIT_MARGIN + 0.5)  # 0 is the centre of the first cell
            weights = _cubic(cells[..., None].astype(np.float32) - np.arange(DIGIT_CELLS, dtype=np.float32))
            ink = weights[:, 1] @ image @ weights[:, 0].swapaxes(1, 2)  # (T, h, w)
            # A stroke's edge rises over about one cell; this makes it rise over about one pixel.
            sharpness = max(1.6, float(cell) * self.resolution)
            alpha = np.clip((ink - 0.4) * np.float32(sharpness) + 0.5, 0, 1)
            columns, rows = ([slice(begin, begin + window) for begin in first[:, axis]] for axis in (0, 1))
            drawn.append((rows, columns, alpha))
        return drawn

    def _background(self, index: int, scene: _Scene) -> Floats:
        """The panning texture, (T, C, H, W) around the middle of [0, 1]."""
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index, 1))
        period = TEXTURE_CELLS * TEXTURE_PERIOD
        lattice = np.broadcast_to(rng.uniform(0.35, 0.6, (3, 1, 1)).astype(np.float32), (3, period, period)).copy()
        for (cells, deviation), refine in zip(OCTAVES, self._refine, strict=True):
            lattice += deviation * (refine @ rng.standard_normal((3, cells, cells), np.float32) @ refine.T)
        if self.channels == 1:
            lattice = np.tensordot(LUMA, lattice, 1)[None]
        start = scene.pan_start + self.times[:, None] * scene.pan_velocity  # (T, 2)
        positions = (start[..., None] + self._centres) * TEXTURE_CELLS  # (T, 2, R)
        weights = _periodic_weights(positions, period)[:, None]  # (T, 1, 2, R, period)
        rows, columns = weights[:, :, 1], weights[:, :, 0]
        return np.asarray(rows @ lattice @ columns.swapaxes(2, 3), np.float32)


def _room(sizes: Floats) -> Floats:
    """Distance that the corner of a digit with its margin can move within the frame, (D, 1)."""
    return np.asarray(1 - sizes[:, None] * ((DIGIT_CELLS + 2 * DIGIT_MARGIN) / DIGIT_CELLS), np.float32)


def _velocities(rng: np.random.Generator, speeds: tuple[float, float], count: int) -> Floats:
    speed, angle = rng.uniform(*speeds, count), rng.uniform(0, 2 * np.pi, count)
    return np.stack([speed * np.cos(angle), speed * np.sin(angle)], axis=1).astype(np.float32)


def _bright(hues: NDArray[np.float64], saturations: NDArray[np.float64]) -> Floats:
    """RGB colours of full value, (D, 3)."""
    ramps = np.abs((hues[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return (1 - saturations[:, None] * (1 - np.clip(ramps, 0, 1))).astype(np.float32)


def _cubic(distance: Floats) -> Floats:
    """Weight of a lattice point at a signed distance in cells (Catmull-Rom spline, which interpolates the points)."""
    x = np.minimum(np.abs(distance), 2)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, near, far)


def _periodic_weights(positions: NDArray[np.floating], period: int) -> Floats:
    """Weights of the lattice points 0 ... period - 1, which repeat periodically: (..., period)."""
    at = np.asarray(positions, np.float32)[..., None]
    points = (np.floor(at).astype(np.int64) + np.arange(-1, 3)) % period  # all others have no weight
    offset = at - points.astype(np.float32)
    nearest = offset - period * np.rint(offset / period)  # of each point's repetitions
    weights = np.zeros((*at.shape[:-1], period), np.float32)
    np.put_along_axis(weights, points, _cubic(np.asarray(nearest, np.float32)), axis=-1)
    return weights


def _bilinear(image: Floats, x: Floats, y: Floats) -> Floats:
    """`image` (H, W) at the grid of columns x and rows y, positions beyond its border taken from the border."""
    for axis, positions in ((0, y), (1, x)):
        last = image.shape[axis] - 1
        positions = np.clip(positions, 0, last)
        low = np.minimum(positions.astype(np.int64), max(last - 1, 0))
        share = np.expand_dims(positions - low, 1 - axis)
        image = image.take(low, axis) * (1 - share) + image.take(np.minimum(low + 1, last), axis) * share
    return image
