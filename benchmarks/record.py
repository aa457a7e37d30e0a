"""The JSON file of a suite: circumstances, settings and rows, saved after each row so that a stop loses nothing."""

import datetime
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.measuring import circumstances
from benchmarks.suite import Case, Row, Suite, shown
from trivd.runtime.console import say, show_table
from trivd.runtime.distributed import rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

DECISIVE = ("suite", "settings", "hardware", "versions")  # must be equal for all rows of a table


class Record:
    """Rows of a suite; those that the file already holds are not measured again.

    Args:
        path: path of the JSON file; None keeps the rows in memory only.
        suite: suite with its settings.
        device: device that is measured.

    Raises:
        TrivdError: the file holds something else, or rows of other settings, hardware or versions.
    """

    def __init__(self, path: Path | None, suite: Suite, device: torch.device) -> None:
        self.path = path
        settings = json.loads(json.dumps(asdict(suite)))  # tuples become lists, as in the file
        self.values: dict[str, Any] = {"suite": suite.name, **circumstances(device), "settings": settings, "rows": []}
        if path is not None and path.exists():
            found = read_record(path)
            different = [key for key in DECISIVE if found[key] != self.values[key]]
            if different:
                raise TrivdError(
                    f"{path} was measured with other {' and '.join(different)}; name another file for --json."
                )
            self.values = found

    @property
    def rows(self) -> list[Row]:
        return self.values["rows"]

    def row(self, case: Case) -> Row | None:
        """The row of a case; None if it has not been measured."""
        return next((row for row in self.rows if row["case"] == case), None)

    def add(self, case: Case, measured: dict[str, Any]) -> None:
        """Keep a row, and save the file."""
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.values["rows"].append({"case": case, "date": date, **measured})
        if self.path is not None and rank() == 0:
            write_atomically(self.path, (json.dumps(self.values, indent=2) + "\n").encode())


def is_record(values: Any) -> bool:
    """Whether JSON values are those of a suite's file."""
    return isinstance(values, dict) and {*DECISIVE, "rows"} <= values.keys()


def read_record(path: Path) -> dict[str, Any]:
    """The values of a suite's file.

    Raises:
        TrivdError: it is not one.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrivdError(f"{path} cannot be read as JSON: {error}.") from error
    if not is_record(values):
        raise TrivdError(f"{path} was not written by `trivd benchmark`; name another file.")
    return values


def run_suite(suite: Suite, device: torch.device, path: Path | None, console: Console) -> Record:
    """Measure the missing rows, report the progress, and print the table.

    Raises:
        TrivdError: see `Record`.
    """
    record = Record(path, suite, device)
    cases = suite.cases()
    for number, case in enumerate(cases, start=1):
        what = ", ".join(f"{name} {value}" for name, value in case.items())
        line = f"{suite.name} {number}/{len(cases)}: {what}"
        if record.row(case) is not None:
            say(console, f"{line} (already measured)")
            continue
        say(console, line)
        record.add(case, suite.measure(case, device))
    rows = [row for case in cases if (row := record.row(case)) is not None]
    columns = shown(suite.columns, rows)
    cells = [[column.cell(row) for column in columns] for row in rows]
    show_table(console, [column.heading for column in columns], cells, suite.title)
    say(console, f"{describe(record.values)}")
    if path is not None:
        say(console, f"Written: {path}")
    return record


def describe(values: dict[str, Any]) -> str:
    """One line with hardware, versions, turns and date of a record."""
    hardware, versions = values["hardware"], values["versions"]
    place = hardware["cpu"] if hardware["device"] == "cpu" else f"{hardware['device']}, {hardware['cpu']}"
    return (
        f"{place}, {hardware['threads']} of {hardware['cores']} threads, torch {versions['torch']}, "
        f"medians of {values['settings']['turns']} turns, {values['date'][:10]}"
    )
