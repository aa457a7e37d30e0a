"""Runs the loader of PyTorch's files in a process with limits, and takes arrays from it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open

from trivd.evaluation.networks.weights.limits import LARGEST_BYTES, FloatArray
from trivd.evaluation.networks.weights.readers import child

CPU_SECONDS = 10  # for a file, beside PyTorch's import; I3D takes 0.3
WALL_SECONDS = 120


def load_in_child(source: Path, kind: str) -> dict[str, FloatArray]:
    """The floating-point tensors of a file as float32, by name, in the file's order.

    Args:
        source: a file of torch.save; of at most `LARGEST_BYTES`.
        kind: one of `child`'s.

    Raises:
        ValueError: it cannot be loaded within the limits, or holds more than tensors and plain containers.
    """
    with tempfile.TemporaryDirectory(prefix="trivd-weights-") as folder:
        target = Path(folder) / "tensors.safetensors"
        limits = (str(LARGEST_BYTES), str(CPU_SECONDS))
        command = [sys.executable, "-P", child.__file__, str(source), str(target), kind, *limits]
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # so that it finds the same PyTorch
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | paths | {"OMP_NUM_THREADS": "1"},
                timeout=WALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"it took more than {WALL_SECONDS} seconds") from error
        if ended.returncode < 0:
            raise ValueError(f"it took too much time or memory, or broke its loader: signal {-ended.returncode}")
        if ended.returncode:
            raise ValueError(ended.stdout.decode(errors="replace").strip() or "its loader could not start")
        return read_arrays(target)


def read_arrays(path: Path) -> dict[str, FloatArray]:
    """The arrays that `child` has written, by name, in the order in which the file that it loaded has them."""
    with safe_open(path, "np") as file:
        names = json.loads(file.metadata()["names"])
        return dict(zip(names, (file.get_tensor(key) for key in sorted(file.keys())), strict=True))
