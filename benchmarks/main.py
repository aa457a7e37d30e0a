"""The command `trivd benchmark`: measures what is claimed to be fast, and makes the documentation's tables of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from benchmarks.record import Record, run_suite
from benchmarks.suite import Suite
from benchmarks.suites.communication import Communication
from benchmarks.suites.data import Data
from benchmarks.suites.evaluate import Evaluation
from benchmarks.suites.predict import Predict
from benchmarks.suites.profile import Profile, check_document, fill_profile, print_details
from benchmarks.suites.step import Step
from benchmarks.suites.units import Units
from benchmarks.suites.warp import Warp
from benchmarks.tables import fill_tables
from trivd.commands.status import DONE
from trivd.config import Decomposition, TrainingConfig, Unit
from trivd.runtime.console import say
from trivd.runtime.distributed import process_group, rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import check_output_file, check_output_folder
from trivd.runtime.hardware import choose_device, cpu_threads

SUITES: tuple[type[Suite], ...] = (Warp, Units, Step, Predict, Data, Evaluation)


@dataclass(frozen=True)
class Measure:
    """Options of all suites."""

    threads: int | None = None
    """CPU threads; one per core if not given."""
    device: str = "auto"
    turns: int | None = None
    """Turns that are timed; each suite has its own number."""
    json: Path | None = None
    """File for the rows, written after each; the same command resumes with the missing rows."""
    quick: bool = False
    """Small sizes, which only show that it runs."""

    def measure(self, suite: type[Suite], changes: dict[str, Any], path: Path | None, console: Console) -> Record:
        """Run a suite with the settings that were given."""
        if self.turns is not None and self.turns < 1:
            raise TrivdError(f"--turns is {self.turns}; it must be at least 1.")
        given = {name: value for name, value in (changes | {"turns": self.turns}).items() if value is not None}
        for name, value in given.items():
            if value == ():
                raise TrivdError(f"--{name} names nothing; leave it out to measure all.")
        settings = suite.quick() if self.quick else suite()  # type: ignore[call-arg]  # every suite has all defaults
        if self.threads is not None and self.threads < 1:
            raise TrivdError(f"--threads is {self.threads}; it must be at least 1.")
        device = choose_device(self.device, "--device")
        if path is not None:
            check_output_file(path, "choose another --json")
        with cpu_threads(self.threads):
            return run_suite(replace(settings, **given), device, path, console)


@dataclass(frozen=True)
class MeasureWarp(Measure):
    """Warping of feature maps against a copy, F.unfold and shifted slices."""

    def run(self, console: Console) -> int:
        self.measure(Warp, {}, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureUnits(Measure):
    """All recurrent units against our ConvGRU, a plain one, and DGMR's where it is installed."""

    units: tuple[Unit, ...] | None = None
    """Only these, beside the ConvGRUs that they are compared with."""

    def run(self, console: Console) -> int:
        self.measure(Units, {"units": self.units}, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureStep(Measure):
    """A training step with each decomposition of Table 1 and each unit of Table 2, beside the paper's ratios."""

    channels: int | None = None
    """ch of G and of the discriminators; the paper's 48 if not given."""
    batch: int | None = None
    """Clips; 8 if not given."""
    tables: tuple[Literal["1", "2", "chosen", "small"], ...] | None = None
    """Rows: those of Table 1, of Table 2, "chosen" (stronger) and "small" (the preset quickstart); all if not given."""
    memory: bool = True
    """Measure memory too, which takes another process and another step per row."""

    def run(self, console: Console) -> int:
        changes = {"channels": self.channels, "batch": self.batch, "tables": self.tables, "memory": self.memory}
        self.measure(Step, changes, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureProfile(Measure):
    """Time of a training step by kind of work, and its floor, for a large and a small model."""

    channels: int | None = None
    """ch of G and of the discriminators; the paper's 48 if not given."""
    batch: int | None = None
    """Clips; 8 if not given."""
    unit: Unit | None = None
    """Recurrent unit; tsru_p if not given."""
    decomposition: Decomposition | None = None
    """Discriminators; stronger if not given."""
    small: bool = False
    """Only the preset that `make quickstart` trains, which takes seconds."""
    document: Path | None = None
    """Markdown file whose tables to replace, between the markers of "profile", or on a GPU of "profile cuda"."""

    def run(self, console: Console) -> int:
        changes = {
            "channels": self.channels,
            "batch": self.batch,
            "unit": self.unit,
            "decomposition": self.decomposition,
            "models": ("small",) if self.small else None,
        }
        if self.document is not None:
            check_document(self.document, choose_device(self.device, "--device"))
        record = self.measure(Profile, changes, self.json, console)
        print_details(record.values, console)
        if self.document is not None:
            fill_profile(record.values, self.document)
            say(console, f"Written: {self.document}")
        return DONE


@dataclass(frozen=True)
class MeasurePredict(Measure):
    """Time and throughput of futures against the network run plainly, and DGMR's generator where it is installed."""

    channels: int | None = None
    """ch of the paper's model; 48 if not given."""
    batches: tuple[int, ...] | None = None
    """Futures drawn at once; 1, 4 and 16 if not given."""

    def run(self, console: Console) -> int:
        self.measure(Predict, {"channels": self.channels, "batches": self.batches}, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureData(Measure):
    """Decoding, preparing and reading videos against plain ways to do the same."""

    def run(self, console: Console) -> int:
        self.measure(Data, {}, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureEvaluation(Measure):
    """A whole evaluation against one clip at a time in float32."""

    clips: int | None = None
    """Clips of the plain way; 16 if not given."""
    our_clips: int | None = None
    """Clips of our way; 64 if not given."""

    def run(self, console: Console) -> int:
        self.measure(Evaluation, {"clips": self.clips, "our_clips": self.our_clips}, self.json, console)
        return DONE


@dataclass(frozen=True)
class MeasureCommunication(Measure):
    """A training step of several processes, which torchrun starts, against the same of one."""

    large: bool | None = None
    """Measure the paper's model too; yes if not given, but for --quick."""

    def run(self, console: Console) -> int:
        with process_group(choose_device(self.device, "--device"), TrainingConfig.patience):
            said = console if rank() == 0 else Console(quiet=True)
            self.measure(Communication, {"large": self.large}, self.json, said)
        return DONE


@dataclass(frozen=True)
class MeasureAll(Measure):
    """All suites for one process, one after the other; here --json names a folder, which gets a file for each."""

    def run(self, console: Console) -> int:
        if self.json is not None:
            check_output_folder(self.json, "choose another --json")
        for suite in SUITES:
            self.measure(suite, {}, self.json and self.json / f"{suite.name}.json", console)
        return DONE


@dataclass(frozen=True)
class Tables:
    """Put the tables of measured suites into a Markdown document, and plots beside the JSON files."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """With JSON files of suites."""
    document: Path = Path("docs/benchmarks.md")
    """The Markdown file, which has a pair of markers for each suite."""

    def run(self, console: Console) -> int:
        check_output_file(self.document, "choose another --document")
        for path in fill_tables(self.folder, self.document, (*SUITES, Communication)):
            say(console, f"Written: {path}")
        return DONE


@dataclass(frozen=True)
class Benchmark:
    """Measure speed as ratios, each taken in turn with what it is compared with."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[MeasureWarp, tyro.conf.subcommand("warp")]
        | Annotated[MeasureUnits, tyro.conf.subcommand("units")]
        | Annotated[MeasureStep, tyro.conf.subcommand("step")]
        | Annotated[MeasureProfile, tyro.conf.subcommand("profile")]
        | Annotated[MeasurePredict, tyro.conf.subcommand("predict")]
        | Annotated[MeasureData, tyro.conf.subcommand("data")]
        | Annotated[MeasureEvaluation, tyro.conf.subcommand("evaluate")]
        | Annotated[MeasureCommunication, tyro.conf.subcommand("communication")]
        | Annotated[MeasureAll, tyro.conf.subcommand("all")]
        | Annotated[Tables, tyro.conf.subcommand("tables")]
    ]

    def run(self, console: Console) -> int:
        return self.command.run(console)
