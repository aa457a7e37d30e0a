"""NumPy's arrays in pickles: read as NumPy reads them; nothing else is read, and nothing is run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cost_checks import cheaply
from hypothesis import given
from hypothesis import strategies as st

from trivd.evaluation.networks.weights.readers.numpy_pickle import MOST_STEPS, read_numpy_pickle

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
DTYPES = st.sampled_from(["<f2", "<f4", ">f4", "<f8"])
START = b"\x80\x04"
TREE = {"params": {"conv": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}, "bias": np.ones(3)}}


@given(
    arrays=st.dictionaries(st.sampled_from(["w", "b/c", "é"]), st.tuples(SHAPES, DTYPES)),
    protocol=st.integers(3, 4),
    twice=st.booleans(),
)
def test_arrays_are_read_as_numpy_reads_them(
    arrays: dict[str, tuple[tuple[int, ...], str]], protocol: int, twice: bool
) -> None:
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=shape).astype(dtype) for name, (shape, dtype) in arrays.items()}
    tree: dict[str, Any] = {"a": {"b": made}, "step": np.arange(3), "more": {} if twice else {"c": np.ones(2)}}
    data = pickle.dumps(tree, protocol)
    found = read_numpy_pickle(data)
    expected = {f"a/b/{name}": array for name, array in made.items()} | ({} if twice else {"more/c": np.ones(2)})
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_the_older_name_of_numpy_s_module_is_known() -> None:
    data = pickle.dumps(TREE, 3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert list(read_numpy_pickle(data)) == ["params/conv/kernel", "params/bias"]


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for protocol in range(6):
        with pytest.raises(ValueError, match=r"asks for|more than dicts"):
            read_numpy_pickle(pickle.dumps({**TREE, "x": Attack(marker)}, protocol))
    assert not marker.exists()


def named(value: bytes) -> bytes:
    return START + b"}\x8c\x01w" + value + b"s."


def reduced(module: bytes, name: bytes, arguments: bytes) -> bytes:
    return named(b"c" + module + b"\n" + name + b"\n" + arguments + b"R")


DOUBLED = b"K\x01\x94" + b"".join(b"h%c\x86\x94" % level for level in range(60))  # 2^60 steps to hash or print
VAST = pickle.dumps(TREE, 4).replace(b"K\x02K\x03K\x04\x87", b"J\xff\xff\xff\x7fK\x03K\x04\x87")
REFUSED = {
    "nothing": (b"", "exhausted|pickle"),
    "no end": (START + b"N" * 5, "exhausted"),
    "steps": (START + b"N0" * MOST_STEPS, "more than"),
    "a system call": (reduced(b"os", b"system", b"\x8c\x01x\x85"), "asks for os.system"),
    "another of numpy's": (reduced(b"numpy", b"fromfile", b"\x8c\x01x\x85"), "asks for numpy.fromfile"),
    "an array of any size": (reduced(b"numpy", b"ndarray", b"J\xff\xff\xff\x7f\x85"), "calls more"),
    "a call of text": (named(b"\x8c\x01xK\x01\x85R"), "more than dicts"),
    "a state for a dict": (START + b"}}b.", "more than dicts"),
    "tuples as keys": (START + b"}" + DOUBLED + b"Ns.", "keys are not text"),
    "tuples as names": (START + DOUBLED + DOUBLED + b"\x93.", "what is no name"),
    "no array": (reduced(b"numpy._core.multiarray", b"_reconstruct", DOUBLED), "no plain array"),
    "tuples as a state": (
        named(b"cnumpy._core.multiarray\n_reconstruct\n)R(K\x01" + DOUBLED + DOUBLED + b"\x89B\0\0\0\0tb"),
        "no plain array",
    ),
    "objects": (pickle.dumps({"w": np.array([None], object)}, 4), "more than dicts|no plain array"),
    "a vast shape": (VAST, "does not fit its size"),
    "text cut off": (START + b"X\xff\xff\xff\x7fa.", "expected"),
    "bytes cut off": (START + b"\x8e" + (1 << 62).to_bytes(8, "little") + b".", "expected|maxsize"),
    "a mark too many": (START + b"t.", "more than it has put"),
    "a memo too many": (START + b"h\x05.", "more than it has put"),
    "deep dicts": (START + b"}" + (b"\x8c\xff" + b"k" * 255 + b"}") * 9 + b"s" * 9 + b".", "nested too deep"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_array_takes_neither_memory_nor_time(name: str) -> None:
    data, message = REFUSED[name]
    with cheaply(), pytest.raises(ValueError, match=message):
        read_numpy_pickle(data)


def test_one_array_under_many_names_is_refused() -> None:
    array = np.ones(1 << 18, np.float32)
    with cheaply(), pytest.raises(ValueError, match="larger than the file"):
        read_numpy_pickle(pickle.dumps({str(number): array for number in range(1000)}, 4))
    inner = {"w": np.ones(3)}
    assert list(read_numpy_pickle(pickle.dumps({"a": inner, "b": inner}, 4))) == ["a/w"]  # a dict is entered once


@given(data=st.data())
def test_a_changed_pickle_is_an_error_or_arrays(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(TREE, 4))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        found = read_numpy_pickle(bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))]))
    except ValueError:
        return
    assert sum(array.nbytes for array in found.values()) <= 2 * len(content)
