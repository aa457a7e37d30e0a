"""`trivd train`: a model on moving-digits, videos, or a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from trivd.commands.status import DONE, STOPPED
from trivd.config import Config, DataConfig, DiscriminatorConfig, EvaluationConfig, ModelConfig, TrainingConfig
from trivd.presets import PRESETS
from trivd.runtime.distributed import started_processes
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import ANOTHER_OUT, is_utf8
from trivd.training.loop import train
from trivd.training.plan import print_plan
from trivd.training.run import Run
from trivd.training.trial import fitting_size


@dataclass(frozen=True)
class Train:
    """Train a model on moving-digits, a folder of videos, or a store; repeat the command to resume after a stop."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """moving-digits, a folder of videos (sub-folders are classes), one video, or a store made by `trivd prepare`."""
    model: ModelConfig
    discriminator: DiscriminatorConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    preset: str | None = None
    """Settings to start from; `trivd presets` lists them. Options given here win."""
    out: Path | None = None
    """Folder of the run; runs/DATA-PRESET if not given."""
    dry_run: bool = False
    """Print sizes, FLOPs and memory of a step, and exit."""

    def run(self, console: Console) -> int:
        config = Config(self.model, self.discriminator, self.data, self.training, self.evaluation)
        if self.dry_run:
            print_plan(config, started_processes(), console)
            return DONE
        folder = self.out or Path("runs") / f"{Path(self.source).name}-{self.preset or 'default'}"
        if not is_utf8(folder):
            raise TrivdError(f"{folder} is not UTF-8, which TensorBoard's files need; {ANOTHER_OUT}.")
        run, preset = Run(folder), PRESETS.get(self.preset or "")
        if preset is not None and preset.larger is not None and config == preset.config:  # no settings of one's own
            config = fitting_size(config, PRESETS[preset.larger].config, self.source, run, console)
        return DONE if train(config, self.source, run, console) else STOPPED
