"""The device, and the precision and memory layout in which it is fastest."""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from trivd.runtime.errors import TrivdError


def choose_device(name: str, option: str) -> torch.device:
    """The device `name`; "auto" is cuda if there is a GPU, else cpu. Each process of torchrun has a GPU of its own.

    Args:
        name: auto, cpu, cuda, cuda:1, ...
        option: option of the command line that holds the name, for the message.

    Raises:
        TrivdError: this machine has no such device.
    """
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name == "auto":
        return torch.device(own if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(own if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrivdError(f"{option} is {name}, which cannot be used here; choose auto, cpu or cuda.") from error
    return device


def memory_bytes(device: torch.device) -> int:
    """Memory in bytes of a GPU, or of this machine within the limit of this process."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return here if allowed == resource.RLIM_INFINITY else min(here, allowed)


def processor(field: str) -> str:
    """A field of /proc/cpuinfo, such as "model name", of the first core; "" where there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether convolutions are faster in bfloat16: on CUDA, and on CPUs with AMX or AMD's AVX512-BF16.

    On Intel's CPUs whose AMX is hidden by a hypervisor, AVX512-BF16 alone runs at half the speed of float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # torch has no public name for these yet.
    amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
    return bool(amx or (avx512 and processor("vendor_id") == "AuthenticAMD"))


def choose_precision(setting: Literal["auto", "bfloat16", "float32"], device: torch.device) -> torch.dtype:
    """The dtype of convolutions and linear layers; weights and accumulations stay in float32."""
    if setting == "auto":
        return torch.bfloat16 if gains_from_bfloat16(device) else torch.float32
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Name of a dtype without its module: "bfloat16" or "float32"."""
    return str(dtype).removeprefix("torch.")


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Context in which convolutions and linear layers run in `dtype`; it has no effect for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Context of convolutions and matrix products in full float32, whatever autocast and the TF32 settings say.

    TF32 alone changes an FVD by about 3e-4 of its value.
    """
    backends: Any = torch.backends  # which does not declare all of its members
    settings = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with autocast(device, torch.float32):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def to_device(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on `device`; a GPU takes it when its turn comes, and nobody waits for that."""
    return value.contiguous().pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Context that runs with `count` CPU threads (None: unchanged), and restores the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def set_up_program() -> None:
    """Make settings of the whole process that speed up steps; programs call it first, before other threads start.

    Denormals, numbers below 1e-38, count as zero, in threads started later too: processors take up to 100 times as
    long for them, and the gradients of a discriminator that has won are full of them.
    """
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step: returned to the system, each page would be faulted in again.

    It has an effect only on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-1, -1), (-4, 0), (-2, 2**26)):  # trim never, mmap nothing, grow by 64 MiB
            mallopt(parameter, value)


def to_channels_last(module: torch.nn.Module) -> torch.nn.Module:
    """Change 4- and 5-dimensional weights in place to the layout in which convolutions are fastest."""
    for parameter in module.parameters():
        if parameter.dim() in (4, 5):
            layout = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return module
