"""`trivd models`: the list of bundled models."""

from dataclasses import dataclass

from rich.console import Console

from trivd.commands.status import DONE
from trivd.evaluation.bundled import BundledModel, list_models
from trivd.runtime.console import say, show_table

HEADER = ("model", "data", "frames", "pixels", "size", "score (copying the last frame)")


@dataclass(frozen=True)
class Models:
    """List the models that come with trivd, which other commands find by name."""

    def run(self, console: Console) -> int:
        models = list_models()
        show_table(console, HEADER, [_row(model) for model in models])
        for model in models:
            say(console, f"{model.name}: {model.folder / 'README.md'}")
        return DONE


def _row(model: BundledModel) -> list[str]:
    """What the table says of a model."""
    scores = (
        f"{figure.name} {figure.model.text(figure.digits)} ({figure.copy:.{figure.digits}f})"
        for figure in model.scores
        if figure.copy is not None
    )
    return [
        model.name,
        f"{model.data}, {model.recipe or 'comes with trivd'}",
        f"{model.conditioning_frames} -> {model.predicted_frames}",
        f"{model.resolution} x {model.resolution}",
        f"{model.megabytes:.1f} MB, {model.parameters / 1e6:.1f} million parameters",
        "; ".join(scores),
    ]
