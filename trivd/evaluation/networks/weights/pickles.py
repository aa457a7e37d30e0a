"""PyTorch's pickles read as data, by a reader of our own that imports and calls nothing.

A pickle is a program for a stack machine, and Python's readers do what it says. This one knows the opcodes that PyTorch
writes, leaves names names, and takes time and memory in proportion to the opcodes: none makes more than one object, and
the keys of dicts are texts and small integers, because the hash of nested tuples can take for ever. All errors of this
module are ValueErrors, but for what an unsound pickle makes the machine stumble over.
"""

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

T = TypeVar("T")

LARGEST_PICKLE = 1 << 20  # bytes; I3D's has 40 kB
MOST_OPCODES = 1 << 18  # I3D's has 20,000
MOST_DIMENSIONS = 8
LARGEST_NUMBER = 1 << 40  # of a shape, in elements
LARGEST_KEY = 1 << 31  # of a dict, where it is a number: their hashes can be made to collide

LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

DICT = "collections OrderedDict"
TENSORS = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
WRAPPERS = (  # functions that only put a type on their first argument
    *("torch._utils _rebuild_parameter", "torch Size", "torch device", "collections Counter"),
    *("torch.jit._pickle build_intlist", "torch.jit._pickle build_doublelist", "torch.jit._pickle build_boollist"),
    *("torch.jit._pickle build_tensorlist", "torch.jit._pickle restore_type_tag"),
)
_TYPES = ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
TYPES = tuple(f"torch {name}" for name in _TYPES)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Numbers that lie elsewhere in the file."""

    kind: str  # the class in PyTorch, such as FloatStorage
    key: str
    elements: int


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A tensor as a view of a storage; whether it stays within is for the reader of the storage to check."""

    storage: Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


class Bag:
    """Stands in for a module: keeps its attributes, does nothing."""

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        self.attributes: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class _Name:
    """Of a class or function, "module name"."""

    text: str


@dataclass
class Content:
    """What a pickle holds."""

    root: Any = None
    storages: dict[str, Storage] = field(default_factory=dict)  # by key, in the order of their first mention


def read_content(file: IO[bytes]) -> Content:
    """The pickle at a file's position, which then is behind it."""
    content = Content()
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def take(count: int) -> list[Any]:
        start = len(stack) - count
        if start < 0:
            raise ValueError("its pickle takes more than it has")
        taken = stack[start:]
        del stack[start:]
        return taken

    def take_marked() -> list[Any]:
        return take(len(stack) - marks.pop())

    steps: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(file)  # it only decodes
    for number, (opcode, argument, _) in enumerate(steps):
        name = opcode.name
        if number == MOST_OPCODES:
            raise ValueError(f"its pickle has more than {MOST_OPCODES:,} steps")
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in TUPLES:
            stack.append(tuple(take(TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(take_marked()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items = take(1) if name == "APPEND" else take_marked()
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = take(2) if name == "SETITEM" else take_marked()
            _set(_expect(stack[-1], dict), zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_name(argument))
        elif name == "REDUCE":
            function, arguments = take(2)
            stack.append(_call(_expect(function, _Name).text, _expect(arguments, tuple)))
        elif name == "NEWOBJ":
            kind, _arguments = take(2)
            if not _is_module(_expect(kind, _Name).text):
                raise ValueError(f"it makes a {kind.text}, which weights do not need")
            stack.append(Bag())
        elif name == "BUILD":
            (state,) = take(1)
            _build(stack[-1], state)
        elif name == "BINPERSID":
            storage = _storage(*take(1))
            content.storages.setdefault(storage.key, storage)
            stack.append(storage)
        elif name == "STOP":
            (content.root,) = take(1)
        elif name != "PROTO":
            raise ValueError(f"its pickle uses {name}, which weights do not need")
    return content


def _expect(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"its pickle uses a {type(value).__name__} as a {kind.__name__.strip('_')}")
    return value


def _set(target: dict[Any, Any], items: Any) -> None:
    for key, value in items:
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < LARGEST_KEY)):
            raise ValueError(f"its pickle has a {type(key).__name__} as the key of a dict")
        target[key] = value


def _is_module(name: str) -> bool:
    """Whether a class is one of a TorchScript archive's own."""
    return name.startswith(("__torch__ ", "__torch__."))


def _is_storage(name: str) -> bool:
    return name.startswith("torch ") and name.endswith("Storage")


def _name(name: str) -> _Name:
    known = name == DICT or name in TENSORS or name in WRAPPERS or name in TYPES
    if not (known or _is_module(name) or _is_storage(name)):
        raise ValueError(f"it asks for {name.replace(' ', '.', 1)}, which weights do not need")
    return _Name(name)


def _call(function: str, arguments: tuple[Any, ...]) -> Any:
    """What the known functions would make of their arguments."""
    if function == DICT:
        made: dict[Any, Any] = {}
        for pairs in arguments:  # Python 2 gives them here
            _set(made, (_expect(pair, list) for pair in _expect(pairs, list)))
        return made
    if function in WRAPPERS and arguments:
        return arguments[0]
    if function in TENSORS and len(arguments) >= 4:
        return _reference(*arguments[:4])
    raise ValueError(f"it calls {function.replace(' ', '.', 1)}, which weights do not need")


def _build(target: Any, state: Any) -> None:
    """Attributes of a module; those of a dict are its versions, which do not matter."""
    if isinstance(target, Bag):
        target.attributes = state
    elif not isinstance(target, dict) or not isinstance(state, dict):
        raise ValueError(f"its pickle gives a {type(target).__name__} a state")


def _reference(storage: Any, offset: Any, shape: Any, strides: Any) -> Reference:
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise ValueError("a tensor has no shape")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape):,} dimensions")
    if not all(_is_size(number) for number in (offset, *shape, *strides)):
        raise ValueError("a tensor's shape is not of numbers, or of too large ones")
    return Reference(_expect(storage, Storage), offset, shape, strides)


def _storage(label: Any) -> Storage:
    """Of ("storage", class, key, device, elements) or, before PyTorch 1.6, with the place in another one behind it."""
    if not isinstance(label, tuple) or len(label) not in (5, 6) or label[0] != "storage":
        raise ValueError("it refers to something other than a tensor's storage")
    _, kind, key, _device, elements, *part = label
    if not isinstance(kind, _Name) or not _is_storage(kind.text) or not isinstance(key, str) or not _is_size(elements):
        raise ValueError("a tensor's storage has no kind, name or size")
    if part not in ([], [None]):
        raise ValueError("a tensor's storage is a part of another one")
    return Storage(kind.text.removeprefix("torch "), key, elements)


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < LARGEST_NUMBER
