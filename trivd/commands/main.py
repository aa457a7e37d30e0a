"""The command line `trivd`: options come from the dataclasses of `trivd.config` and `trivd.commands`."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console

from trivd.commands.compare import Compare
from trivd.commands.evaluate import Evaluate
from trivd.commands.models import Models
from trivd.commands.predict import Predict
from trivd.commands.prepare import Prepare
from trivd.commands.presets import Presets
from trivd.commands.report import Report
from trivd.commands.repository import repository_command
from trivd.commands.status import BAD_INPUT, INTERRUPTED
from trivd.commands.train import Train
from trivd.commands.weights import Weights
from trivd.presets import preset
from trivd.runtime.console import log_shown, say, take_any_text
from trivd.runtime.errors import TrivdError, os_error_sentence
from trivd.runtime.hardware import set_up_program


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit; bad input prints one sentence and exits with `BAD_INPUT`."""
    set_up_program()
    for stream in (sys.stdout, sys.stderr):
        take_any_text(stream)
    console = Console()
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes that torchrun started here
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with log_shown(console if first else Console(quiet=True)):
            status = _parse(arguments).run(console)
    except TrivdError as error:
        say(Console(stderr=True), f"trivd: {error}")
        status = BAD_INPUT
    except OSError as error:
        say(Console(stderr=True), f"trivd: {os_error_sentence(error)}")
        status = BAD_INPUT
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def _parse(arguments: list[str]) -> Any:
    """The command with its options: defaults, then the preset's, then those of the command line."""
    name = preset_name(arguments)
    chosen = preset(name)
    train = Train(
        tyro.MISSING,
        chosen.model,
        chosen.discriminator,
        chosen.data,
        chosen.training,
        chosen.evaluation,
        name,
    )
    commands: Any = (
        Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Presets, tyro.conf.subcommand("presets")]
        | Annotated[Models, tyro.conf.subcommand("models")]
        | Annotated[Weights, tyro.conf.subcommand("weights")]
        | Annotated[repository_command("benchmark", arguments), tyro.conf.subcommand("benchmark")]
        | Annotated[repository_command("replicate", arguments), tyro.conf.subcommand("replicate")]
    )
    return tyro.cli(
        commands,
        prog="trivd",
        description="Predict the future of a video with TrIVD-GAN-FP.",
        args=arguments,
    )


def preset_name(arguments: Sequence[str]) -> str | None:
    """The value of --preset, which must be known before the other options: it sets their defaults."""
    for position, argument in enumerate(arguments):
        if argument == "--preset" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset=")
    return None
