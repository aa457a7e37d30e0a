"""Run a module of this repository where only PyTorch is installed: `python -m benchmarks.bare MODULE ARGUMENTS`.

Packages for videos, pages and logs are imported by everything and called by no measurement. Where they are missing,
something that can be imported stands in for them.
"""

import importlib
import runpy
import sys
from collections.abc import MutableSequence, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

REPLACED = ("av", "PIL", "google_crc32c", "jinja2", "matplotlib", "torch.utils.tensorboard")
NEEDED = ("numpy", "rich", "tyro", "dacite", "safetensors")


class _StandIn(ModuleType):
    """A module in which every name can be found."""

    __path__: MutableSequence[str] = []  # noqa: RUF012  # it counts as a package, without files

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class StandIns:
    """Finds modules of the given packages, of which none is there."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """How to import a module of them; None for others."""
        mine = any(name == package or name.startswith(f"{package}.") for package in self._packages)
        return ModuleSpec(name, self) if mine else None  # type: ignore[arg-type]  # it has all that is called

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module."""
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


def missing(packages: Sequence[str]) -> list[str]:
    """Those that cannot be imported."""
    found = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            found.append(package)
    return found


def replace_missing() -> list[str]:
    """Have something stand in for packages that are missing, and return their names."""
    absent = missing(REPLACED)
    if absent:
        sys.meta_path.insert(0, StandIns(absent))
    return absent


def main() -> None:
    absent = missing(NEEDED)
    if absent:
        sys.exit(f"skipped: {', '.join(absent)} cannot be imported; put wheels into a folder and name it by WHEELS")
    absent = replace_missing()
    if absent:
        print(f"without {', '.join(absent)}, which no measurement calls", flush=True)
    _, module, *arguments = sys.argv
    sys.argv = [_file(module), *arguments]
    # Not as the main module: that is this one, which processes of a measurement begin with.
    runpy.run_module(module, run_name="__main__")


def _file(module: str) -> str:
    """The file that runs as a module, or as the main module of a package."""
    spec = find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{module}.__main__")
    return module if spec is None or spec.origin is None else spec.origin


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # in a process that a measurement has started
    replace_missing()
