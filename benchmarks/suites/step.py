"""`trivd benchmark step`: a training step with every decomposition of Table 1, every unit of Table 2, and small ones.

20 rows, each in turn with the first of its table; about two hours on two CPU cores (ch 48, 8 clips).
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.costs import highest_resident_bytes, product_peak, product_ways, resident_bytes
from benchmarks.measuring import EAGER, finisher, ratios, take_turns
from benchmarks.suite import Bar, Case, Column, Row, Suite
from reference.step import Trainer as PlainTrainer
from trivd.config import Config, Decomposition, override
from trivd.data.loader import Batch
from trivd.presets import TABLE2_UNITS, preset
from trivd.runtime.distributed import world_size
from trivd.runtime.graphs import WARM_UPS
from trivd.runtime.hardware import choose_precision, dtype_name, set_up_program
from trivd.training.division import divide
from trivd.training.plan import make_plan
from trivd.training.step import Trainer

# Table 1, columns MS and GB: milliseconds of a step on TPUs at batch 512, and the memory of one of them.
PAPER_MS: dict[Decomposition, float] = {
    "clip": 488,
    "downsampled": 370,
    "cropped": 371,
    "cropped_downsampled": 467,
    "mocogan_k1": 568,
    "mocogan_k8": 660,
    "dvd_gan_fp": 537,
    "faster": 453,
    "stronger": 548,
}
PAPER_GB: dict[Decomposition, float] = {
    "clip": 3.49,
    "downsampled": 3.01,
    "cropped": 3.10,
    "cropped_downsampled": 3.30,
    "mocogan_k1": 3.95,
    "mocogan_k8": 3.95,
    "dvd_gan_fp": 3.53,
    "faster": 3.54,
    "stronger": 3.65,
}
PAPER_UNIT_MS = {"conv_gru": 284.0, "tsru_c": 354.0, "tsru_p": 354.0, "tsru_s": 354.0}  # end of F.4: "ConvGRU", "TSRU"
TABLE_1: tuple[Case, ...] = tuple({"table": 1, "decomposition": name, "unit": "conv_gru"} for name in PAPER_MS)
TABLE_2: tuple[Case, ...] = tuple(
    {"table": 2, "decomposition": "faster", "unit": unit}
    for unit in sorted(TABLE2_UNITS, key=lambda unit: unit != "conv_gru")  # the reference first
)
CHOSEN: tuple[Case, ...] = tuple(  # the decomposition that the paper recommends
    {"table": "chosen", "decomposition": "stronger", "unit": unit} for unit in ("conv_gru", "tsru_p")
)
SMALL_PRESET = "quickstart"  # what `make quickstart` trains
SMALL: tuple[Case, ...] = tuple(
    {"table": "small", "decomposition": "stronger", "unit": unit} for unit in ("conv_gru", "tsru_p")
)
TABLES = {1: TABLE_1, 2: TABLE_2, "chosen": CHOSEN, "small": SMALL}


@dataclass(frozen=True)
class Step(Suite):
    """Settings; those of the table "small" are its preset's.

    Args:
        channels: ch of G, and of the discriminators.
        batch: clips.
        resolution: pixels of the frames.
        predicted_frames: T.
        discriminator_frames: K.
        precision: of convolutions.
        tables: whose rows are measured.
        memory: whether to measure it, which takes another process and another step per row.
    """

    name = "step"
    title = "A training step: two updates of D and one of G"
    columns = (
        Column("table", ("case", "table")),
        Column("decomposition", ("case", "decomposition")),
        Column("unit", ("case", "unit")),
        Column("step [s]", ("seconds", "ours"), 3),
        Column("step / first row's", ("ratios", "ours / first")),
        Column("the same in the paper", ("paper_ratio",)),
        Column("plain float32 / ours", ("ratios", "plain / ours")),
        Column("without a graph [s]", ("seconds", EAGER), 3),
        Column("TFLOP", ("flops",), 2, 1e-12),
        Column("GFLOP/s", ("flops_per_second",), 0, 1e-9),
        Column("of the peak [%]", ("share_of_peak",), 0, 100),
        Column("memory [GiB]", ("peak_bytes",), 2, 2.0**-30),
        Column("paper [GB]", ("paper_gigabytes",)),
    )
    bar_axis = "time of a step relative to the first row"

    channels: int = 48
    batch: int = 8
    resolution: int = 64
    predicted_frames: int = 11
    discriminator_frames: int = 8
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    tables: tuple[Literal["1", "2", "chosen", "small"], ...] = ("1", "2", "chosen", "small")
    memory: bool = True
    turns: int = 2

    @classmethod
    def quick(cls) -> "Step":
        return cls(channels=8, batch=2)

    def cases(self) -> Sequence[Case]:
        return [case for name, table in TABLES.items() if str(name) in self.tables for case in table]

    def config(self, case: Case) -> Config:
        """The configuration of a row's training."""
        row: dict[str, dict[str, Any]] = {
            "model": {"unit": case["unit"]},
            "discriminator": {"decomposition": case["decomposition"]},
        }
        if case["table"] == "small":
            return override(preset(SMALL_PRESET), row, "trivd benchmark step")
        model: dict[str, Any] = {
            "resolution": self.resolution,
            "predicted_frames": self.predicted_frames,
            "generator_channels": self.channels,
            "discriminator_channels": self.channels,
            "recurrent_resolutions": [r for r in (8, 16, 32) if r <= self.resolution],
        }
        discriminator = {"frames": self.discriminator_frames}
        training = {"batch_size": self.batch}
        size = {"model": model, "discriminator": discriminator, "training": training}
        return override(override(Config(), size, "trivd benchmark step"), row, "trivd benchmark step")

    def measure(self, case: Case, device: torch.device) -> dict[str, Any]:
        first = TABLES[case["table"]][0]
        config, dtype = self.config(case), choose_precision(self.precision, device)
        peak_bytes = measure_memory(config, device, dtype) if self.memory else None
        ways = product_ways(device, dtype) | {"ours": make_step(Trainer(config, device, dtype))}
        if case != first:
            ways["first"] = make_step(Trainer(self.config(first), device, dtype))
        if device.type == "cuda":
            ways[EAGER] = make_step(Trainer(without_graph(config), device, dtype))
        if case["table"] == "small":
            ways["plain"] = make_step(PlainTrainer(config, device))
        seconds = take_turns(ways, self.turns, warm_ups(device), finisher(device))
        if case == first:
            seconds["first"] = seconds["ours"]
        plan = make_plan(config)
        flops = plan.discriminator_flops + plan.generator_flops
        peak = product_peak(seconds)
        decomposition = config.discriminator.decomposition
        row = {
            "precision": dtype_name(dtype),
            "seconds": seconds,
            "ratios": ratios(seconds, ("ours", "first"), ("plain", "ours")),
            "flops": flops,
            "flops_per_second": flops / seconds["ours"],
            "peak_flops_per_second": peak,
            "share_of_peak": flops / seconds["ours"] / peak,
            "peak_bytes": peak_bytes,
        }
        if case["table"] == 1:
            milliseconds = PAPER_MS[decomposition]
            paper_ratio = milliseconds / PAPER_MS["clip"]
            return row | {
                "paper_milliseconds": milliseconds,
                "paper_ratio": paper_ratio,
                "paper_gigabytes": PAPER_GB[decomposition],
            }
        unit_milliseconds = PAPER_UNIT_MS.get(config.model.unit) if case["table"] == 2 else None
        if unit_milliseconds is None:
            return row | {"missing": {"paper_ratio": "not given"}}
        return row | {
            "paper_milliseconds": unit_milliseconds,
            "paper_ratio": unit_milliseconds / PAPER_UNIT_MS["conv_gru"],
        }

    @staticmethod
    def bars(row: Row) -> list[Bar]:
        case = row["case"]
        panel = f"Table {case['table']}" if case["table"] in (1, 2) else case["table"].capitalize()
        label = case["decomposition"] if case["table"] == 1 else case["unit"]
        bars = [Bar(panel, label, "measured", row["ratios"]["ours / first"])]
        return bars + ([Bar(panel, label, "paper", row["paper_ratio"])] if "paper_ratio" in row else [])


