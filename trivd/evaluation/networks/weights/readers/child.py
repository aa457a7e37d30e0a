"""The program that loads a file of PyTorch in a process of its own, where it can only harm itself.

    python child.py SOURCE TARGET KIND LARGEST_BYTES CPU_SECONDS

It limits its memory and time, loads SOURCE ("saved", or the tensors of a "program"), and writes the floating-point
tensors as float32 to TARGET, a safetensors file. If it fails it prints the reason and exits with status 1. It imports
nothing of trivd, so that it starts as fast as PyTorch does.
"""

import json
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

SAVED, PROGRAM = "saved", "program"  # kinds of files
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")  # keys of training files
DEEPEST = 8  # wrappers around each other
MOST_TENSORS = 10_000  # I3D has some 350
LONGEST_NAME = 1 << 10  # characters of a tensor's name
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # others are not weights
LARGEST_SHARE = 4  # bytes of all tensors per byte of the file: float16 doubles, and tensors may share storages
SPARE_BYTES = 1 << 28  # of memory, for what PyTorch takes beside the file and its tensors
MEMORY = Path("/proc/self/statm")  # absent outside of Linux, where nothing limits the memory


class Module:
    """Stands in for the modules of a TorchScript archive: keeps what a pickle gives it, does nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def first(value: Any, *_: Any) -> Any:
    """Stands in for functions that only put a type on their first argument."""
    return value


TAGS = [
    (first, f"torch.jit._pickle.{name}")
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
]


def main() -> None:
    """Convert within the limits, or print the reason."""
    source, target, kind, largest, seconds = sys.argv[1:]
    size = Path(source).stat().st_size
    room = min(int(largest), max(1 << 20, LARGEST_SHARE * size))  # bytes of all tensors as float32
    limit(SPARE_BYTES + size + 2 * room, int(seconds))
    try:
        convert(Path(source), Path(target), kind, room)
    except Exception as error:  # a hostile or damaged file can fail in any way
        print(reason(error))
        sys.exit(1)


def limit(memory: int, seconds: int) -> None:
    """Let this process take so many bytes and seconds more than it has taken, and leave no core file."""
    if MEMORY.exists():
        taken = int(MEMORY.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    ends = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (ends, ends))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def convert(source: Path, target: Path, kind: str, room: int) -> None:
    """Write the tensors of a file, of at most `room` bytes, to a safetensors file.

    Raises:
        Exception: it is damaged, or holds more than tensors and plain containers.
    """
    with source.open("rb") as file:
        tensors = named_tensors(load_modules(file)) if kind == PROGRAM else state_dict(load(file))
    write(target, tensors, room)


def load(file: IO[bytes]) -> Any:
    """Load a file of torch.save that holds tensors and plain containers alone."""
    return torch.load(file, map_location="cpu", weights_only=True)


def load_modules(file: IO[bytes]) -> Any:
    """The root of a TorchScript archive without its code, in which `Module` stands for every class."""
    names = [name for name in get_unsafe_globals_in_checkpoint(file) if name.startswith("__torch__.")]
    file.seek(0)
    with safe_globals([*TAGS, *((Module, name) for name in names)]):
        return load(file)


def state_dict(loaded: Any) -> dict[str, Tensor]:
    """The dict of tensors in what was loaded, which may be wrapped in a training run's dict."""
    for _ in range(DEEPEST):  # a pickle can put a dict into itself
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")
        tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor) and isinstance(name, str)}
        if tensors:
            return tensors
        wrapper = next((key for key in WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if wrapper is None:
            break
        loaded = loaded[wrapper]
    names = str([str(name)[:30] for name in list(loaded)[:5]])
    raise ValueError(f"it holds no tensors, only {names}")


def named_tensors(root: Any) -> dict[str, Tensor]:
    """Tensors below an object by the dotted path to them, in the pickle's order; each container is entered once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    pending = [iter([("", root)])]  # for each container on the way down, what is still to be visited
    while pending:
        path, value = next(pending[-1], ("", None))
        if value is None:
            pending.pop()
            continue
        if len(path) > LONGEST_NAME:
            raise ValueError("its modules are nested too deep")
        if isinstance(value, Module):
            value = value.state
        if isinstance(value, Tensor):
            found[path] = value
        elif id(value) not in seen:
            seen.add(id(value))
            pending.append(children(path, value))
    return found


def children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Tensors and containers in a container. Others get no path: a long one for each None would take much memory."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, child in items:
        if isinstance(child, Tensor | Module | dict | list | tuple):
            yield f"{path}.{name}" if path else str(name), child


def write(target: Path, tensors: Mapping[str, Tensor], room: int) -> None:
    """Write the floating-point tensors as float32, numbered in their order; their names are in the header.

    Raises:
        ValueError: one is empty or not a plain array, or there are too many of them or of their numbers.
    """
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"it has more than {MOST_TENSORS:,} tensors")
    wanted = {name: tensor.detach() for name, tensor in tensors.items() if tensor.dtype in TYPES}
    for name, tensor in wanted.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.numel() == 0:
            raise ValueError(f"{name[:100]} is empty or not a plain array")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name[:100]} is larger than its storage")
    if 4 * sum(tensor.numel() for tensor in wanted.values()) > room:
        raise ValueError("its tensors overlap, or are larger than the file")
    copies = {
        f"{number:06d}": tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for number, tensor in enumerate(wanted.values())
    }
    save_file(copies, target, metadata={"names": json.dumps(list(wanted))})


def reason(error: BaseException) -> str:
    """Why a file cannot be read, in a line."""
    if isinstance(error, UnpicklingError) and error.__context__ is not None:
        error = error.__context__  # what PyTorch puts around it is advice to trust the file
    text = str(error).strip().partition("\n")[0].partition(". ")[0][:200]
    kind = [] if type(error) is ValueError and text else [type(error).__name__]
    return ": ".join([*kind, *filter(None, [text])])


if __name__ == "__main__":
    main()
