"""Identification of I3D's weights by the checksum of every variable, not by the name of a file."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from trivd.evaluation.networks.i3d import Identity

SUMS_FILE = "i3d_sums.json"
SHORT_HASH = 8  # hex digits of the SHA-256 that labels show


@dataclass(frozen=True)
class Identification:
    """Result of the comparison of an I3D's variables with the reference's."""

    matching: int  # variables whose sum is the reference's
    total: int  # variables of the reference
    sha256: str  # of all names, shapes and values

    @property
    def is_reference(self) -> bool:
        """Whether every value is that of TF-Hub's i3d-kinetics-400/1, on which published FVDs rest."""
        return self.matching == self.total

    @property
    def identity(self) -> Identity:
        """Names of the figures that these weights give: only the reference's are comparable with published ones."""
        short = self.sha256[:SHORT_HASH]
        if self.is_reference:
            return Identity("FVD", "IS", f"I3D i3d-kinetics-400/1 {short}", self.sha256)
        unknown = f"unknown I3D weights {short}"
        return Identity(f"FVD ({unknown})", f"IS ({unknown})", unknown, self.sha256)

    def __str__(self) -> str:
        """The result in words."""
        if self.is_reference:
            return f"FVD reference (all {self.total} variables are those of i3d-kinetics-400/1)"
        return (
            f"not the FVD reference: the sums of {self.total - self.matching} of {self.total} variables differ; "
            "probably kinetics-i3d's rgb_imagenet, fine-tuned or rounded weights"
        )


def identify(variables: Mapping[str, NDArray[Any]]) -> Identification:
    """Compare variables with the reference's sums.

    Args:
        variables: arrays by TensorFlow name, in TensorFlow's layout.
    """
    sums = reference_sums()
    matching = sum(name in variables and crc32c(variables[name]) == expected for name, expected in sums.items())
    if variables.keys() - sums.keys():
        matching = min(matching, len(sums) - 1)  # with a surplus variable, it is another network
    return Identification(matching, len(sums), content_sha256(variables))


@functools.cache
def reference_sums() -> Mapping[str, str]:
    """TensorFlow name -> CRC-32C of the 230 variables of i3d-kinetics-400/1 (kinetics-i3d's rgb_scratch)."""
    text = resources.files(__package__).joinpath(SUMS_FILE).read_text()
    sums: dict[str, str] = json.loads(text)
    return sums


def crc32c(array: NDArray[Any]) -> str:
    """CRC-32C of the values as little-endian float32 in C order, 8 hex digits."""
    return f"{google_crc32c.value(_bytes(array)):08x}"


def content_sha256(variables: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of the names, shapes and values of all variables, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(variables):
        digest.update(f"{name}{list(variables[name].shape)}".encode())
        digest.update(_bytes(variables[name]))
    return digest.hexdigest()


def _bytes(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()
