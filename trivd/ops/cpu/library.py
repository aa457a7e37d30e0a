"""The CPU kernels in kernels/, compiled once by this machine's C++ compiler and then loaded from a cache folder.

Where that cannot be done, the plain PyTorch form of every operation takes their place.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trivd.runtime.files import library_folder, write_atomically
from trivd.runtime.hardware import processor

LOGGER = logging.getLogger(__name__)
SOURCES = Path(__file__).with_name("kernels")
FLAGS = ("-std=c++17", "-O2", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
MOST_TAPS = 15**2  # k^2 that the compiled warp and softmax have room for; larger ones take the plain form
COMPILER_SECONDS = 600  # of a step, after which the plain form is used
WORTH_THREADS = 2**16  # elements; below, waking a thread costs more than it saves

_POINTER, _COUNT, _THREADS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
ARGUMENTS: dict[str, list[type]] = {
    "activate": [_POINTER] * 5 + [_COUNT] * 2 + [_THREADS],
    "activate_backward": [_POINTER] * 5 + [_COUNT] * 2 + [_THREADS],
    "mix": [_POINTER] * 4 + [_COUNT, _THREADS],
    "mix_backward": [_POINTER] * 7 + [_COUNT, _THREADS],
    "normalize": [_POINTER] * 6 + [_THREADS],
    "normalize_backward": [_POINTER] * 10 + [_THREADS],
    "normalize_sums": [_POINTER] * 8 + [_THREADS],
    "pooled_differences": [_POINTER] * 4 + [_THREADS],
    "pooled_differences_backward": [_POINTER] * 6 + [_THREADS],
    "softmax": [_POINTER] * 2 + [_COUNT] * 2 + [_THREADS],
    "softmax_backward": [_POINTER] * 3 + [_COUNT] * 2 + [_THREADS],
    "statistics": [_POINTER] * 4 + [_THREADS],
    "warp": [_POINTER] * 4 + [_THREADS],
    "warp_backward": [_POINTER] * 6 + [_THREADS],
}
Kernel = Callable[..., None]


def kernel(name: str, *tensors: Tensor | None) -> Kernel | None:
    """The compiled operation `name` for the type of these CPU tensors; None where the plain form is to be used.

    Plain are: tensors of several or other types, machines without a C++ compiler, and everything if the environment
    variable TRIVD_PLAIN is set and not empty when the first kernel is asked for.
    """
    dtypes = {tensor.dtype for tensor in tensors if tensor is not None}
    return kernels().get((name, dtypes.pop())) if len(dtypes) == 1 else None


def launch(compiled: Kernel, *arguments: Any, elements: int) -> None:
    """Call a kernel with the addresses of tensors, and other arguments as they are.

    Args:
        compiled: given by `kernel`.
        arguments: in the kernel's order; None is a null pointer, a list of tensors becomes one of their addresses.
        elements: how much there is to do, which decides how many threads do it.
    """
    compiled(*map(_argument, arguments), torch.get_num_threads() if elements >= WORTH_THREADS else 1)


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data_ptr()
    if isinstance(value, list | tuple):
        return (ctypes.c_void_p * len(value))(*map(_argument, value))
    return ctypes.byref(value) if isinstance(value, ctypes.Structure) else value


@functools.cache
def kernels() -> dict[tuple[str, torch.dtype], Kernel]:
    """All compiled operations by name and type; empty, with one warning, where they cannot be compiled."""
    if os.environ.get("TRIVD_PLAIN"):
        return {}
    try:
        library = _load_or_compile()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home folder
        output = getattr(error, "stderr", None)
        reason = f"{error} {output or ''}".strip()
        warnings.warn(
            f"The CPU kernels of trivd could not be compiled ({reason}); the slower plain PyTorch form gives the same "
            "results. Install a C++ compiler (g++ or clang++), or name one in the environment variable CXX.",
            stacklevel=2,
        )
        return {}
    found = {}
    for name, arguments in ARGUMENTS.items():
        for dtype, suffix in TYPES.items():
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = arguments, None
            found[name, dtype] = function
    return found


def cache_path() -> Path:
    """The file of the kernels compiled from this source with these flags for this processor."""
    runtime = _openmp_runtime()
    sources = [file.read_text(encoding="utf-8") for file in sorted(SOURCES.iterdir())]
    identity = [*sources, *FLAGS, str(runtime), platform.machine(), _processor_flags()]
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:20]
    return library_folder() / "kernels" / f"{key}.so"


def _load_or_compile() -> ctypes.CDLL:
    path = cache_path()
    if _is_whole(path):
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(prefix="trivd-kernels-") as folder:
        built = Path(folder) / "kernels.so"
        _compile(built)
        library = built.read_bytes()
        try:
            # Whichever of several processes comes last wins: all are equal.
            write_atomically(path, library + hashlib.sha256(library).digest())
        except OSError:
            return ctypes.CDLL(str(built))  # the cache cannot be written; what is loaded outlives its file
        return ctypes.CDLL(str(path))


def _is_whole(path: Path) -> bool:
    """Check the checksum at a library's end: loading a damaged one could end the process."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def _compile(to: Path) -> None:
    """Compile the source into a shared library.

    Raises:
        OSError: there is no compiler.
        subprocess.SubprocessError: it failed.
    """
    candidates = (os.environ.get("CXX"), "c++", "g++", "clang++")
    compiler = next((found for name in candidates if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise FileNotFoundError("there is no C++ compiler")
    LOGGER.info("Compiling the CPU kernels, once on this machine: seconds, on a busy one up to a few minutes.")
    runtime = _openmp_runtime()
    compiled = to.with_suffix(".o")
    openmp = ["-fopenmp"] if runtime else []
    steps = (
        [compiler, *FLAGS, *openmp, "-c", str(SOURCES / "kernels.cpp"), "-o", str(compiled)],
        # Linked with the runtime itself: -fopenmp could bring a second one, whose threads would compete with torch's.
        [compiler, "-shared", str(compiled), *([str(runtime)] if runtime else []), "-o", str(to)],
    )
    for step in steps:
        subprocess.run(step, check=True, capture_output=True, text=True, timeout=COMPILER_SECONDS)


@functools.cache
def _openmp_runtime() -> Path | None:
    """The GNU OpenMP library that torch has loaded, if it has: kernels share its threads. None: one thread."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(errors="surrogateescape").splitlines() if maps.is_file() else []
    return next((Path(line.split(maxsplit=5)[5]) for line in lines if "libgomp" in line), None)


def _processor_flags() -> str:
    """The processor's features, on which -march=native depends, where Linux names them."""
    return processor("flags") or processor("Features") or platform.processor()
