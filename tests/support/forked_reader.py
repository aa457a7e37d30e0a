"""The reader of PyTorch's files forked from a process that has imported PyTorch: with its limits, without its start."""

import contextlib
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

from trivd.evaluation.networks.weights.readers import child


def run(command: list[str], *, timeout: float, **_: Any) -> subprocess.CompletedProcess[bytes]:
    """Do what `subprocess.run` does with the command of `sandbox.load_in_child`."""
    arguments = command[command.index(child.__file__) + 1 :]
    said = Path(arguments[1]).with_name("said")
    process = multiprocessing.get_context("forkserver").Process(target=_read, args=(arguments, said))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(command, timeout)
    output = said.read_bytes() if said.exists() else b""
    return subprocess.CompletedProcess(command, process.exitcode, output)


def _read(arguments: list[str], said: Path) -> None:
    sys.argv = [child.__file__, *arguments]
    with said.open("w") as output, contextlib.redirect_stdout(output):
        child.main()
