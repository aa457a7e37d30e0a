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
    discriminator = {"temporal_pooling": False} | config.get("discriminator", {})
    return config | {"model": upgrade_model(config.get("model", {}), version), "discriminator": discriminator}
