"""A model of the step on 8, 64 and 512 processes, from the figures of `trivd benchmark communication`.

    python -m benchmarks.scripts.scaling benchmarks/results/DATE-communication.json [--clip-milliseconds MS]

A step of N processes takes compute(clips of each) + the gradients' exposed part + the statistics:

- compute: clips x time of a clip. It is measured for the processor; for a GPU it is --clip-milliseconds, or else
  the step's FLOPs at an assumed share of the peak. It is assumed to be the same however few clips a process has,
  including what is done once per step (Adam, orthogonality).
- gradients: rings pass 2 (N - 1) / N of their bytes over the slowest links while the backward pass runs; what
  remains after it is exposed.
- statistics: each call must be answered before the next layer can start; its time is the links' latency alone.
"""

import argparse
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import describe, read_record
from benchmarks.suites.communication import LARGE_PRESET
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

GLOBAL_BATCH = 512  # the paper's
PROCESSES = (8, 64, 512)
SHARE_OF_PEAK = 0.3  # assumed for a GPU whose step was not measured
BACKWARD = 0.5  # share of the compute time that can hide gradients; backward passes are 0.6 of a step's FLOPs


@dataclass(frozen=True)
class Cluster:
    """Machines and the links between their processes; bandwidths are those reached, in bytes per second each way."""

    name: str
    per_machine: int  # processes
    clip_seconds: float
    inner_bandwidth: float  # between processes of a machine
    outer_bandwidth: float  # of each process's adapter, between machines
    inner_latency: float  # seconds of a small all-reduce within a machine
    hop_latency: float  # added by each doubling of the machines

    def row(self, processes: int, measured: dict[str, Any]) -> list[str]:
        """The table's row for a step of the global batch on so many processes."""
        machines = math.ceil(processes / self.per_machine)
        # As many rings as adapters pass through a machine at once, so its links add up.
        outer = min(self.inner_bandwidth, self.per_machine * self.outer_bandwidth)
        bandwidth = self.inner_bandwidth if machines == 1 else outer
        compute = GLOBAL_BATCH / processes * self.clip_seconds
        gradients = 2 * (processes - 1) / processes * measured["gradient_bytes"] / bandwidth
        exposed = max(0.0, gradients - BACKWARD * compute)
        latency = self.inner_latency * (self.per_machine > 1) + self.hop_latency * math.log2(machines)
        statistics = measured["statistics_calls"] * latency + 2 * measured["statistics_bytes"] / bandwidth
        step = compute + exposed + statistics
        figures = (1e3 * compute, 1e3 * gradients, 1e3 * exposed, 1e3 * statistics, 1e3 * step)
        shares = (f"{100 * (1 - compute / step):.0f}", f"{processes * compute / step:,.0f}")
        return [self.name, str(processes), str(GLOBAL_BATCH // processes), *(f"{ms:,.1f}" for ms in figures), *shares]


# H200: 989 TFLOP/s in bfloat16, NVLink 450 GB/s each way, one 400 Gbit/s adapter for each GPU; 80% of them reached.
GPUS = Cluster("H200", 8, math.nan, 0.8 * 450e9, 0.8 * 50e9, 20e-6, 10e-6)
GPU_PEAK = 989e12
# One process on each machine, 10 Gbit/s Ethernet.
PROCESSORS = Cluster("the processor measured", 1, math.nan, math.inf, 0.8 * 1.25e9, 0.0, 50e-6)
HEADINGS = (
    "on",
    "processes",
    "clips of each",
    "compute [ms]",
    "gradients [ms]",
    "of them exposed",
    "statistics [ms]",
    "step [ms]",
    "communication [%]",
    "speed-up",
)


def table(measured: dict[str, Any], clip_milliseconds: float | None) -> Iterator[list[str]]:
    """Rows for each cluster and number of processes."""
    batch = measured["batch_size"]
    assumed = measured["flops"] / batch / (SHARE_OF_PEAK * GPU_PEAK)
    gpu_clip = assumed if clip_milliseconds is None else clip_milliseconds / 1e3
    clusters = (
        replace(GPUS, clip_seconds=gpu_clip),
        replace(PROCESSORS, clip_seconds=measured["seconds"]["alone"] / batch),
    )
    for cluster in clusters:
        for processes in PROCESSES:
            yield cluster.row(processes, measured)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--clip-milliseconds", type=float, help="of a step on one GPU, measured")
    parser.add_argument("--document", type=Path, default=Path("docs/distributed.md"))
    arguments = parser.parse_args()
    try:
        values = read_record(arguments.record)
        rows = [row for row in values["rows"] if row["case"] == {"preset": LARGE_PRESET}]
        if not rows:
            raise TrivdError(f"{arguments.record} has no row of {LARGE_PRESET}; measure it without --quick.")
        said = textwrap.fill(f"From {describe(values)}, and the assumptions above.", 100)
        text = f"{said}\n\n{markdown_table(HEADINGS, list(table(rows[0], arguments.clip_milliseconds)))}"
        document = read_document(arguments.document)
        write_atomically(arguments.document, fill(document, "scaling", text, arguments.document).encode())
    except TrivdError as error:
        raise SystemExit(str(error)) from error
    print(text)


if __name__ == "__main__":
    main()
