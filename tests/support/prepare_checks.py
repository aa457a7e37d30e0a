"""Helpers of the tests of prepared stores."""

from pathlib import Path
from typing import Any

from trivd.config import DataConfig
from trivd.data.scan_report import ScanReport
from trivd.data.store.prepare import write_store


def make(root: Path, destination: Path, workers: int = 0, **settings: Any) -> ScanReport:
    report = write_store(
        root,
        destination,
        resolution=32,
        channels=3,
        data=DataConfig(**{"validation_share": 0.3} | settings),
        workers=workers,
        progress=None,
    )
    assert report is not None
    return report


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    """When each finished shard, and its record, was written."""
    records = [path for path in (folder / "shards").glob("*.json") if not path.name.startswith(".")]
    files = [*records, *(record.with_suffix(".u8") for record in records)]
    return {path.name: path.stat().st_mtime_ns for path in files}
