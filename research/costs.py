"""What a comparison costs before it is started: time by a measured step, and space on disk."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dacite
import torch
from rich.console import Console

from benchmarks.measuring import circumstances, finisher, take_turns
from benchmarks.suites.step import make_step
from research.pace import Pace
from research.runs import Task
from trivd.config import Changes, Config, override, to_dict
from trivd.runtime.console import say, show_table
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import json_digest, write_atomically
from trivd.runtime.hardware import choose_device, choose_precision, dtype_name, processor
from trivd.training.checkpoint import KEPT
from trivd.training.plan import BYTES, Plan, make_plan
from trivd.training.snapshot import GRID_CLIPS, GRID_SAMPLES
from trivd.training.step import Trainer

CLIPS = {"cpu": 1, "cuda": 8}  # of the step that is measured; 8 as in E.3
TURNS = {"cpu": 1, "cuda": 5}
KEY_LENGTH = 10


@dataclass(frozen=True)
class Reference:
    """A measured step, from which the duration of others is estimated.

    Args:
        seconds: duration of the step.
        flops: its FLOPs.
        clips: its global batch.
        about: networks, precision and device in words.
    """

    seconds: float
    flops: int
    clips: int
    about: str

    def seconds_of(self, plan: Plan) -> float:
        """Estimated duration of another step on one such device."""
        return self.seconds * flops(plan) / self.flops


def flops(plan: Plan) -> int:
    """FLOPs of a step."""
    return plan.discriminator_flops + plan.generator_flops


def reference(settings: Changes, threads: int, results: Path, console: Console) -> Reference:
    """A step of TrIVD-GAN-FP with ch 48 and few clips; it is measured once per device and then kept.

    Args:
        settings: settings of the user, such as smaller networks.
        threads: of the CPU, on which the duration depends.
        results: folder in which it is kept.
        console: where progress is printed.

    Raises:
        TrivdError: the file holds something else.
    """
    config = override(Config(), settings, "--set")
    device = choose_device(config.training.device, "training.device")
    dtype = choose_precision(config.training.precision, device)
    clips = min(CLIPS[device.type], config.training.batch_size)
    config = override(config, {"training": {"batch_size": clips}}, "the reference")
    about = f"{config.model.unit}, {config.discriminator.decomposition}, ch {config.model.generator_channels}"
    on_cpu = f"{threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{on_cpu} of {processor('model name')}"
    key = json_digest({"config": to_dict(config), "device": name, "dtype": dtype_name(dtype)})[:KEY_LENGTH]
    file = results / f"reference-{key}.json"
    if not file.is_file():
        say(console, f"Measuring a step of {clips} clip{'s' if clips > 1 else ''} ({about}).")
        ways = {"step": make_step(Trainer(config, device, dtype))}
        seconds = take_turns(ways, TURNS[device.type], finish=finisher(device))["step"]
        found = circumstances(device)
        measured = Reference(seconds, flops(make_plan(config)), clips, f"{about}, {dtype_name(dtype)}, {name}")
        write_atomically(file, (json.dumps({**found, "reference": asdict(measured)}, indent=2) + "\n").encode())
    try:
        return dacite.from_dict(Reference, json.loads(file.read_text())["reference"])
    except (OSError, ValueError, KeyError, TypeError, dacite.DaciteError) as error:
        raise TrivdError(f"{file} does not hold a measured step; remove it, or choose another --results.") from error


def disk_bytes(config: Config, plan: Plan) -> int:
    """Space on disk that a run takes at most: checkpoints, one more while it is written, two models, and samples."""
    networks, model = plan.generator_parameters, config.model
    checkpoint = 4 * networks + 3 * sum(plan.discriminator_parameters.values())  # weights, Adam's moments, average
    samples = config.training.steps // config.training.sample_every + 1
    values = GRID_CLIPS * (1 + GRID_SAMPLES) * model.frames * model.resolution**2 * model.image_channels
    return BYTES * ((KEPT + 1) * checkpoint + 2 * networks) + samples * values


def print_costs(
    tasks: Sequence[Task],
    paces: Mapping[str, Pace] | Reference,
    *,
    done: Sequence[Task],
    processes: int,
    console: Console,
) -> None:
    """List the runs with what they cost.

    Args:
        tasks: all runs.
        paces: measured pace of each cell whose time is not set, or the step from which it is estimated.
        done: those that need nothing more.
        processes: devices that work at once, on one run or on several.
        console: where it is printed.
    """
    rows, hours, space = [], 0.0, 0
    for label in dict.fromkeys(task.cell.label for task in tasks):
        own = [task for task in tasks if task.cell.label == label]
        left = len(own) - sum(task in done for task in own)
        config = own[0].config
        plan = make_plan(config)
        seconds = _step_seconds(paces, label, plan)
        each, disk = _run_seconds(config, seconds) / 3600, disk_bytes(config, plan)
        hours, space = hours + left * each, space + len(own) * disk
        rows.append(
            (
                label,
                f"{len(own)}" + (f" ({left} left)" if left < len(own) else ""),
                f"{config.training.steps:,}",
                f"{config.training.batch_size:,}",
                _figures(flops(plan) / 1e12),
                "" if seconds is None else _figures(seconds),
                _figures(each),
                f"{disk / 2**30:,.2f}",
            )
        )
    header = ("cell", "runs", "steps", "clips", "TFLOP/step", "s/step", "hours/run", "GiB/run")
    show_table(console, header, rows, tasks[0].comparison.about)
    if isinstance(paces, Reference):
        clips = f"{paces.clips} clip{'s' if paces.clips > 1 else ''}"
        say(
            console,
            f"Measured: a step of {clips} takes {paces.seconds:.3g} s ({paces.about}). "
            "The others are estimated from it in proportion to their FLOPs.",
        )
    shared = f", {_figures(hours / processes)} if {processes} share the work equally" if processes > 1 else ""
    say(
        console,
        f"Hours are of one device: {_figures(hours)} in all for what is left{shared}. "
        f"Disk: at most {space / 2**30:,.2f} GiB.",
    )


def _step_seconds(paces: Mapping[str, Pace] | Reference, label: str, plan: Plan) -> float | None:
    """Seconds of a step of a cell; None if they are not known."""
    if isinstance(paces, Reference):
        return paces.seconds_of(plan)
    return paces[label].seconds if label in paces else None


def _run_seconds(config: Config, step: float | None) -> float:
    """Seconds of a training by those of a step, and at most its minutes."""
    limit = math.inf if config.training.minutes is None else 60 * config.training.minutes
    return limit if step is None else min(limit, config.training.steps * step)


def _figures(value: float) -> str:
    """A number with three significant digits, or with all of its whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
