"""Damage to a file's bytes that a number decides, so that each case can be made again."""

import json
import random
import struct
from typing import Any

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 64, 10**4, 10**9, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *(None, True, False, "", "a", "../../etc/passwd", "[/b]", "\0", "é" * 3000, [], [[]], {}, [1, 2], {"a": 1}),
)


def mutate(data: bytes, seed: int) -> bytes:
    """`data` with one to four changes; JSON is also changed as values."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 4))):
        try:
            changed = _value(json.loads(data), rng) if data[:1] == b"{" and rng.random() < 0.8 else None
        except ValueError:
            changed = None
        data = json.dumps(changed).encode() if changed is not None else _bytes(data, rng)
    return data


def _value(value: Any, rng: random.Random) -> Any:
    """A JSON value with something in it replaced, left out, or given twice."""
    if isinstance(value, dict | list) and value and rng.random() < 0.93:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if rng.random() < 0.1:
            del value[key]
        elif rng.random() < 0.05:
            value[rng.choice(keys)] = value[key]
        else:
            value[key] = _value(value[key], rng)
        return value
    return rng.choice(VALUES)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 1000))
    if rng.random() < 0.5:
        at = min(at, rng.randrange(200))  # headers matter most
    kind = rng.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at + length :]
    if kind == 3:
        return data[:at] + rng.randbytes(length) + data[at + length :]
    if kind == 4:
        number = rng.choice(NUMBERS)
        packed = struct.pack(rng.choice((">", "<")) + "Q", number)
        size = rng.choice((1, 2, 4, 8))
        return data[:at] + (packed[:size] if rng.random() < 0.5 else packed[-size:]) + data[at + size :]
    if kind == 5:
        other = rng.randrange(len(data) + 1)
        return data[:at] + data[other : other + length] + data[at + length :]
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 3, 10))):
        if flipped:
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
