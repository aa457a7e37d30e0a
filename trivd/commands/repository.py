"""The commands whose code is in trivd's repository but not in the installed package."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivd.runtime.errors import TrivdError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Benchmark:
    """Measure speed as ratios, each taken in turn with what it is compared with."""


@dataclass(frozen=True)
class Replicate:
    """The paper's comparisons, with seeds and error bars."""


LISTED = {"benchmark": ("benchmarks", Benchmark), "replicate": ("research", Replicate)}


def repository_command(name: str, arguments: Sequence[str]) -> Any:
    """The class of the command `name`, or only its description unless the arguments begin with it.

    Raises:
        TrivdError: they do, and its code is missing.
    """
    package, description = LISTED[name]
    if list(arguments[:1]) != [name]:
        return description
    if not (ROOT / package / "main.py").is_file():
        raise TrivdError(
            f"`trivd {name}` needs the folder {package}/ of trivd's repository, which is not part of the installed "
            "package; clone the repository and install it there with `pip install -e .`."
        )
    sys.path.insert(0, str(ROOT))  # before the current directory, which may hold a folder of that name
    return getattr(importlib.import_module(f"{package}.main"), description.__name__)
