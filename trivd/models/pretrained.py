"""Models on disk, in the Hugging Face layout: config.json and model.safetensors, nothing pickled."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trivd.config import ModelConfig, from_dict, to_dict
from trivd.config.upgrade import VERSION, upgrade, upgrade_model
from trivd.models.generator import Generator
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically
from trivd.runtime.hardware import to_channels_last

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
RUN_FILE = "run.json"  # in the folder of a run
BEST = "best"  # its best model
BUNDLED = Path(__file__).with_name("bundled")
LARGEST_CONFIG = 1 << 20  # bytes; ours have 3 kB
LARGEST_HEADER = 1 << 22  # bytes of model.safetensors beside its tensors; ours have 60 kB
FORMAT = "trivd-generator"


def bundled_folders() -> dict[str, Path]:
    """The folders of the bundled models by their names."""
    return {folder.name: folder for folder in sorted(BUNDLED.iterdir()) if folder.is_dir()}


def own_folder(name: str | Path) -> Path | None:
    """The user's folder that a model's name means; None if it means a bundled model or one of the hub.

    A folder without a model does not hide a bundled one: a store of robot-pushing may well be called so.
    """
    folder = Path(name)
    model = any((folder / file).exists() for file in (CONFIG_FILE, WEIGHTS_FILE, RUN_FILE, BEST))
    return folder if folder.is_dir() and (model or str(name) not in bundled_folders()) else None


def find_model(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: a folder with config.json and model.safetensors, a run's folder (its best model), the name of a bundled
            model (`trivd models` lists them), or "owner/name" of the Hugging Face hub (needs `trivd[hub]`); in this
            order.

    Raises:
        TrivdError: there is no such model.
    """
    folder = own_folder(name)
    if folder is not None:
        best = folder / BEST
        return best if best.is_dir() and not (folder / WEIGHTS_FILE).exists() else folder
    bundled = bundled_folders()
    if str(name) in bundled:
        return bundled[str(name)]
    if str(name).count("/") != 1 or Path(name).is_absolute():
        raise TrivdError(
            f"There is no model at {name}; choose a folder, or a bundled model: {', '.join(bundled)} "
            "(`trivd models` describes them)."
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise TrivdError(f"There is no folder {name}; to load models from the hub, install trivd[hub].") from error
    try:
        return Path(snapshot_download(str(name), allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise TrivdError(f"There is no folder {name}, and the hub did not give such a model: {error}") from error


def save_generator(generator: Generator, folder: Path, history: dict[str, Any]) -> None:
    """Write a generator with its standing statistics.

    Args:
        generator: E and G.
        folder: created; files of an older save of the same model are replaced, each whole or not at all.
        history: JSON values that say where the weights come from (run's settings, data, step).
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    header = {"format": FORMAT, "version": VERSION, "model": to_dict(generator.config), "history": history}
    write_atomically(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_atomically(folder / CONFIG_FILE, json.dumps(header, indent=2).encode())


def load_generator(folder: Path, device: torch.device) -> tuple[Generator, dict[str, Any]]:
    """Read what `save_generator` wrote: the generator, in evaluation mode, and its history.

    Raises:
        TrivdError: a file is missing, damaged, or of another kind.
    """
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise TrivdError(f"{folder} is not a trivd model: it has no {file.name}.")
    try:
        header = read_json(config_file, LARGEST_CONFIG)
        if header["format"] != FORMAT:
            raise KeyError
        version, model, history = header["version"], header["model"], header["history"]
        kinds = {"config": dict, "data": str, "step": int}  # what prediction and evaluation read
        if not all(isinstance(history[name], kind) for name, kind in kinds.items()):
            raise TypeError
        model, history["config"] = upgrade_model(model, version), upgrade(history["config"], version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrivdError(f"{config_file} is not the description of a trivd model.") from error
    if version not in range(1, VERSION + 1):
        raise TrivdError(f"{config_file} has format version {version}, which needs a newer trivd than this.")
    generator = _without_memory(from_dict(ModelConfig, model, str(config_file)), config_file, weights_file)
    try:
        generator.to_empty(device="cpu").load_state_dict(load(weights_file.read_bytes()))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise TrivdError(f"{weights_file} is damaged or belongs to another model: {error}") from error
    to_channels_last(generator.to(device))
    return generator.eval(), history


def _without_memory(config: ModelConfig, config_file: Path, weights_file: Path) -> Generator:
    """The generator without weights, after a check that the file of weights has about as many bytes as they take.

    Whatever sizes a description claims, what it costs is then bounded by a file that was there to be read.

    Raises:
        TrivdError: no such model could be, or the file does not hold it.
    """
    try:
        with torch.device("meta"):
            generator = Generator(config).float()  # whatever the caller's default type is
        expected = sum(tensor.nbytes for tensor in generator.state_dict().values())
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # sizes beyond 64 bits
        raise TrivdError(f"{config_file} describes a model that is too large for any machine.") from error
    size = weights_file.stat().st_size
    if not expected <= size <= expected + LARGEST_HEADER:
        raise TrivdError(
            f"{weights_file} is damaged or belongs to another model: it has {size:,} bytes, but {config_file} "
            f"describes a model of {expected:,}."
        )
    return generator


def weights_hash(generator: Generator) -> str:
    """SHA-256 over the parameters' names and values."""
    digest = hashlib.sha256()
    for name, parameter in sorted(generator.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