def make_step(trainer: Trainer | PlainTrainer) -> Callable[[], object]:
    """A training step on random clips in memory already: loading does not count, as in the paper (4.2)."""
    updates = random_updates(trainer.config)
    return lambda: trainer.train_step(updates)


def random_updates(config: Config) -> list[list[Batch]]:
    """Random clips for the updates of a step, always the same."""
    model = config.model
    passes, clips = divide(config.training, world_size())
    shape = (clips, model.frames, model.resolution, model.resolution, model.image_channels)
    rng = torch.Generator().manual_seed(0)

    def batch() -> Batch:
        video = torch.randint(256, shape, dtype=torch.uint8, generator=rng)
        return Batch(video, torch.zeros(len(video), dtype=torch.int64))

    return [[batch() for _ in range(passes)] for _ in range(config.training.discriminator_updates)]


def without_graph(config: Config) -> Config:
    """The same training, its steps not recorded as a CUDA graph."""
    return override(config, {"training": {"cuda_graph": "off"}}, "trivd benchmark")


def warm_ups(device: torch.device) -> int:
    """Steps that do not count: on a GPU the last of them is recorded."""
    return WARM_UPS + 1 if device.type == "cuda" else 1


def measure_memory(config: Config, device: torch.device, dtype: torch.dtype) -> int | None:
    """The highest memory of one step in bytes, networks and optimizers included; None where unknown.

    On the CPU by a process of its own, less what Python and its libraries take.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step = make_step(Trainer(config, device, dtype))
        for _ in range(warm_ups(device)):
            step()
        return torch.cuda.max_memory_allocated(device) - before
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_of_step, config, dtype, torch.get_num_threads()).result()


def _memory_of_step(config: Config, dtype: torch.dtype, threads: int) -> int | None:
    torch.set_num_threads(threads)
    set_up_program()
    before = resident_bytes()
    make_step(Trainer(config, torch.device("cpu"), dtype))()
    highest = highest_resident_bytes()
    return None if before is None or highest is None else highest - before
