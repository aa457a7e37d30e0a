"""The page of a run: its futures, motion, scores and losses in one HTML file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trivd.config import DEFAULT_LIMITS, Config, VideoLimits, level_names
from trivd.data.clips import ClipDataset
from trivd.data.formats.frames import UnreadableVideo
from trivd.evaluation.outcome import REPORT_FILE, Evaluation, read_evaluation
from trivd.evaluation.tables import tables
from trivd.pictures.draw import FPS, GIF_SCALE, encode_gif, encode_png, sample_grid
from trivd.pictures.html import Page, Picture, Section, write_page
from trivd.pictures.plots import frame_curves, loss_curves, score_curves, to_svg
from trivd.prediction.examples import SAMPLES, Example, draw_example
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file
from trivd.training.loop import open_splits
from trivd.training.run import Run

CLIPS = 4  # held-out clips whose futures are shown
FIRST_STEPS = 6  # sample grids of the training, evenly spread
TITLE = "trivd: "  # begins the title of each page


def write_run_page(
    run: Run, beside: str | None = None, data: str | None = None, limits: VideoLimits = DEFAULT_LIMITS
) -> Path:
    """Write RUN/index.html from the run's log, samples, best model and, if there is one, its evaluation.

    Args:
        run: it needs a best model.
        beside: another model, by folder or name; it predicts held-out clips of the same data at the end of the page.
        data: where the run's data lies; None takes what the run names.
        limits: of its videos.

    Raises:
        TrivdError: the folder is not that of a run or cannot be written, the run has no model yet, or the other model
            cannot be loaded.
    """
    config, named = run.read()
    data = named if data is None else data
    if not run.best.is_dir():
        raise TrivdError(f"{run.folder} has no model yet; let it train until its first evaluation.")
    path = run.folder / "index.html"
    check_output_file(path, "copy the run to a place that can be written")
    if path.is_file() and f"<title>{TITLE}" not in path.read_text("utf-8", "replace"):
        raise TrivdError(f"{path} was not written by `trivd report`, and is not overwritten; move it away.")
    predictor = Predictor.from_pretrained(run.best)
    other = None if beside is None else Predictor.from_pretrained(beside)
    held_out = _held_out(config, data, limits)
    rows = run.log_rows()
    report = run.folder / REPORT_FILE
    evaluation = read_evaluation(report) if report.is_file() else None
    parameters = sum(parameter.numel() for parameter in predictor.generator.parameters())
    summary = [
        f"A TrIVD-GAN ({config.model.unit}, decomposition {config.discriminator.decomposition}) trained on {data} for "
        f"{rows[-1]['step'] if rows else 0} steps; {config.model.conditioning_frames} frames given, "
        f"{config.model.predicted_frames} predicted at {config.model.resolution} x {config.model.resolution} pixels.",
        f"The generator has {parameters / 1e6:.1f} million parameters; the model shown is that of step "
        f"{predictor.history['step']}, chosen by its score on training clips.",
        f"It was trained by {config.training.losses}.",
    ]
    sections = _examples(predictor, held_out, evaluation)
    if evaluation:
        sections.append(_scores(evaluation))
    sections.append(_training(run, rows))
    if beside is not None and other is not None:
        sections += _beside(beside, other, data, limits)
    write_page(path, Page(f"{TITLE}{run.folder.name}", summary, sections))
    return path


def _held_out(config: Config, data: str, limits: VideoLimits) -> ClipDataset:
    return open_splits(replace(config, data=replace(config.data, limits=limits)), data)["validation"]


def _examples(predictor: Predictor, held_out: ClipDataset, evaluation: Evaluation | None) -> list[Section]:
    """Futures of the first held-out clips that can be read, and their motion.

    Raises:
        TrivdError: none can be read.
    """
    examples: list[Example] = []
    unreadable: list[str] = []
    for number in range(held_out.evaluation_clips):
        try:
            examples.append(draw_example(predictor, held_out, number))
        except UnreadableVideo as error:
            unreadable.append(str(error))
        if len(examples) == CLIPS:
            break
    if not examples:
        raise TrivdError(f"No held-out clip can be read. The first: {unreadable[0]}")
    items = []
    for number, example in enumerate(examples, start=1):
        rows = example.future_rows()
        grid = encode_png(sample_grid(rows, example.given))
        items.append(Picture(f"Held-out clip {number}", grid, "image/png"))
        side_by_side = np.concatenate([video for _, video in rows], axis=2)
        caption = f"Clip {number}: truth, then {SAMPLES} samples"
        items.append(Picture(caption, encode_gif(side_by_side, FPS, GIF_SCALE), "image/gif"))
    text = "Blue: frames that were given. Orange: frames that the model drew, without seeing the truth."
    text = " ".join([text, *(f"Left out: {sentence}" for sentence in unreadable)])
    sections = [Section("Predicted futures", text, items)]
    if predictor.motion_levels is not None:
        sections.append(_motion(examples, predictor.motion_levels, evaluation))
    return sections


def _motion(examples: Sequence[Example], levels: tuple[int, ...], evaluation: Evaluation | None) -> Section:
    items = []
    for number, example in enumerate(examples, start=1):
        motion, *true_motion = example.motion_rows()
        rows = [("sample", example.futures.video[0]), motion, ("truth", example.clip[example.given :]), *true_motion]
        items.append(Picture(f"Held-out clip {number}", encode_png(sample_grid(rows, 0)), "image/png"))
    text = (
        f"The motion fields are those of {level_names(levels)}. Colours give the direction in which each part moves, "
        "their strength how fast (each picture on its own scale)."
    )
    if evaluation and evaluation.motion:
        text += (
            f" Mean end-point error against the true flow: {evaluation.motion.model:.2f} pixels "
            f"({evaluation.motion.combined_text}); a field without motion has {evaluation.motion.zero_motion:.2f}."
        )
    return Section("Motion fields", text, items)


def _beside(name: str, predictor: Predictor, data: str, limits: VideoLimits) -> list[Section]:
    """Futures and motion of another model, on held-out clips of the same data cut as it takes them."""
    config = predictor.trained_with
    sections = _examples(predictor, _held_out(config, data, limits), None)
    about = (
        f"{config.model.unit}, decomposition {config.discriminator.decomposition}, {predictor.history['step']} steps."
    )
    return [Section(f"Beside it, {name}: {s.heading.lower()}", f"{about} {s.text}", s.items) for s in sections]


def _scores(evaluation: Evaluation) -> Section:
    plot = Picture(
        "Scores by predicted frame", to_svg(frame_curves(evaluation.titled_curves)).encode(), "image/svg+xml"
    )
    clips = "training" if evaluation.protocol.split == "train" else "held-out"
    return Section(f"Scores on {clips} clips", " ".join(evaluation.warnings), [*tables(evaluation), plot])


def _training(run: Run, rows: list[dict[str, float]]) -> Section:
    items = []
    for name, plot in (("Losses", loss_curves), ("Scores while training", score_curves)):
        items.append(Picture(name, to_svg(plot(rows)).encode(), "image/svg+xml"))
    grids = [
        path
        for path in sorted(run.samples.glob("step-*.png"))
        if path.stem.removeprefix("step-").isdecimal() and path.is_file() and not path.is_symlink()
    ]
    chosen = sorted({round(i * (len(grids) - 1) / (FIRST_STEPS - 1)) for i in range(FIRST_STEPS)}) if grids else []
    for grid in (grids[i] for i in chosen):
        items.append(Picture(f"Samples at step {int(grid.stem.removeprefix('step-'))}", grid.read_bytes(), "image/png"))
    return Section("Training", "", items)
