"""Encodes videos in random ways and reads each frame alone: it must be that of a reading from the beginning.

    python tests/fuzz/fuzz_encodings.py --files 300 [--seed 0] [--json OUT.json]

Exit status: 0 no frame differs, 1 some do; each file is named by its encoding, which makes it again.
"""

import json as json_format
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
import tyro

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]  # benchmarks, makers of files

from video_encodings import Unencodable, draw, encode, wrong_frames

from benchmarks.measuring import circumstances
from trivd.config import DEFAULT_LIMITS
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.formats.index_cache import frame_index
from trivd.runtime.files import write_atomically


def main(files: int = 300, seed: int = 0, json: Path | None = None) -> None:
    """Encode and compare.

    Args:
        files: how many are read; encodings that FFmpeg refuses do not count.
        seed: of the first encoding.
        json: where to write the table and the findings, with versions, hardware, date and command.
    """
    rng = random.Random(seed)
    table: Counter[tuple[str, str, str]] = Counter()
    findings: list[dict[str, str]] = []
    refused = frames = 0
    with tempfile.TemporaryDirectory() as folder:
        while sum(table.values()) < files:
            encoding = draw(rng)
            path = Path(folder) / f"a{encoding.suffix}"
            try:
                encode(path, encoding)
            except Unencodable:
                refused += 1
                continue
            try:
                wrong = wrong_frames(path)
            except UnreadableVideo as error:  # FFmpeg writes some combinations that it cannot read
                table[encoding.codec, encoding.suffix, error.why] += 1
                continue
            index = frame_index(path, DEFAULT_LIMITS)
            way = "by time stamps" if not index.by_content else "by content" if index.seekable else "from the start"
            table[encoding.codec, encoding.suffix, way] += 1
            frames += index.frames
            if wrong:
                findings.append({"encoding": str(encoding), "frames": str(wrong)})
                print(findings[-1], flush=True)
    for (codec, suffix, way), number in sorted(table.items()):
        print(f"{codec:12} {suffix:6} {way:16} {number}")
    print(f"{files} files, {frames:,} frames, {len(findings)} with wrong ones; FFmpeg refused {refused} more encodings")
    if json is not None:
        rows = [[*key, number] for key, number in sorted(table.items())]
        facts = {
            "files": files,
            "seed": seed,
            "frames": frames,
            "refused": refused,
            "table": rows,
            "findings": findings,
        }
        write_atomically(json, json_format.dumps(circumstances(torch.device("cpu")) | facts, indent=1).encode())
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    tyro.cli(main)
