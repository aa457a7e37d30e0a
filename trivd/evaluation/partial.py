"""Finished batches of an evaluation, kept on disk until its report is written, so that it can resume."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from trivd.evaluation.collecting import Columns, Part, measure
from trivd.runtime.files import json_digest, write_atomically

KEY_LENGTH = 12


class PartialResults:
    """A folder of batches beside the report.

    Args:
        report: the file that the evaluation will write.
        identity: everything the figures depend on, as JSON values. Each identity has a folder of its own, and so has a
            copy of the report's folder.
    """

    def __init__(self, report: Path, identity: dict[str, Any]) -> None:
        report.parent.mkdir(parents=True, exist_ok=True)
        # With the inode, batches that were copied along with a model are not mistaken for ours.
        key = json_digest(identity | {"inode": report.parent.stat().st_ino})[:KEY_LENGTH]
        self.folder = report.with_name(f".{report.name}.{key}.partial")

    def read(self, name: str, numbers: Sequence[int]) -> Columns | None:
        """The columns of some clips; None if they are missing, or were cut off by a full disk."""
        try:
            return load(self._path(name, numbers).read_bytes())
        except (OSError, SafetensorError):
            return None

    def missing(self, name: str, groups: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """The batches, by their clips' numbers, whose columns are not there."""
        return [numbers for numbers in groups if self.read(name, numbers) is None]

    def complete(self, name: str, part: Part, groups: Sequence[Sequence[int]]) -> Iterator[None]:
        """Compute what is missing, and keep it.

        Args:
            name: name of the part, unique within the evaluation.
            part: computes the columns of some clips.
            groups: the numbers of each batch.

        Yields:
            nothing, once a batch is there.
        """
        missing = self.missing(name, groups)
        computed = measure(part, missing)
        for numbers in groups:
            if numbers in missing:
                self._write(name, numbers, next(computed))
            yield

    def kept(self, name: str, part: Part) -> Part:
        """`part`, but columns that were computed before are read back.

        Args:
            name: name of the part, unique within the evaluation.
            part: computes the columns of some clips.
        """

        def read_or_compute(numbers: Sequence[int]) -> Columns:
            columns = self.read(name, numbers)
            if columns is None:
                columns = {key: column.cpu() for key, column in part(numbers).items()}
                self._write(name, numbers, columns)
            return columns

        return read_or_compute

    def _write(self, name: str, numbers: Sequence[int], columns: Columns) -> None:
        # Cloned, as safetensors refuses tensors that share memory, such as I3D's embedding and logits.
        data = save({key: column.clone() for key, column in columns.items()})
        write_atomically(self._path(name, numbers), data)

    def _path(self, name: str, numbers: Sequence[int]) -> Path:
        return self.folder / f"{name}-{numbers[0]}-{numbers[-1]}-{len(numbers)}.safetensors"

    def remove(self) -> None:
        """Remove all batches, once the report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
