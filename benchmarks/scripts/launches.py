"""Kernels that a training step would start on a GPU, in plain PyTorch and with our Triton kernels; needs no GPU.

    python -m benchmarks.scripts.launches --json OUT.json --document docs/benchmarks.md

How they are counted: `benchmarks.launches`. Channels and batch are small: the number hardly depends on them.
"""

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from benchmarks.launches import Work, launches
from benchmarks.measuring import circumstances
from benchmarks.suite import Case
from benchmarks.suites.step import Step, make_step
from trivd.config import Decomposition, Unit, override
from trivd.pictures.markdown import fill, markdown_table, read_document
from trivd.runtime.console import say, show_table
from trivd.runtime.files import write_atomically
from trivd.training.step import Trainer

CPU = torch.device("cpu")
WAYS = {"plain": False, "Triton": True}
HEADING = ("kernels of", *WAYS, "Triton / plain")


def main(
    json: Path,
    document: Path | None = None,
    *,
    channels: int = 4,
    batch: int = 2,
    decomposition: Decomposition = "stronger",
    unit: Unit = "tsru_p",
) -> None:
    """Count the launches of one training step, two updates of D and one of G.

    Args:
        json: file for the counts by kind and by operator.
        document: Markdown file whose table "launches" is replaced.
        channels: ch of G and of the discriminators.
        batch: clips.
        decomposition: discriminators.
        unit: recurrent unit.
    """
    row: Case = {"table": 2, "decomposition": decomposition, "unit": unit}
    config = override(Step(channels=channels, batch=batch).config(row), {"training": {"ema_start": 1}}, "launches")
    trainer = Trainer(config, CPU, torch.bfloat16)
    step = make_step(trainer)
    step()  # so that the moving average runs, as in all but the first steps
    ways: dict[str, Any] = {}
    for name, triton in WAYS.items():
        with launches(triton):
            step()  # makes what is kept for all steps
        with launches(triton) as counter:
            step()
        operators = {f"{kind}: {operator}": count for (kind, operator), count in counter.counts.most_common() if count}
        ways[name] = {"kinds": counter.by_kind(), "operators": operators}
    facts = {"case": row | {"channels": channels, "batch": batch}, "launches": ways}
    write_atomically(json, (json_format.dumps(circumstances(CPU) | facts, indent=2) + "\n").encode())
    lines = table({name: way["kinds"] for name, way in ways.items()})
    console = Console()
    show_table(console, HEADING, lines, f"Launches of a step: {unit}, {decomposition}")
    say(console, f"Written: {json}")
    if document is not None:
        text = fill(read_document(document), "launches", markdown_table(list(HEADING), lines), document)
        write_atomically(document, text.encode())
        say(console, f"Written: {document}")


def table(kinds: Mapping[str, Mapping[Work, int]]) -> list[list[str]]:
    """A line for each kind of work and one for all, from the launches of both ways."""
    plain, triton = (kinds[name] for name in WAYS)
    counts = [(kind, plain[kind], triton[kind]) for kind in Work]
    counts.append(("all", sum(plain.values()), sum(triton.values())))  # type: ignore[arg-type]
    return [[name, f"{a:,}", f"{b:,}", f"{b / a:.2f}" if a else ""] for name, a, b in counts]


if __name__ == "__main__":
    tyro.cli(main)
