"""The generated blocks of a bundled model's card: what it is, how it was trained, and what it scores."""

import shlex
from collections.abc import Iterator
from textwrap import fill
from typing import Any

from trivd.config import Config, from_dict
from trivd.evaluation.bundled import DISTANCE
from trivd.evaluation.outcome import Evaluation
from trivd.evaluation.tables import tables
from trivd.models.generator import Generator
from trivd.pictures.markdown import markdown_table
from trivd.presets import PRESETS
from trivd.training.run import CHANGEABLE, differences

WIDTH = 100  # of a line
UNSAID = CHANGEABLE - {"training.steps", "training.minutes"} | {"data.limits"}  # no weights depend on these
NEW_CARD = """# {name}: a bundled model

<!-- model -->
<!-- end of model -->

## Figures

<!-- figures -->
<!-- end of figures -->

## Limits

Nobody has described its samples yet.
"""


def model_block(name: str, generator: Generator, history: dict[str, Any], digest: str) -> str:
    """What the model is, how it is used, and how it came about.

    Args:
        name: of the model.
        generator: E and G.
        history: of its weights, with the hardware and the date of the training.
        digest: of its weights.
    """
    model, config = generator.config, from_dict(Config, history["config"], "the model's history")
    training, size = config.training, f"{model.resolution} x {model.resolution}"
    tensors = generator.state_dict().values()
    what = (
        f"A TrIVD-GAN (unit {model.unit}, decomposition {config.discriminator.decomposition}; "
        f"{sum(parameter.numel() for parameter in generator.parameters()) / 1e6:.1f} million parameters, "
        f"{sum(tensor.nbytes for tensor in tensors) / 1e6:.1f} MB in float32) that continues "
        f"{model.conditioning_frames} frames of {size} pixels by {model.predicted_frames}, or by more from its own "
        "frames. It is found by its name:"
    )
    planned = f"{training.steps:,} steps" if training.minutes is None else f"{training.minutes:g} minutes"
    chosen = f"; of the evaluations every {training.evaluate_every:,} steps, these came nearest to training clips"
    if history["step"] == training.steps:  # perhaps the last ones, whatever their scores
        chosen = ""
    how = (
        f"{training.batch_size} clips per step, seed {training.seed}; the run was planned for {planned}. These are the "
        f"weights after {history['step']:,} steps, {history['seconds'] / 3600:.1f} hours, trained by "
        f"{training.losses} on {history['hardware']} ({history['date']}). They are the moving average{chosen}. "
        f"Weights {digest}. Licence: Apache-2.0."
    )
    recipe = history.get("recipe")
    return "\n\n".join(
        [
            _wrapped(what),
            _shell(evaluation_command(name, history), f"trivd predict clip.mp4 --model {name}"),
            "Its training, as this version would name its settings:",
            _shell(*([recipe] if recipe else []), train_command(config, "STORE" if recipe else history["data"])),
            _wrapped(how),
        ]
    )


def figures_block(name: str, history: dict[str, Any], evaluation: Evaluation) -> str:
    """All scores, with the command and the protocol."""
    protocol = evaluation.protocol
    options = f"--clips {protocol.clips} --best-of-clips {protocol.best_of_clips} --samples {protocol.samples}"
    if protocol.runs > 1:
        options += f" --runs {protocol.runs}"
    parts = [_shell(f"{evaluation_command(name, history)} {options}")]
    parts += [
        _wrapped(f"{figure.name} is {figure.model.mean / figure.copy:.2f} times that of copying the last frame.")
        for figure in evaluation.figures
        if figure.name.startswith(DISTANCE) and figure.copy
    ]
    parts += [markdown_table(table.header, table.rows) for table in tables(evaluation)]
    parts += [_wrapped(f"**{warning}**") for warning in evaluation.warnings]
    return "\n\n".join([*parts, _wrapped(f"Protocol: {protocol}.")])


def evaluation_command(name: str, history: dict[str, Any]) -> str:
    """The command that scores a bundled model."""
    return f"trivd evaluate {name}" + (" STORE" if "recipe" in history else "")


def train_command(config: Config, data: str) -> str:
    """The shortest command that trains with these settings: a preset, and what differs from it.

    Args:
        config: the settings.
        data: as the command names them.
    """
    changes = {name: _options(config, preset.config) for name, preset in PRESETS.items()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return shlex.join(["trivd", "train", data, "--preset", nearest, *changes[nearest]])


def _options(config: Config, preset: Config) -> list[str]:
    """The options that make a preset's settings these ones."""
    changed = {name: value for name, value in differences(config, preset).items() if name not in UNSAID}
    return [word for name, value in changed.items() for word in _words(name.replace("_", "-"), value)]


def _words(name: str, value: Any) -> Iterator[str]:
    """An option of the command line."""
    if isinstance(value, bool):
        section, _, setting = name.partition(".")
        yield f"--{section}.{'' if value else 'no-'}{setting}"
        return
    yield f"--{name}"
    yield from map(str, value if isinstance(value, list) else [value])


def _shell(*commands: str) -> str:
    return "\n".join(["```bash", *commands, "```"])


def _wrapped(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
