"""Memory in use, and the highest speed of matrix products on this machine, with which times are compared."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

PRODUCT_SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}  # n of the n x n matrices
PRODUCT = "matrix product "


def product_ways(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Matrix products of several sizes, to be timed in turn with the work that is compared with them."""
    sizes = PRODUCT_SIZES["cuda" if device.type == "cuda" else "cpu"]

    def way(n: int) -> Callable[[], object]:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        return lambda: [a @ b for _ in range(_repeats(n, sizes))]

    return {f"{PRODUCT}{n}": way(n) for n in sizes}


def product_peak(seconds: Mapping[str, float]) -> float:
    """FLOP/s of the fastest of `product_ways`, from the seconds of each."""
    measured = {int(name.removeprefix(PRODUCT)): time for name, time in seconds.items() if name.startswith(PRODUCT)}
    return max(2 * n**3 * _repeats(n, tuple(measured)) / time for n, time in measured.items())


def _repeats(n: int, sizes: tuple[int, ...]) -> int:
    """Repetitions with which every size takes the same FLOPs, twice those of the largest product."""
    return 2 * (max(sizes) // n) ** 3


def available_bytes(device: torch.device) -> int | None:
    """Free memory in bytes; None where the system does not tell it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def resident_bytes() -> int | None:
    """Bytes of this process in RAM; None where Linux does not tell them."""
    return _kilobytes(Path("/proc/self/status"), "VmRSS")


def highest_resident_bytes() -> int | None:
    """The highest value that `resident_bytes` has had. (getrusage's maximum would include a parent process.)"""
    return _kilobytes(Path("/proc/self/status"), "VmHWM")


def _kilobytes(file: Path, name: str) -> int | None:
    """The value of a line "name:  123 kB" in one of Linux's status files, in bytes."""
    lines = file.read_text().splitlines() if file.is_file() else []
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) * 1024 if values else None
