"""The folder of a run: its settings, log, checkpoints, samples and models, and how a run is started or resumed."""

import errno
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from trivd.config import Config, from_dict, to_dict
from trivd.config.upgrade import VERSION, upgrade_run
from trivd.models.pretrained import BEST, LARGEST_CONFIG, RUN_FILE
from trivd.runtime.distributed import world_size
from trivd.runtime.errors import TrivdError, is_disk_full
from trivd.runtime.files import check_output_file, check_output_folder, read_json, write_atomically
from trivd.training.division import divide
from trivd.training.fingerprint import Listing, compare_data

# Settings that may change when a run resumes; all others decide what it computes.
CHANGEABLE = {
    "training.steps",
    "training.minutes",
    "training.device",
    "training.on_nan",
    "training.patience",
    "training.cuda_graph",
    "training.checkpoint_activations",
    "training.log_every",
    "training.sample_every",
    "training.checkpoint_every",
    "data.workers",
    "data.unreadable_share",
}

MICROBATCH = "training.microbatch"  # may change too, if the number of passes stays
LOCK_FILE = ".lock"


class Run(NamedTuple):
    """The layout of a run's folder."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / RUN_FILE

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def best(self) -> Path:
        """The model with the best score on the training split."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The model after the last step."""
        return self.folder / "last"

    def read(self) -> tuple[Config, str]:
        """Settings and data path of the run.

        Raises:
            TrivdError: this is not a run's folder.
        """
        if not self.config_file.is_file():
            raise TrivdError(f"{self.folder} is not the folder of a run: it has no {self.config_file.name}.")
        values = self._values()
        return from_dict(Config, values["config"], str(self.config_file)), str(values["data"])

    @property
    def passes(self) -> int:
        """Number of passes of an update that it began with, see `trivd.training.division`; call `read` first.

        Raises:
            TrivdError: the file does not say it.
        """
        passes = self._values()["passes"]
        if type(passes) is not int or passes < 1:
            raise self._damaged()
        return passes

    @property
    def listing(self) -> Listing:
        """Contents of its data when it last started or resumed, see `list_videos`; empty in older runs. `read` first.

        Raises:
            TrivdError: the file does not say it.
        """
        listing = self._values()["listing"]
        if not isinstance(listing, dict):
            raise self._damaged()
        return listing

    def _values(self) -> dict[str, Any]:
        """What its file of settings says, as this version would.

        Raises:
            TrivdError: the file is damaged, or of a later version.
        """
        try:
            values = upgrade_run(read_json(self.config_file, LARGEST_CONFIG))
            if values.get("version", 1) > VERSION:
                raise TrivdError(f"{self.config_file} has format version {values['version']}; update trivd to go on.")
            return {name: values[name] for name in ("config", "data", "passes", "listing")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged() from error

    def _damaged(self) -> TrivdError:
        return TrivdError(f"{self.config_file} is damaged; restore it, or choose another --out.")

    def check(self, config: Config) -> None:
        """Refuse a folder in which a run with these settings can neither start nor resume; nothing is changed.

        Raises:
            TrivdError: it holds another run, or files that are not a run's, or cannot be written; or the processes
                cannot share the batch equally.
        """
        check_output_folder(self.folder)
        self._passes(config)
        for folder in (self.checkpoints, self.samples, self.tensorboard, self.best, self.last):
            check_output_folder(folder)
        check_output_file(self.log_file)

    def check_data(self, data: str, listing: Listing) -> str:
        """Refuse data other than the run's.

        Args:
            data: full name of the data.
            listing: its contents, see `list_videos`.

        Returns:
            a sentence if the data has moved or changed, else "".

        Raises:
            TrivdError: it is other data.
        """
        if not self.config_file.is_file():
            return ""
        _, saved = self.read()
        try:
            return compare_data(saved, self.listing, data, listing)
        except TrivdError as error:
            raise TrivdError(f"The run in {self.folder} {error}") from error

    def _passes(self, config: Config) -> int:
        """Number of passes of an update that the run began with, or begins with now.

        Raises:
            TrivdError: the folder holds another run, or files that are not a run's; or the processes cannot share the
                batch equally.
        """
        if not self.config_file.is_file():
            if self.folder.exists() and set(self.folder.iterdir()) - {self.folder / LOCK_FILE, *self._half_settings}:
                raise TrivdError(f"{self.folder} is not empty and holds no run; choose another --out.")
            return divide(config.training, world_size()).passes
        (saved, _), passes = self.read(), self.passes
        changed = {key: value for key, value in differences(saved, config).items() if key not in CHANGEABLE}
        if not changed.keys() - {MICROBATCH} and (
            divide(config.training, world_size(), passes).passes == passes or not changed
        ):
            return passes
        said = ", ".join(f"{key} (there {value})" for key, value in changed.items())
        raise TrivdError(
            f"{self.folder} holds a run with other settings: {said}; take these to go on with it, or choose another "
            "--out."
        )

    @contextmanager
    def opened(self, config: Config, data: str, listing: Listing | None = None) -> Iterator[int]:
        """Start a run in the folder, or resume the same run; within, no other process can train there.

        Args:
            config: all settings.
            data: full name of the data; see `check_data`.
            listing: its contents; None for data that is made on the fly.

        Yields:
            number of passes of an update that the run began with.

        Raises:
            TrivdError: see `check`; or another process trains there.
        """
        passes = self._passes(config)
        values = {"version": VERSION, "config": to_dict(config), "data": data, "passes": passes}
        with self._locked():
            self._remove_leftovers()
            write_atomically(self.config_file, json.dumps(values | {"listing": listing or {}}, indent=2).encode())
            yield passes

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Make and lock the folder. The system releases the lock when this process ends, for whatever reason."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / LOCK_FILE).open("w")
        except OSError as error:
            if is_disk_full(error):
                raise
            raise TrivdError(f"{self.folder} cannot be written ({error}); choose another --out.") from error
        with lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: forked readers of clips would inherit it
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise TrivdError(
                        f"Another process is training in {self.folder}; wait until it has ended, or choose another "
                        "--out."
                    ) from error
                raise TrivdError(f"{self.folder} cannot be locked ({error}); choose another --out.") from error
            yield

    def _remove_leftovers(self) -> None:
        """Remove what a killed process left half-written; other files may belong to an evaluation that is running."""
        folders = (self.checkpoints, self.samples, self.best, self.last)
        for path in [*self._half_settings, *(path for folder in folders for path in folder.glob(".*.tmp"))]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @property
    def _half_settings(self) -> list[Path]:
        return list(self.folder.glob(f".{self.config_file.name}.*.tmp"))

    def log_rows(self) -> list[dict[str, Any]]:
        """The log, one row per step and kind; for a step that was repeated after a crash, the last row."""
        rows: dict[tuple[int, bool], dict[str, Any]] = {}
        if self.log_file.is_file():
            for line in self.log_file.read_text(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    step, is_score = row["step"], any(key.startswith("score/") for key in row)
                except (ValueError, KeyError, TypeError, RecursionError):  # cut off by a crash, or damaged
                    continue
                if type(step) is int:
                    rows[step, is_score] = row
        return [rows[key] for key in sorted(rows)]


def differences(first: Config, second: Config) -> dict[str, Any]:
    """Settings (section.setting) in which two configurations differ, with their values in the first."""
    a, b = to_dict(first), to_dict(second)
    return {
        f"{section}.{name}": value for section in a for name, value in a[section].items() if b[section][name] != value
    }
