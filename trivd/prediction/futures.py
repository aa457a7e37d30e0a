"""The files that `trivd predict` writes: videos, a grid, motion fields, arrays."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trivd.config import DEFAULT_LIMITS, MotionLevels, VideoLimits, chosen_levels, level_names
from trivd.data.formats.decode import VideoFile
from trivd.evaluation.predictions.folders import FUTURES_FILE, GRID_FILE
from trivd.pictures.draw import (
    FPS,
    GIF_SCALE,
    color_wheel_legend,
    flow_arrows,
    flow_to_color,
    sample_grid,
    save_gif,
    save_mp4,
    save_png,
)
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically


def write_futures(
    predictor: Predictor,
    clip: Path,
    out: Path,
    sampling: Sampling,
    *,
    start: int | None = None,
    motion: MotionLevels | None = None,
    npz: bool = False,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> Iterator[str]:
    """Draw futures of a clip and write them into a folder.

    Args:
        predictor: draws them.
        clip: a video, a folder of images, or an array.
        out: the folder.
        sampling: which futures.
        start: number of the first given frame, with the rest of the clip as the truth; None: the clip's last frames.
        motion: levels of the motion field; None: the model's own, see `Predictor.motion_levels`.
        npz: whether to write the frames as an array too.
        limits: of what the clip may ask of the machine.

    Yields:
        a sentence for each file, or kind of files, once it is there.

    Raises:
        TrivdError: the clip cannot be read, is too short, or an argument is out of range.
    """
    config, fps = predictor.config, predictor.trained_with.data.fps
    info = VideoFile(clip, limits, fps).probe()
    if (info.height, info.width) != (config.resolution, config.resolution):
        yield (
            f"{clip}: {info.width} x {info.height} pixels, resized and centre-cropped to the model's "
            f"{config.resolution} x {config.resolution}."
        )
    if fps is not None and info.rate is None:
        yield f"{clip} has no times; its frames are taken as if there were {fps:g} a second, as in training."
    elif fps is not None and f"{info.rate:.4g}" != f"{fps:.4g}":
        yield f"{clip}: {info.rate:.4g} frames a second, read at {fps:g} as in training."
    count = config.predicted_frames if sampling.frames is None else sampling.frames
    if count < 1:
        raise TrivdError(f"Cannot draw futures of {count} frames; --frames must be at least 1.")
    yield from predictor.statistics_note(sampling.truncation, "the model")
    past, truth = predictor.read(clip, start, count, limits)
    levels = predictor.motion_levels if motion is None else chosen_levels(motion, config.recurrent_resolutions)
    futures = predictor.draw(past, sampling, levels)
    rows = [(f"sample {i + 1}", np.concatenate([past, video])) for i, video in enumerate(futures.video)]
    for name, video in rows:
        stem = name.replace(" ", "-")
        save_mp4(out / f"{stem}.mp4", video, FPS)
        save_gif(out / f"{stem}.gif", video, FPS, GIF_SCALE)
    yield f"{out}/sample-*.mp4 and .gif: {len(past)} given frames, then {count} predicted ones."
    if len(truth):
        missing = np.full((count - len(truth), *truth.shape[1:]), 255, np.uint8)  # white where the clip has ended
        rows.append(("truth", np.concatenate([past, truth, missing])))
    save_png(out / GRID_FILE, sample_grid(rows, len(past)))
    yield f"{out}/{GRID_FILE}: {'samples and truth' if len(truth) else 'samples'}, side by side."
    if futures.motion is not None and levels is not None:
        flow = futures.motion[:, 0]  # (T, 2, H, W) of the first sample
        # Backward flow says where content came from; its negative, where it goes.
        colors = flow_to_color(-flow)
        arrows = np.stack([flow_arrows(frame, f, 4, 2) for frame, f in zip(futures.video[0], flow, strict=True)])
        save_png(out / "motion.png", sample_grid([("sample 1", futures.video[0]), ("motion", colors)], 0))
        save_gif(out / "motion-arrows.gif", arrows, FPS)
        save_png(out / "motion-legend.png", color_wheel_legend(128))
        yield (
            f"{out}/motion.png and motion-arrows.gif: the motion field of sample 1, {level_names(levels)} "
            "(colours: motion-legend.png)."
        )
    if npz:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, futures=futures.video, past=past)
        write_atomically(out / FUTURES_FILE, buffer.getvalue())
        yield f"{out}/{FUTURES_FILE}: futures {futures.video.shape}, uint8."
