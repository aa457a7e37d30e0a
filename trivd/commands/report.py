"""`trivd report`: the page of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from trivd.commands.status import DONE
from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.prediction.page import write_run_page
from trivd.runtime.console import say
from trivd.training.run import Run


@dataclass(frozen=True)
class Report:
    """Write a run's page, index.html: samples, motion, losses and scores, viewable without a network."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    beside: str | None = None
    """Another model to show at the end of the page, by folder or name, on the same data."""
    data: str | None = None
    """Where the run's data lies; what the run names if not given."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        page = write_run_page(Run(self.folder), self.beside, self.data, self.limits)
        say(console, f"Written: {page}")
        return DONE
