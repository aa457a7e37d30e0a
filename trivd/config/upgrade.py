"""Configurations that earlier versions saved, brought up to date: what they left unsaid was another default."""

from typing import Any

VERSION = 2  # of saved configurations

# Version 1: f's second hidden layer had half as many units as its flattened input, or half as many channels.
FACTORIZED_1, PIXELWISE_1 = (0.5, 4.0), (0.5, 0.25)


def upgrade_model(model: dict[str, Any], version: int) -> dict[str, Any]:
    """The settings of a model that version `version` saved, with values for those that it did not know."""
    if version > 1:
        return model
    pixelwise = str(model.get("unit", "")).startswith("p")
    return {"warp_hidden": PIXELWISE_1 if pixelwise else FACTORIZED_1} | model


def upgrade(config: dict[str, Any], version: int) -> dict[str, Any]:
    """All settings of a run that version `version` saved, section -> setting -> value."""
    if version > 1:
        return config
    return config | {
        "model": upgrade_model(config.get("model", {}), version),
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
