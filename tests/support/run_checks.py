"""Runs of a few steps, and whether two of them are the same."""

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


def run_to(folder: Path, config: Config, data: str = DATA) -> tuple[bool, str]:
    """Train, and return whether it is complete and what was said."""
    console = Console(file=io.StringIO(), width=500)
    complete = train(config, data, Run(folder), console)
    return complete, console.file.getvalue()  # type: ignore[attr-defined]


def state(folder: Path, step: int) -> dict[str, Tensor]:
    """Weights, buffers, moments and the average, of a checkpoint."""
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / "state.safetensors")


def assert_same_state(folder: Path, expected: Path, step: int) -> None:
    """Bit for bit."""
    tensors, wanted = state(folder, step), state(expected, step)
    assert set(tensors) == set(wanted)
    for name, tensor in tensors.items():
        assert tensor.dtype == wanted[name].dtype
        assert tensor.numpy().tobytes() == wanted[name].numpy().tobytes(), name


def assert_same_run(folder: Path, expected: Path, step: int) -> None:
    assert_same_state(folder, expected, step)
    for model in ("last", "best"):
        file = Path(model, "model.safetensors")
        assert (folder / file).read_bytes() == (expected / file).read_bytes()
    rows, wanted_rows = (
        [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in Run(path).log_rows()]
        for path in (folder, expected)
    )
    assert rows == wanted_rows
