"""Checkpoints of a run: everything that its continuation needs, as safetensors and JSON."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trivd.config import from_dict
from trivd.runtime.distributed import any_process, broadcast_from_rank_0
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import json_digest, sync_folder, write_atomically
from trivd.training.step import Trainer

STATE_FILE = "state.safetensors"
PROGRESS_FILE = "progress.json"
KEPT = 2  # the newest checkpoint, and the one before it


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

    step: int  # generator updates made
    samples: int  # clips consumed from the training stream
    seconds: float  # spent on the run
    best_score: float | None  # of the best model so far, on the fixed training clips
    best_criterion: str | None = None  # name of that score
    rollbacks: int = 0  # after losses or gradients that were not finite
    unreadable: int = 0  # clips that were replaced because they could not be read, in all processes
    unscored: bool = False  # whether samples and scores that are due after this step are missing
    spent: float | None = None  # seconds of these in steps, which count for a budget; earlier versions did not say it
    sha256: str = ""  # of the state file and of the fields above


def _optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state[parameter].items():
            yield f"{name}/{key}", value


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All state of a trainer by name. Random numbers have no state: they are derived from the step."""
    tensors: dict[str, Tensor] = {}
    for prefix, module, optimizer in _parts(trainer):
        tensors |= {f"{prefix}/weights/{name}": value for name, value in module.state_dict().items()}
        tensors |= {f"{prefix}/optimizer/{name}": value for name, value in _optimizer_tensors(optimizer, module)}
    tensors |= {f"ema/{name}": value for name, value in trainer.ema.weights.items()}
    tensors |= {f"lecam/{view}": value for view, value in trainer.anchors.averages.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _parts(trainer: Trainer) -> tuple[tuple[str, nn.Module, torch.optim.Optimizer], ...]:
    return (
        ("generator", trainer.generator, trainer.generator_optimizer),
        ("discriminators", trainer.discriminators, trainer.discriminator_optimizer),
    )


def _digest(state: bytes, progress: dict[str, Any]) -> str:
    """SHA-256 of a whole checkpoint: its state file, and its progress without this checksum."""
    digest = hashlib.sha256(state)
    digest.update(json_digest(progress | {"sha256": ""}).encode())
    return digest.hexdigest()


def save_checkpoint(folder: Path, trainer: Trainer, progress: Progress) -> Path:
    """Write `folder`/step-N completely or not at all, then remove checkpoints older than the previous one.

    Returns:
        the checkpoint's path.

    Raises:
        OSError: it cannot be written, for example because the disk is full; older checkpoints are unchanged.
    """
    target = folder / f"step-{progress.step:08d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    data = save(_tensors(trainer))
    try:
        write_atomically(temporary / STATE_FILE, data)
        values = asdict(progress)
        values["sha256"] = _digest(data, values)
        write_atomically(temporary / PROGRESS_FILE, json.dumps(values, indent=2).encode())
        if target.exists():
            shutil.rmtree(target)  # damaged or left by a rollback, or the run would have resumed from it
        os.replace(temporary, target)
        sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # still there after an error
    # Later ones are damaged, or the run would have resumed from them, and do not count.
    for old in [path for path in list_checkpoints(folder) if path.name <= target.name][:-KEPT]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def load_latest(folder: Path, trainer: Trainer) -> tuple[Progress | None, list[str]]:
    """Load the newest sound checkpoint into `trainer`; all processes must find the same one.

    Returns:
        its progress, or None if there is no checkpoint; and a sentence about each damaged one that was skipped.

    Raises:
        TrivdError: all checkpoints are damaged; or another process has found another one.
    """
    progress, damaged = _load_latest(folder, trainer)
    found = None if progress is None else progress.sha256
    if any_process(found != broadcast_from_rank_0(found), trainer.device):
        raise TrivdError(
            f"The processes of torchrun find different checkpoints in {folder}. {' '.join(damaged)} All machines must "
            "see the same folder --out; correct that and repeat the command."
        )
    return progress, damaged


def _load_latest(folder: Path, trainer: Trainer) -> tuple[Progress | None, list[str]]:
    """`load_latest` in this process alone."""
    damaged: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            values = json.loads((path / PROGRESS_FILE).read_text())
            progress = from_dict(Progress, values, PROGRESS_FILE)
            if _digest((path / STATE_FILE).read_bytes(), values) != progress.sha256:
                raise ValueError("it does not have the checksum it was written with")
            _restore(trainer, load_file(path / STATE_FILE), progress.step)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, TrivdError) as error:
            damaged.append(f"{path} is damaged and was passed over: {error}.")
            continue
        return progress, damaged
    if damaged:
        raise TrivdError(f"No checkpoint in {folder} can be read. {' '.join(damaged)} Choose another --out.")
    return None, []


@torch.no_grad()
def _restore(trainer: Trainer, tensors: dict[str, Tensor], step: int) -> None:
    for prefix, module, optimizer in _parts(trainer):
        start = f"{prefix}/weights/"
        module.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        for name, parameter in module.named_parameters():
            moments = f"{prefix}/optimizer/{name}/"
            optimizer.state[parameter] = _moments(
                parameter, {k.removeprefix(moments): v for k, v in tensors.items() if k.startswith(moments)}
            )
    averaged = any(name.startswith("ema/") for name in tensors)
    trainer.ema.weights = {
        name: _like(parameter, tensors[f"ema/{name}"])
        for name, parameter in (trainer.generator.named_parameters() if averaged else ())
    }
    for view, average in trainer.anchors.averages.items():
        average.copy_(_like(average, tensors[f"lecam/{view}"]))
    trainer.continue_from(step)


def _moments(parameter: Tensor, saved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adam's state of a parameter; empty before its first update.

    Raises:
        KeyError, ValueError: a tensor is missing or has another shape, which the fused optimizer does not check.
    """
    if not saved:
        return {}
    if saved["step"].dim():
        raise ValueError("an optimizer's count of steps is not a number")
    return {"step": saved["step"].to(parameter.device)} | {
        name: _like(parameter, saved[name]) for name in ("exp_avg", "exp_avg_sq")
    }


def _like(parameter: Tensor, saved: Tensor) -> Tensor:
    """`saved` with the device and memory format of `parameter`, as the fused optimizer needs them.

    Raises:
        ValueError: it has another shape.
    """
    if saved.shape != parameter.shape:
        raise ValueError(f"a tensor is {tuple(saved.shape)} instead of {tuple(parameter.shape)}")
    return torch.empty_like(parameter).copy_(saved)
