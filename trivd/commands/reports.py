"""Files that `trivd evaluate` writes: a report for each model, with tables and a plot, and one of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trivd.evaluation.outcome import REPORT_FILE, Evaluation
from trivd.evaluation.predictions.folders import short_names
from trivd.evaluation.several import (
    JOINT_FILE,
    Evaluations,
    joint_curves,
    joint_markdown,
    joint_protocols,
    joint_table,
    joint_warnings,
    save_joint,
)
from trivd.evaluation.subjects import Progress
from trivd.evaluation.tables import markdown
from trivd.pictures.plots import frame_curves, to_png
from trivd.runtime.console import say, show_table
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

SUFFIX = ".json"


@dataclass(frozen=True)
class Outputs:
    """The JSON files of an evaluation."""

    reports: dict[str, Path]  # by the name of the model
    joint: Path | None  # of all models, if there are several

    @property
    def all(self) -> list[Path]:
        """All JSON files."""
        return [*self.reports.values(), *([] if self.joint is None else [self.joint])]


def outputs_of_folders(folders: Sequence[Path], out: Path | None) -> Outputs:
    """Where the reports of folders of predictions go.

    Args:
        folders: of one or more models.
        out: the report of one, or that of all, beside which the reports of each then are; None: each in its folder,
            and that of all here.

    Raises:
        TrivdError: a folder is named twice, or two reports would be the same file.
    """
    names = short_names(folders)
    if len(folders) == 1:
        return Outputs({names[0]: out or folders[0] / REPORT_FILE}, None)
    if out is None:
        own = [folder / REPORT_FILE for folder in folders]
    else:
        start = out.name.removesuffix(SUFFIX)
        own = [out.with_name(f"{start}-{name.replace('/', '-')}{SUFFIX}") for name in names]
        if len(set(own)) < len(own):
            raise TrivdError(f"Reports of {', '.join(names)} beside {out} would have the same name; leave out --out.")
    return Outputs(dict(zip(names, own, strict=True)), out or Path(JOINT_FILE))


def beside(out: Path) -> tuple[Path, Path]:
    """The files of a report's plot and tables."""
    # Not with_suffix, which would cut truncation-0.8 down to truncation-0.
    picture, tables = (out.with_name(out.name.removesuffix(SUFFIX) + suffix) for suffix in (".png", ".md"))
    return picture, tables


def write_beside(evaluation: Evaluation, out: Path) -> None:
    """Write tables and a plot beside the JSON report."""
    picture, tables = beside(out)
    write_atomically(picture, to_png(frame_curves(evaluation.titled_curves)))
    write_atomically(tables, markdown(evaluation, picture.name).encode(errors="replace"))


def write_joint(evaluations: Evaluations, out: Path, console: Console) -> None:
    """Print the table of several models, and write it with its plot and the JSON report of all."""
    picture, tables = beside(out)
    write_atomically(picture, to_png(frame_curves(joint_curves(evaluations))))
    write_atomically(tables, joint_markdown(evaluations, picture.name).encode(errors="replace"))
    save_joint(out, evaluations)
    table = joint_table(evaluations)
    show_table(console, table.header, table.rows)
    for warning in joint_warnings(evaluations):
        say(console, warning, "yellow")
    for line in joint_protocols(evaluations):
        say(console, f"Protocol of {line}")


def part_of(progress: Progress, name: str) -> Progress:
    """Progress whose parts carry the name of a model."""
    return lambda what, done, total: progress(f"{name}: {what}", done, total)
