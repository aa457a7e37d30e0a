"""Record files as TensorFlow writes them, made from the formats' descriptions alone."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # Castagnoli's, its bits reversed


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    rotated = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) % 2**32)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    out = []
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    """A field that is a message, text or bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def packed(values: Iterable[float]) -> bytes:
    """A Feature of floats, as TensorFlow writes them."""
    return field(2, field(1, b"".join(struct.pack("<f", value) for value in values)))


def unpacked(values: Iterable[float]) -> bytes:
    """The same, each float a field of its own."""
    return field(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in values))


def byte_list(values: Iterable[bytes]) -> bytes:
    return field(1, b"".join(field(1, value) for value in values))


def example(features: Mapping[str, bytes]) -> bytes:
    entries = (field(1, field(1, name.encode()) + field(2, feature)) for name, feature in features.items())
    return field(1, b"".join(entries))


def trajectory_features(seed: int, frames: int) -> tuple[dict[str, bytes], dict[str, NDArray[np.generic]]]:
    """The features of one BAIR trajectory, and the arrays that are in them."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {
        "image_aux1": rng.integers(256, size=(frames, 64, 64, 3), dtype=np.uint8),
        "image_main": rng.integers(256, size=(frames, 64, 64, 3), dtype=np.uint8),
        "action": rng.normal(size=(frames, 4)).astype(np.float32),
        "endeffector_pos": rng.normal(size=(frames, 3)).astype(np.float32),
    }
    features = {}
    for t in reversed(range(frames)):  # a map has no order
        features[f"{t}/image_aux1/encoded"] = byte_list([arrays["image_aux1"][t].tobytes()])
        features[f"{t}/action"] = packed(arrays["action"][t])
        features[f"{t}/image_main/encoded"] = byte_list([arrays["image_main"][t].tobytes()])
        features[f"{t}/endeffector_pos"] = packed(arrays["endeffector_pos"][t])
    return features, arrays


def write_bair(root: Path, files: Mapping[str, Iterable[int]], frames: int = 3) -> Path:
    """Files by name ("train/traj_0_to_1.tfrecords"), each with the trajectories of these seeds."""
    for name, seeds in files.items():
        path = root / "softmotion30_44k" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(record(example(trajectory_features(seed, frames)[0])) for seed in seeds))
    return root
