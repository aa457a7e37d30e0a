"""The tensors of a TorchScript archive, read as data: neither its code nor its pickle runs anything.

Its pickle is of modules (named attributes), whose tensors refer to storages.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trivd.evaluation.networks.weights.archives import read_archive
from trivd.evaluation.networks.weights.limits import LONGEST_NAME, MOST_TENSORS, FloatArray
from trivd.evaluation.networks.weights.pickles import Bag, Reference
from trivd.evaluation.networks.weights.views import read_views
from trivd.runtime.errors import TrivdError


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether a PyTorch file holds a program beside its tensors."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(archive: zipfile.ZipFile, path: Path) -> dict[str, FloatArray]:
    """All float16, bfloat16, float32 and float64 tensors as float32, by the dotted names of their attributes.

    Args:
        archive: of `open_zip`.
        path: where it lies, for errors.

    Raises:
        TrivdError: it is damaged, or its pickle asks for anything but tensors and plain containers.
    """
    try:
        root, load, size = read_archive(archive)
        return read_views(_named_tensors(root), load, size)
    except Exception as error:  # a hostile file can fail in any way
        reason = str(error)[:200]
        raise TrivdError(f"{path} is not a TorchScript archive of plain tensors, or damaged: {reason}.") from error


def _named_tensors(root: Any) -> dict[str, Reference]:
    """Tensors below an object by their dotted path, in the pickle's order; each container is entered once."""
    found: dict[str, Reference] = {}
    seen: set[int] = set()
    pending = [iter([("", root)])]  # what is still to be looked at, of each container on the way down
    while pending:
        path, value = next(pending[-1], ("", None))
        if value is None:
            pending.pop()
            continue
        if len(path) > LONGEST_NAME:
            raise ValueError("its modules are nested too deep")
        if isinstance(value, Bag):
            value = value.attributes
        if isinstance(value, Reference):
            found[path] = value
            if len(found) > MOST_TENSORS:
                raise ValueError(f"it has more than {MOST_TENSORS:,} tensors")
        elif id(value) not in seen:
            seen.add(id(value))
            pending.append(_children(path, value))
    return found


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Tensors and containers in a container. Others get no path: a long one for each None would take much memory."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, child in items:
        if isinstance(child, Reference | Bag | dict | list | tuple):
            yield f"{path}.{name}" if path else str(name), child
