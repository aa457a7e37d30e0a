"""The bundled models and what is known of them: what `trivd models` lists."""

from dataclasses import dataclass
from pathlib import Path

import torch

from trivd.evaluation.figures import ONE
from trivd.evaluation.outcome import REPORT_FILE, Figure, read_evaluation
from trivd.models.pretrained import WEIGHTS_FILE, bundled_folders, load_generator

DISTANCE = "FVD"  # begins the names of Fréchet distances


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with trivd."""

    name: str  # by which `trivd.load` finds it
    folder: Path  # README.md there is its card
    data: str  # what it was trained on
    recipe: str | None  # the command that makes these data; None: they come with trivd too
    conditioning_frames: int
    predicted_frames: int
    resolution: int  # pixels
    parameters: int  # of E and G
    megabytes: float  # of its weights
    scores: tuple[Figure, ...]  # Fréchet distances, and PSNR and SSIM of one sample, with those of copying beside them


def list_models() -> list[BundledModel]:
    """The bundled models by name, described by the files beside their weights.

    Raises:
        TrivdError: a file is missing or damaged.
    """
    return [_described(folder) for folder in bundled_folders().values()]


def _described(folder: Path) -> BundledModel:
    """A model from its files."""
    generator, history = load_generator(folder, torch.device("cpu"))
    figures = read_evaluation(folder / REPORT_FILE).figures
    return BundledModel(
        name=folder.name,
        folder=folder,
        data=history["data"],
        recipe=history.get("recipe"),
        conditioning_frames=generator.config.conditioning_frames,
        predicted_frames=generator.config.predicted_frames,
        resolution=generator.config.resolution,
        parameters=sum(parameter.numel() for parameter in generator.parameters()),
        megabytes=(folder / WEIGHTS_FILE).stat().st_size / 1e6,
        scores=tuple(figure for figure in figures if figure.name.startswith(DISTANCE) or figure.name.endswith(ONE)),
    )
