"""`trivd compare`: futures of several models, or of several truncations of z, side by side."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from trivd.commands.status import DONE
from trivd.config import DEFAULT_LIMITS, VideoLimits
from trivd.data.splits import Split
from trivd.prediction.columns import clips_in_words, held_out_clips, open_columns
from trivd.prediction.comparison import check_every, named_clips, random_clips, write_comparison
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_folder
from trivd.runtime.words import counted


@dataclass(frozen=True)
class Compare:
    """Draw futures of the same held-out clips by several models: MP4s side by side, strips of frames, and a page."""

    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL[:TRUNCATION] ... CLIPS")]
    """Models, each with its truncation of z if any (MODEL:0.8, MODEL:0 for z = 0); last, the data to predict."""
    count: int = 8
    """How many random clips."""
    clips: tuple[int, ...] | None = None
    """Numbers of the clips to show instead of random ones, as the page names them."""
    seed: int = 0
    """Of the choice of clips, and of z."""
    split: Split | None = None
    """Whose clips. Default: those of the validation split, or of the test split where there is no other."""
    every: int = 2
    """Which frames the strips show: 1 all of them, 2 every second one, ..."""
    out: Path | None = None
    """Folder for the files; comparisons/CLIPS if not given. It must not hold files yet."""
    limits: VideoLimits = DEFAULT_LIMITS

    def run(self, console: Console) -> int:
        if len(self.words) < 2:
            raise TrivdError("Name at least one model, and last the clips: trivd compare MODEL[:TRUNCATION] ... CLIPS.")
        for option, number in (("--count", self.count), ("--every", self.every)):
            if number < 1:
                raise TrivdError(f"{option} is {number}; it must be at least 1.")
        if self.clips == ():
            raise TrivdError("--clips needs the number of at least one clip.")
        *models, data = self.words
        out = self.out or Path("comparisons") / Path(data).absolute().name
        check_output_folder(out, empty=True)
        columns = open_columns(models, self.seed)
        check_every(columns, self.every)
        held_out = held_out_clips(columns, data, self.split, self.limits)
        if self.clips is not None:
            clips, unreadable = named_clips(held_out, self.clips), list[str]()
        else:
            clips, unreadable = random_clips(held_out, self.count, self.seed)
        again = ["trivd", "compare", *self.words, "--split", held_out.split, "--seed", str(self.seed)]
        about = [
            f"{counted(len(clips), 'named clip' if self.clips else 'random clip')} of {data}, "
            f"{held_out.split} split, which has {held_out.evaluation_clips:,}: {clips_in_words(columns[0])}.",
            f"To show some of them alone: {shlex.join(again)} --clips NUMBER ... --out FOLDER",
            *(note for column in columns for note in column.predictor.statistics_note(column.truncation, column.name)),
            *(f"Left out: {sentence}" for sentence in unreadable),
        ]
        for line in (*held_out.summary, *about):
            say(console, line)
        for line in write_comparison(columns, clips, out, about=about, seed=self.seed, every=self.every):
            say(console, line)
        return DONE
