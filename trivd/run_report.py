"""The page of a run: what it learned, seen and counted."""

from pathlib import Path

import numpy as np
import torch

from trivd.data.clips import ClipDataset, DigitClips
from trivd.errors import TrivdError
from trivd.evaluation.protocol import Evaluation, read_evaluation
from trivd.evaluation.tables import tables
from trivd.plots import frame_curves, loss_curves, score_curves, to_svg
from trivd.predict import Predictor
from trivd.report import Picture, Report, Section, write_report
from trivd.training.loop import open_splits
from trivd.training.run import Run
from trivd.visualize import encode_gif, encode_png, flow_to_color, sample_grid

CLIPS = 4  # held-out clips whose futures are shown
SAMPLES = 2
FPS = 8.0
GIF_SCALE = 4
FIRST_STEPS = 6  # sample grids of the training, evenly spread


def write_run_report(run: Run) -> Path:
    """Write RUN/index.html from the run's log, samples, best model and, if there is one, its evaluation.

    Raises:
        TrivdError: the folder is not that of a run, or the run has no model yet.
    """
    config, data = run.read()
    if not run.best.is_dir():
        raise TrivdError(f"{run.folder} has no model yet; let it train until its first evaluation.")
    predictor = Predictor.from_pretrained(run.best)
    held_out = open_splits(config, data)["validation"]
    rows = run.log_rows()
    evaluation_file = run.folder / "report.json"
    evaluation = read_evaluation(evaluation_file) if evaluation_file.is_file() else None
    parameters = sum(parameter.numel() for parameter in predictor.generator.parameters())
    summary = [
        f"A TrIVD-GAN ({config.model.unit}, decomposition {config.discriminator.decomposition}) trained on {data} for "
        f"{rows[-1]['step'] if rows else 0} steps; {config.model.conditioning_frames} frames given, "
        f"{config.model.predicted_frames} predicted at {config.model.resolution} x {config.model.resolution} pixels.",
        f"The generator has {parameters / 1e6:.1f} million parameters; the model shown is that of step "
        f"{predictor.history['step']}, chosen by its score on training clips.",
        f"It was trained by {config.training.losses}.",
    ]
    sections = [_predictions(predictor, held_out)]
    if predictor.generator.warps:
        sections.append(_motion(predictor, held_out, evaluation))
    if evaluation:
        sections.append(_scores(evaluation))
    sections.append(_training(run, rows))
    page = run.folder / "index.html"
    write_report(page, Report(f"trivd: {run.folder.name}", summary, sections))
    return page


def _predictions(predictor: Predictor, held_out: ClipDataset) -> Section:
    given = predictor.config.conditioning_frames
    items = []
    for index in range(min(CLIPS, held_out.evaluation_clips)):
        clip = held_out.evaluation_clip(index)
        label = clip.label if predictor.config.classes else 0
        futures = predictor.predict(clip.video[:given], SAMPLES, label=label)
        rows = [("truth", clip.video)]
        rows += [(f"sample {i + 1}", np.concatenate([clip.video[:given], f])) for i, f in enumerate(futures)]
        items.append(Picture(f"Held-out clip {index + 1}", encode_png(sample_grid(rows, given)), "image/png"))
        side_by_side = np.concatenate([video for _, video in rows], axis=2)
        caption = f"Clip {index + 1}: truth, then {SAMPLES} samples"
        items.append(Picture(caption, encode_gif(side_by_side, FPS, GIF_SCALE), "image/gif"))
    text = "Blue: frames that were given. Orange: frames that the model drew, without seeing the truth."
    return Section("Predicted futures", text, items)


def _motion(predictor: Predictor, held_out: ClipDataset, evaluation: Evaluation | None) -> Section:
    given = predictor.config.conditioning_frames
    items = []
    for index in range(min(CLIPS, held_out.evaluation_clips)):
        clip = held_out.evaluation_clip(index)
        label = clip.label if predictor.config.classes else 0
        futures = predictor.draw(clip.video[:given], 1, None, 0, None, label, motion=True)
        assert futures.motion is not None
        rows = [("sample", futures.video[0]), ("its motion", flow_to_color(-futures.motion[:, 0]))]
        if isinstance(held_out, DigitClips):
            true = torch.from_numpy(held_out.digits.flow(index).flow)
            rows.append(("truth", clip.video[given:]))
            rows.append(("true motion", flow_to_color(-true[given - 1 :])))
        items.append(Picture(f"Held-out clip {index + 1}", encode_png(sample_grid(rows, 0)), "image/png"))
    text = (
        "Colours give the direction in which each part moves, their strength how fast (each picture on its own scale)."
    )
    if evaluation and evaluation.motion:
        text += (
            f" Mean end-point error against the true flow: {evaluation.motion.model:.2f} pixels; "
            f"a field without motion has {evaluation.motion.zero_motion:.2f}."
        )
    return Section("Motion fields", text, items)


def _scores(evaluation: Evaluation) -> Section:
    plot = Picture("Scores by predicted frame", to_svg(frame_curves(evaluation.curves)).encode(), "image/svg+xml")
    return Section("Scores on held-out clips", " ".join(evaluation.warnings), [*tables(evaluation), plot])


def _training(run: Run, rows: list[dict[str, float]]) -> Section:
    items = []
    for name, plot in (("Losses", loss_curves), ("Scores while training", score_curves)):
        items.append(Picture(name, to_svg(plot(rows)).encode(), "image/svg+xml"))
    grids = sorted(run.samples.glob("step-*.png"))
    chosen = sorted({round(i * (len(grids) - 1) / (FIRST_STEPS - 1)) for i in range(FIRST_STEPS)}) if grids else []
    for grid in (grids[i] for i in chosen):
        items.append(Picture(f"Samples at step {int(grid.stem.removeprefix('step-'))}", grid.read_bytes(), "image/png"))
    return Section("Training", "", items)
