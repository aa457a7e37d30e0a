"""Configurations that earlier versions saved, brought up to date: what they left unsaid was another default."""

import math
from typing import Any

VERSION = 3  # of saved configurations

# Version 1: f's second hidden layer had half as many units as its flattened input, or half as many channels.
FACTORIZED_1, PIXELWISE_1 = (0.5, 4.0), (0.5, 0.25)


def upgrade_model(model: dict[str, Any], version: int) -> dict[str, Any]:
    """The settings of a model that version `version` saved, with values for those that it did not know."""
    if version > 2:
        return model
    pixelwise = str(model.get("unit", "")).startswith("p")
    if version < 2:
        model = {"warp_hidden": PIXELWISE_1 if pixelwise else FACTORIZED_1} | model
    return _upgrade_warps(model, pixelwise)


def _upgrade_warps(model: dict[str, Any], pixelwise: bool) -> dict[str, Any]:
    """Versions 1 and 2 had one warp_size, and warps that started as the "mean" of their taps or nearly as a "copy"."""
    size = model.get("warp_size", 3)
    if type(size) is not int:
        return model  # as this version's, or refused
    upgraded = {name: value for name, value in model.items() if name != "warp_start"}
    copied = model.get("warp_start") == "copy"
    return upgraded | {"warp_size": [size], "warp_start_weight": _copy_weight(size, pixelwise) if copied else None}


def _copy_weight(size: int, pixelwise: bool) -> float | None:
    """The weight with which "copy" started on the centre, to two digits, so that it can be named when a run resumes.

    What selects preferred the centre by e^2, and factorized kernels had e^5 on a tap of their own.
    """
    if not 1 < size < 100:  # where "copy" was "mean" or nearly so, or no model can be
        return None
    others = size**2 - 1
    weight = math.exp(2) / (math.exp(2) + others)
    if not pixelwise:
        weight = (weight * math.exp(5) + 1 - weight) / (math.exp(5) + others)
    return float(f"{weight:.2g}")


def upgrade(config: dict[str, Any], version: int) -> dict[str, Any]:
    """All settings of a run that version `version` saved, section -> setting -> value."""
    if "model" in config or version < 2:
        config = config | {"model": upgrade_model(config.get("model", {}), version)}
    if version > 1:
        return config
    return config | {
        "discriminator": {"temporal_pooling": False} | config.get("discriminator", {}),
        "training": _upgrade_training(config.get("training", {})),
    }


def _upgrade_training(recipe: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had the clips of a pass as the batch size, and the number of passes as `accumulation`."""
    clips, passes = recipe.get("batch_size"), recipe.get("accumulation")
    if type(clips) is not int or type(passes) is not int:
        return recipe  # which is refused, if it has settings of that kind at all
    others = {name: value for name, value in recipe.items() if name != "accumulation"}
    return others | {"batch_size": clips * passes, "microbatch": None if passes == 1 else clips}


def upgrade_run(values: dict[str, Any]) -> dict[str, Any]:
    """The description of a run, with its configuration.

    Version 1 had the clips of a process as the batch size, and the number of processes beside it.

    Raises:
        AttributeError, KeyError, TypeError: it is not of a run.
    """
    version, saved = values.get("version", 1), values["config"]
    config = upgrade(saved, version)
    values = {"listing": {}} | values | {"config": config}
    if version > 1:
        return values
    recipe, processes = config["training"], values.get("processes", 1)
    if type(recipe["batch_size"]) is not int or type(processes) is not int:
        raise TypeError
    recipe = recipe | {"batch_size": recipe["batch_size"] * processes}
    passes = saved["training"].get("accumulation", 1)
    return values | {"config": config | {"training": recipe}, "passes": passes}
