"""`trivd benchmark profile`: the time of a training step by kind of work and by phase, and its lower bounds.

Two rows, the model of the step suite and the preset of `make quickstart`; a few minutes on two CPU cores.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.attribution import (
    OPTIMIZER,
    labelled_normalisation,
    processor_events,
    replay_convolutions,
    seconds_by_kind,
    top_operators,
)
from benchmarks.costs import product_peak, product_ways
from benchmarks.kernels import kernels_of
from benchmarks.measuring import finisher, ratios, take_turns
from benchmarks.suite import Case, Column, Suite
from benchmarks.suites.step import SMALL_PRESET, Step, make_step, warm_ups, without_graph
from benchmarks.tables import suite_table
from trivd.config import Config, Decomposition, Unit, override
from trivd.data.loader import Batch
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.runtime.console import show_table
from trivd.runtime.files import check_output_file, write_atomically
from trivd.runtime.hardware import choose_precision, dtype_name
from trivd.training.draws import Pass
from trivd.training.objectives import Losses
from trivd.training.plan import make_plan
from trivd.training.step import Trainer, Update

SMALL = f"preset {SMALL_PRESET}"


@dataclass(frozen=True)
class Profile(Suite):
    """Settings.

    Args:
        models: which rows.
        channels: ch of G and of the discriminators, in the model like the paper's.
        batch: its clips.
        unit: recurrent unit.
        decomposition: of the discriminators.
        precision: of convolutions.
    """

    name = "profile"
    title = "A training step and its floor"
    columns = (
        Column("model", ("case", "model")),
        Column("unit", ("case", "unit")),
        Column("decomposition", ("case", "decomposition")),
        Column("type", ("precision",)),
        Column("step [s]", ("seconds", "step"), 3),
        Column("step in a CUDA graph [s]", ("seconds", "graph"), 3),
        Column("kernels", ("kernels", "count")),
        Column("kernel time [s]", ("kernels", "seconds"), 3),
        Column("convolutions and products of it [%]", ("kernels", "share"), 0, 100),
        Column("profiled / step", ("ratios", "profiled / step")),
        Column("TFLOP", ("flops",), 3, 1e-12),
        Column("GFLOP/s", ("flops_per_second",), 0, 1e-9),
        Column("product peak [GFLOP/s]", ("peak_flops_per_second",), 0, 1e-9),
        Column("floor at that peak [s]", ("floors", "product"), 3),
        Column("main convolutions alone [GFLOP/s]", ("convolution_flops_per_second",), 0, 1e-9),
        Column("floor at their rate [s]", ("floors", "convolution"), 3),
        Column("step / that floor", ("ratios", "step / convolution floor")),
        Column("in a graph / that floor", ("ratios", "graph / convolution floor")),
    )

    models: tuple[Literal["paper", "small"], ...] = ("paper", "small")
    channels: int = 48
    batch: int = 8
    unit: Unit = "tsru_p"
    decomposition: Decomposition = "stronger"
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    turns: int = 3

    @classmethod
    def quick(cls) -> "Profile":
        return cls(channels=8, batch=2, turns=1)

    def cases(self) -> Sequence[Case]:
        names = {"paper": f"ch {self.channels}, {self.batch} clips", "small": SMALL}
        return [
            {"model": names[model], "unit": self.unit, "decomposition": self.decomposition} for model in self.models
        ]

    def config(self, case: Case) -> Config:
        """The configuration of a row's training; its moving average runs, as in all but the first steps."""
        row: Case = {
            "table": "small" if case["model"] == SMALL else 2,
            "unit": self.unit,
            "decomposition": self.decomposition,
        }
        config = Step(channels=self.channels, batch=self.batch).config(row)
        return override(config, {"training": {"ema_start": 1}}, "trivd benchmark profile")

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        config, dtype = self.config(case), choose_precision(self.precision, device)
        measured = profile_step(config, device, dtype, self.turns)
        plan, seconds = make_plan(config), measured["seconds"]
        work = plan.discriminator_flops + plan.generator_flops
        peak, rate = product_peak(seconds), measured["convolution_flops_per_second"]
        seconds["convolution floor"] = work / rate
        return {
            "precision": dtype_name(dtype),
            "flops": work,
            "flops_per_second": work / seconds["step"],
            "peak_flops_per_second": peak,
            "floors": {"product": work / peak, "convolution": work / rate},
            "ratios": ratios(seconds, ("profiled", "step"), *((way, "convolution floor") for way in ("step", "graph"))),
            **measured,
        }


