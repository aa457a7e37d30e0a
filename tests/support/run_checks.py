"""Runs of a few steps, comparisons of two of them, and the types of fixtures that make them."""

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from trivd.config import Config
from trivd.training.loop import train
from trivd.training.run import Run

DATA = "moving-digits"
MakeConfig = Callable[..., Config]
Command = Callable[..., tuple[int, str, str]]  # the words of a command -> exit status, stdout, stderr


def run_to(folder: Path, config: Config, data: str = DATA) -> tuple[bool, str]:
    """Train, and return whether the run is complete and what was printed."""
    console = Console(file=io.StringIO(), width=500)
    complete = train(config, data, Run(folder), console)
    return complete, console.file.getvalue()  # type: ignore[attr-defined]


def state(folder: Path, step: int) -> dict[str, Tensor]:
    """Weights, buffers, moments and the average, of a checkpoint."""
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / "state.safetensors")


def assert_same_state(folder: Path, expected: Path, step: int) -> None:
    """The checkpoints of two runs are the same bit for bit."""
    tensors, wanted = state(folder, step), state(expected, step)
    assert set(tensors) == set(wanted)
    for name, tensor in tensors.items():
        assert tensor.dtype == wanted[name].dtype
        assert tensor.numpy().tobytes() == wanted[name].numpy().tobytes(), name


def assert_same_run(folder: Path, expected: Path, step: int) -> None:
    """Two runs have the same state, models and log, but for the speed."""
    assert_same_state(folder, expected, step)
    for model in ("last", "best"):
        file = Path(model, "model.safetensors")
        assert (folder / file).read_bytes() == (expected / file).read_bytes()
    rows, wanted_rows = (
        [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in Run(path).log_rows()]
        for path in (folder, expected)
    )
    assert rows == wanted_rows
