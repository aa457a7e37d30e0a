"""Records of a comparison's runs: a file per run as it ends, and one file for all of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.comparison import Comparison, file_name
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

PACE_FILE = "pace.json"  # beside the files of a comparison's runs
WAY_OUT = "move it away, or choose another --results"

Result = dict[str, Any]  # of a run: circumstances, configuration, evaluations, and rows of the training log


def run_file(folder: Path, name: str, label: str, seed: int) -> Path:
    """The JSON file that a run of the comparison `name` writes as it ends."""
    return folder / name / f"{file_name(label)}-seed{seed}.json"


def collection_file(folder: Path, name: str) -> Path:
    """The JSON file that holds all runs of the comparison `name`."""
    return folder / f"{name}.json"


def read_run(file: Path) -> Result:
    """The result in the file of a run.

    Raises:
        TrivdError: the file holds something else.
    """
    try:
        return _checked(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrivdError(f"{file} is not the result of a run; {WAY_OUT}.") from error


def read_collection(folder: Path, name: str) -> dict[str, Any]:
    """The collected runs of a comparison and its cells' pace: {"pace": ..., "runs": [...]}; no runs without a file.

    Raises:
        TrivdError: the file holds something else.
    """
    file = collection_file(folder, name)
    if not file.exists():
        return {"pace": None, "runs": []}
    try:
        values = json.loads(file.read_text())
        return {"pace": values["pace"], "runs": [_checked(run) for run in values["runs"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrivdError(f"{file} does not hold the runs of a comparison; {WAY_OUT}.") from error


def find_run(folder: Path, name: str, label: str, seed: int) -> tuple[Path, Result] | None:
    """A run's result and the file that holds it: its own if there is one, else the collection."""
    file = run_file(folder, name, label, seed)
    if file.is_file():
        return file, read_run(file)
    for values in read_collection(folder, name)["runs"]:
        if (values["cell"], values["seed"]) == (label, seed):
            return collection_file(folder, name), values
    return None


def read_runs(folder: Path, comparison: Comparison) -> list[Result]:
    """The finished runs of a comparison, by cell and seed; a run's own file precedes the collection.

    Raises:
        TrivdError: a file holds something else.
    """
    name, order = comparison.records, [cell.label for cell in comparison.cells]
    collected = read_collection(folder, name)["runs"]
    alone = [read_run(file) for file in sorted((folder / name).glob("*-seed*.json"))]
    found = {(values["cell"], values["seed"]): values for values in (*collected, *alone) if values["cell"] in order}
    return sorted(found.values(), key=lambda values: (order.index(values["cell"]), values["seed"]))


def collect(folder: Path, comparison: Comparison) -> Path | None:
    """Write the runs of a comparison and its pace to one file, a run per line; None if there are none.

    The files of the runs stay where they are. The same runs give the same bytes.

    Raises:
        TrivdError: a file holds something else.
    """
    name, runs = comparison.records, read_runs(folder, comparison)
    if not runs:
        return None
    lines = ",\n".join(_compact(run) for run in runs)
    pace = read_pace(folder, name)
    file = collection_file(folder, name)
    write_atomically(file, f'{{"pace": {_compact(pace)},\n"runs": [\n{lines}\n]}}\n'.encode())
    return file


def read_pace(folder: Path, name: str) -> Any:
    """Measured pace of a comparison's cells, from its own file or the collection; None if nothing was measured.

    Raises:
        TrivdError: a file holds something else.
    """
    file = folder / name / PACE_FILE
    if not file.is_file():
        return read_collection(folder, name)["pace"]
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise TrivdError(f"{file} does not hold the pace of runs; choose another --results.") from error


def _checked(values: Mapping[str, Any]) -> Result:
    """The values if they have what the tables need, else KeyError or TypeError."""
    _ = values["config"], values["data"], values["evaluations"], values["scores"], values["losses"]
    return dict(values)


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))
