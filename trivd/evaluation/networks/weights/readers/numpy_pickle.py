"""NumPy's arrays in a pickle, such as the checkpoints of JAX, without unpickling it.

A pickle is a program. Of its language (Python's pickletools describes it) this reads what builds dicts of arrays, and
refuses the rest; nothing that a file names is looked up or called.
"""

import io
import itertools
import math
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trivd.evaluation.networks.weights.limits import FloatArray

MOST_STEPS = 100_000  # I3D's pickle has 7,800
LONGEST_PATH = 1 << 10  # characters
MOST_DIMENSIONS = 8
LITERALS = ("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
IGNORED = ("PROTO", "FRAME")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
ARRAY, TYPE = "array", "type"
GLOBALS = {
    ("numpy", "ndarray"): "",  # may be named, but not called
    ("numpy", "dtype"): TYPE,
    ("numpy.core.multiarray", "_reconstruct"): ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): ARRAY,  # since NumPy 2
}
FLOATS = ("f2", "f4", "f8")
ORDERS = ("<", ">")


@dataclass(frozen=True)
class _Maker:
    """What a pickle calls to make something."""

    kind: str


@dataclass
class _Made:
    """An array or its type, from what it is called with and what is set in it afterwards."""

    kind: str
    arguments: Any
    state: Any = None


class _Stack:
    """The stack of a pickle: values, and marks between them."""

    def __init__(self) -> None:
        self._parts: list[list[Any]] = [[]]

    def push(self, value: Any) -> None:
        self._parts[-1].append(value)

    def pop(self) -> Any:
        if not self._parts[-1]:
            raise ValueError("it takes more than it has put")
        return self._parts[-1].pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        if type(value) is not kind:
            raise ValueError("it holds more than dicts of arrays")
        self.push(value)
        return value

    def mark(self) -> None:
        self._parts.append([])

    def since_mark(self) -> list[Any]:
        values = self._parts.pop()
        if not self._parts:
            raise ValueError("it takes more than it has put")
        return values


def read_numpy_pickle(data: bytes) -> dict[str, FloatArray]:
    """All arrays of floats in nested dicts as float32, by the keys that lead to them, joined by slashes.

    Raises:
        ValueError: it is damaged, holds anything else, or its arrays together are larger than it is.
    """
    arrays: dict[str, FloatArray] = {}
    taken = 0  # bytes
    for name, made in _leaves(_build(data)):
        array = _array(made, name)
        if array is None:
            continue
        taken += array.nbytes
        if taken > len(data):  # one array under many names
            raise ValueError("its arrays are larger than the file")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused as a weight
            arrays[name] = array.astype(np.float32)
    return arrays


def _build(data: bytes) -> Any:
    """What a pickle says, with a `_Made` for each array."""
    stack, memo = _Stack(), list[Any]()
    steps: Iterator[tuple[Any, Any, Any]] = pickletools.genops(io.BytesIO(data))
    for opcode, argument, _ in itertools.islice(steps, MOST_STEPS):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in LITERALS:
            stack.push(argument)
        elif name in CONSTANTS:
            stack.push(CONSTANTS[name])
        elif name == "MEMOIZE":
            memo.append(stack.pop())
            stack.push(memo[-1])
        elif name in ("BINPUT", "LONG_BINPUT"):  # before protocol 4, which numbers the memo itself
            if argument != len(memo):
                raise ValueError("its memo is out of order")
            memo.append(stack.pop())
            stack.push(memo[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            if argument >= len(memo):
                raise ValueError("it takes more than it has put")
            stack.push(memo[argument])
        elif name == "MARK":
            stack.mark()
        elif name == "EMPTY_DICT":
            stack.push({})
        elif name == "EMPTY_TUPLE":
            stack.push(())
        elif name == "TUPLE":
            stack.push(tuple(stack.since_mark()))
        elif name in TUPLES:
            stack.push(tuple([stack.pop() for _ in range(TUPLES[name])][::-1]))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack.top(dict), [key, value])
        elif name == "SETITEMS":
            items = stack.since_mark()
            _set_items(stack.top(dict), items)
        elif name == "GLOBAL":
            stack.push(_maker(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.push(_maker(module, attribute))
        elif name == "REDUCE":
            arguments = stack.pop()
            maker = stack.top(_Maker)
            if not maker.kind:
                raise ValueError("it calls more than what makes arrays")
            stack.pop()
            stack.push(_Made(maker.kind, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack.top(_Made).state = state
        elif name not in IGNORED:
            raise ValueError(f"it holds more than dicts of arrays ({name})")
    raise ValueError(f"it has more than {MOST_STEPS:,} steps")


def _set_items(target: dict[str, Any], items: list[Any]) -> None:
    if len(items) % 2 or any(type(key) is not str for key in items[::2]):  # the hash of others can take any time
        raise ValueError("it holds dicts whose keys are not text")
    target.update(zip(items[::2], items[1::2], strict=True))


def _maker(module: Any, attribute: Any) -> _Maker:
    if type(module) is not str or type(attribute) is not str or (module, attribute) not in GLOBALS:
        name = f"{module}.{attribute}"[:100] if type(module) is type(attribute) is str else "what is no name"
        raise ValueError(f"it asks for {name}, which makes no array")
    return _Maker(GLOBALS[module, attribute])


def _leaves(root: Any) -> Iterator[tuple[str, _Made]]:
    """Arrays in nested dicts with the path to them; each dict is entered once."""
    seen: set[int] = set()
    pending = [("", root)]
    while pending:
        path, value = pending.pop()
        if len(path) > LONGEST_PATH:
            raise ValueError("its dicts are nested too deep")
        if type(value) is dict and id(value) not in seen:
            seen.add(id(value))
            pending += [(f"{path}/{key}" if path else key, child) for key, child in reversed(value.items())]
        elif type(value) is _Made and value.kind == ARRAY:
            yield path, value


def _array(made: _Made, name: str) -> np.ndarray[Any, Any] | None:
    """The array, a view of its bytes; None for numbers that are no floats.

    The state of an array is its version, shape, type, whether it is in Fortran's order, and its bytes; that of a type
    has the order of bytes second.
    """
    match made.state:
        case (int(), tuple() as shape, _Made(kind="type", arguments=(str(code), *_)) as kind, False, bytes(content)):
            pass
        case _:
            raise ValueError(f"{name[:100]} is no plain array")
    if code not in FLOATS:
        return None
    order = kind.state[1] if type(kind.state) is tuple and len(kind.state) > 1 else None
    if type(order) is not str or order not in ORDERS or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"{name[:100]} is no plain array")
    dtype = np.dtype(order + code)
    if len(shape) > MOST_DIMENSIONS or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"the shape of {name[:100]} does not fit its size")
    return np.frombuffer(content, dtype).reshape(shape)
