"""The checksum that TensorFlow's record files, its checkpoints and LevelDB's tables store beside their bytes."""

import google_crc32c

MASK = 0xA282EAD8  # a checksum over bytes that hold checksums would be weak; hence the rotation and this constant


def masked_crc32c(data: bytes) -> int:
    """CRC-32C rotated right by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF
