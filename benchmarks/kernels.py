"""The kernels of a profiled step on a GPU by name: how many, their time, and the share of convolutions and products."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch.autograd.profiler_util import FunctionEvent

# Names as cuDNN, cuBLAS and CUTLASS give them; what implicit products compute are convolutions.
CONVOLUTION = re.compile(r"conv(?!ert)|fprop|dgrad|wgrad|implicit_gemm|cudnn", re.IGNORECASE)
PRODUCT = re.compile(r"gemm|gemv|nvjet|cutlass|cublas|splitk|xmma|dot_kernel", re.IGNORECASE)
ATEN = "at::native"  # PyTorch's own kernels, whatever they are called
NAMES = 30  # kernels listed, by time
LETTERS = 110  # of a name that are shown: those of templates have thousands


def kernel_kind(name: str) -> str:
    """ "convolutions", "products" or "" for all others, by the name of a kernel."""
    if ATEN in name:
        return ""
    return "convolutions" if CONVOLUTION.search(name) else "products" if PRODUCT.search(name) else ""


def kernels_of(events: Sequence[FunctionEvent]) -> dict[str, Any] | None:
    """What a profile tells of its kernels, in seconds; None without any, as on a CPU.

    Args:
        events: of the profiler, of all devices.
    """
    scopes = {event.name for event in events if event.device_type.name == "CPU"}  # the GPU has events of these too
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.device_type.name == "CUDA" and event.name not in scopes:
            found[event.name].append(event.time_range.elapsed_us() / 1e6)
    if not found:
        return None
    seconds = {name: sum(each) for name, each in sorted(found.items(), key=lambda item: -sum(item[1]))}
    whole = sum(seconds.values())
    return {
        "count": sum(map(len, found.values())),
        "seconds": whole,
        "share": sum(time for name, time in seconds.items() if kernel_kind(name)) / whole,
        "names": [
            {
                "name": name.removeprefix("void ")[:LETTERS],
                "kind": kernel_kind(name),
                "count": len(found[name]),
                "seconds": time,
            }
            for name, time in list(seconds.items())[:NAMES]
        ],
    }