class PhaseTrainer(Trainer):
    """A trainer that times its phases and labels the optimizers' work for the profiler.

    Between phases it waits for the device, so that each has the time of its own work.
    """

    def __init__(self, config: Config, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(config, device, dtype)
        self.phases: dict[str, float] = {}  # seconds in the last step
        self._finish = finisher(device)
        self._phase, self._since = "", 0.0
        self._network = ""
        for discriminator in self.discriminators.values():
            discriminator.register_forward_pre_hook(lambda *_: self._enter(f"{self._network}: discriminators"))
            discriminator.register_forward_hook(lambda *_: self._enter(f"{self._network}: losses and backward"))

    def _enter(self, phase: str) -> None:
        """End the current phase and begin another."""
        self._finish()
        now = time.perf_counter()
        if self._phase:
            self.phases[self._phase] = self.phases.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def train_step(self, updates: Sequence[Sequence[Batch]]) -> Losses:
        self.phases = {}
        losses = super().train_step(updates)
        self._enter("")
        return losses

    def discriminator_update(self, passes: Sequence[Pass], penalised: bool) -> Update:
        self._network = "D"
        self._enter("D: drawing futures")
        return super().discriminator_update(passes, penalised)

    def generator_update(self, passes: Sequence[Pass], reconstruction: Tensor) -> Update:
        self._network = "G"
        self._enter("G: drawing futures")
        update = super().generator_update(passes, reconstruction)
        self._enter("moving average")
        return update

    def _apply(self, optimizer: torch.optim.Adam, losses: Losses) -> Update:
        self._enter(f"{self._network}: check and Adam")
        with record_function(OPTIMIZER):
            return super()._apply(optimizer, losses)


def profile_step(config: Config, device: torch.device, dtype: torch.dtype, turns: int) -> dict[str, Any]:
    """Steps with and without the profiler in turn with matrix products, after a warm-up.

    Phases are medians of plain steps; kinds, operators and kernels are those of the profiled step of median time. On a
    GPU these are steps without a CUDA graph, which take turns with those of one.
    """
    on_gpu, finish = device.type == "cuda", finisher(device)
    trainer = PhaseTrainer(without_graph(config) if on_gpu else config, device, dtype)
    step = make_step(trainer)
    phases: list[dict[str, float]] = []
    profiles: list[tuple[float, profile]] = []
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])

    def plain() -> None:
        step()
        phases.append(trainer.phases)

    def profiled() -> None:
        with profile(activities=activities, record_shapes=True) as profiler:
            start = time.perf_counter()
            step()
            finish()
            seconds = time.perf_counter() - start
        profiles.append((seconds, profiler))  # events are parsed only when asked for: that takes seconds

    ways = {"step": plain, "profiled": profiled} | product_ways(device, dtype)
    if on_gpu:
        ways["graph"] = make_step(Trainer(config, device, dtype))
    before = warm_ups(device)
    with labelled_normalisation():
        seconds = take_turns(ways, turns, before, finish)
    phases, profiles = phases[before:], profiles[before:]
    whole, profiler = sorted(profiles, key=lambda each: each[0])[(len(profiles) - 1) // 2]
    events = processor_events(profiler)
    seconds["profiled"] = whole  # excludes what the profiler does at its end
    convolutions = replay_convolutions(events, device, dtype, turns)
    return {
        "seconds": seconds,
        "kinds": seconds_by_kind(events, whole, device),
        "phases": {name: statistics.median(each[name] for each in phases) for name in phases[0]},
        "operators": top_operators(events, device),
        "kernels": kernels_of(profiler.events()),
        "convolutions": convolutions,
        "convolution_flops_per_second": sum(row["count"] * row["flops"] for row in convolutions)
        / sum(row["count"] * row["seconds_alone"] for row in convolutions),
    }


def detail_tables(values: dict[str, Any]) -> dict[str, list[list[str]]]:
    """A record's further tables by title, each with its heading as the first row."""
    rows = values["rows"]
    tables = {}
    for title, key, whole in (
        ("By kind of work (own time of operators in a profiled step)", "kinds", "profiled"),
        ("By phase (of a step without the profiler)", "phases", "step"),
    ):
        lines = [["", *(f"{row['case']['model']} [{unit}]" for row in rows for unit in ("s", "%"))]]
        for name in rows[0][key]:
            shares = [(row[key][name], row["seconds"][whole]) for row in rows]
            lines.append([name, *(cell for own, all_ in shares for cell in (f"{own:.3f}", f"{100 * own / all_:.1f}"))])
        tables[title] = lines
    for row in rows:
        lines = [["operator", "sizes", "kind", "calls", "s", "%"]]
        for each in row["operators"]:
            share = 100 * each["seconds"] / row["seconds"]["profiled"]
            lines.append([each["name"], each["shapes"], each["kind"], str(each["count"])])
            lines[-1] += f"{each['seconds']:.3f}", f"{share:.1f}"
        tables[f"Operators that take most: {row['case']['model']}"] = lines
        lines = [["convolution", "sizes", "calls", "in the step [s]", "alone [s]", "alone [GFLOP/s]"]]
        for each in row["convolutions"]:
            alone, rate = each["count"] * each["seconds_alone"], each["flops"] / each["seconds_alone"] / 1e9
            lines.append([each["name"], each["shapes"], str(each["count"])])
            lines[-1] += f"{each['seconds']:.3f}", f"{alone:.3f}", f"{rate:,.0f}"
        tables[f"Main convolutions alone: {row['case']['model']}"] = lines
        if row["kernels"] is not None:
            tables[f"Kernels that take most: {row['case']['model']}"] = kernel_lines(row["kernels"])
    return tables


def kernel_lines(kernels: dict[str, Any]) -> list[list[str]]:
    """The table of kernels by name, its heading first."""
    lines = [["kernel", "kind", "calls", "ms", "%"]]
    for each in kernels["names"]:
        name, share = each["name"].replace("|", "/"), 100 * each["seconds"] / kernels["seconds"]
        lines.append([name, each["kind"], str(each["count"]), f"{1e3 * each['seconds']:.2f}", f"{share:.1f}"])
    return lines


def print_details(values: dict[str, Any], console: Console) -> None:
    """Print `detail_tables`."""
    for title, (heading, *lines) in detail_tables(values).items():
        show_table(console, heading, lines, title)


def fill_profile(values: dict[str, Any], document: Path) -> None:
    """Put all tables between the markers of a document: those of "profile", or on a GPU of "profile cuda".

    Raises:
        TrivdError: the document cannot be read, or has no place for them.
    """
    blocks = [suite_table(Profile, values)]
    for title, (heading, *lines) in detail_tables(values).items():
        blocks.append(f"### {title}\n\n{markdown_table(heading, lines)}")
    name = _markers(values["hardware"]["device"])
    write_atomically(document, fill(read_document(document), name, "\n\n".join(blocks), document).encode())


def check_document(document: Path, device: torch.device) -> None:
    """Refuse a document that `fill_profile` could not fill, before anything is measured.

    Raises:
        TrivdError: it cannot be read or written, or has no place for the tables.
    """
    check_output_file(document, "choose another --document")
    fill(read_document(document), _markers(device.type), "", document)


def _markers(device: str) -> str:
    """The name in the markers for measurements on this device."""
    return f"benchmark {Profile.name}" + ("" if device == "cpu" else " cuda")
