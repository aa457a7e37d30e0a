"""Features of clips kept by content in the library's folder: a second evaluation of the same truth costs no network.

One small file a clip, written atomically under a name that is a digest of all that its features depend on, so that any
number of processes can share the folder without locks.
"""

import hashlib
import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

import google_crc32c
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trivd.evaluation.networks.features import FeatureNetwork, Features, check_clips
from trivd.runtime.files import library_folder, write_atomically

Floats = NDArray[np.float32]
LOGGER = logging.getLogger(__name__)
FOLDER = "features"  # in the library's
# Raised when networks of this package give other features for the same clips: by their resize, padding or precision.
VERSION = 1
CHECKSUM = struct.Struct("<I")  # of what follows
SIZES = struct.Struct("<II")  # of embedding and logits, float32; no logits: they are the embedding
LARGEST_ENTRY = 1 << 20  # bytes; ours have 1 to 3 kB
MEGABYTE = 1_000_000


class CachedNetwork:
    """A feature network that looks its clips up before it computes them.

    Features depend on the clip's pixels and shape, the network with its weights, the kind of device and `VERSION`: the
    digest covers all of them. Damaged entries are computed again. A folder that cannot be written costs a warning.

    Args:
        network: one with a fingerprint.
        folder: of the entries.
        largest: bytes that the folder may hold; up to a tenth more is written before the oldest entries go.
    """

    def __init__(self, network: FeatureNetwork, folder: Path, largest: int) -> None:
        self.distance = network.distance
        self.inception = network.inception
        self.about = network.about
        self.shortest = network.shortest
        self.fingerprint = network.fingerprint
        self._network = network
        self._folder = folder
        self._largest = largest
        self._is_writable = True
        self._written = 0  # bytes since the folder was last trimmed
        self._trim()

    def __call__(self, video: Tensor) -> Features:
        """Features of clips, on their device; see `FeatureNetwork`."""
        check_clips(video, self.shortest)
        paths = [self._path(clip, video.device) for clip in video.cpu()]
        kept = [_read(path) for path in paths]
        sizes = {tuple(map(len, features)) for features in kept if features is not None}
        missing = [number for number, features in enumerate(kept) if features is None or len(sizes) > 1]
        if missing:
            computed = self._network(video if len(missing) == len(kept) else video[missing])
            rows = zip(*(part.float().cpu() for part in computed), strict=True)
            for number, (embedding, logits) in zip(missing, rows, strict=True):
                kept[number] = Features(embedding, logits)
                self._write(paths[number], embedding.numpy(), logits.numpy())
        embeddings, logits = zip(*(features for features in kept if features is not None), strict=True)
        return Features(torch.stack(embeddings).to(video.device), torch.stack(logits).to(video.device))

    def _path(self, clip: Tensor, device: torch.device) -> Path:
        """The entry of a clip (T, H, W, C) on the CPU."""
        digest = hashlib.sha256(f"{VERSION} {self.fingerprint} {device.type} {list(clip.shape)} ".encode())
        digest.update(clip.contiguous().numpy().data)
        name = digest.hexdigest()
        return self._folder / name[:2] / name[2:]

    def _write(self, path: Path, embedding: Floats, logits: Floats) -> None:
        if not self._is_writable:
            return
        parts = [embedding] if np.array_equal(embedding, logits) else [embedding, logits]
        sizes = (len(embedding), len(logits) * (len(parts) - 1))
        body = SIZES.pack(*sizes) + b"".join(part.astype("<f4").tobytes() for part in parts)
        try:
            write_atomically(path, CHECKSUM.pack(google_crc32c.value(body)) + body, lasting=False)
        except OSError as error:
            LOGGER.warning("Features are not kept for later evaluations: %s (%s).", self._folder, error.strerror)
            self._is_writable = False
            return
        self._written += len(body)
        if self._written > self._largest // 10:
            self._trim()

    def _trim(self) -> None:
        """Remove the entries that were used longest ago, until the folder holds what it may."""
        entries = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):  # another process has just removed it
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._largest:
                break
            with suppress(OSError):
                path.unlink()
            total -= size
        self._written = 0


def with_cache(network: FeatureNetwork | None, megabytes: int) -> FeatureNetwork | None:
    """The network, with kept features where it has a fingerprint and `megabytes` is not 0."""
    if network is None or not network.fingerprint or megabytes == 0:
        return network
    return CachedNetwork(network, library_folder() / FOLDER, megabytes * MEGABYTE)


def _read(path: Path) -> Features | None:
    """The features of an entry, which counts as used now; None if there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            checksum, body = CHECKSUM.unpack(file.read(CHECKSUM.size)), file.read(LARGEST_ENTRY)
        embedding, logits = SIZES.unpack_from(body)
        if checksum != (google_crc32c.value(body),) or len(body) != SIZES.size + 4 * (embedding + logits):
            return None
        os.utime(path)
    except (OSError, struct.error):
        return None
    values = torch.from_numpy(np.frombuffer(body, "<f4", offset=SIZES.size).astype(np.float32))
    return Features(values[:embedding], values[embedding:] if logits else values)
