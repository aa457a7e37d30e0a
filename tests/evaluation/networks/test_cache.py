"""Kept features: the computed ones bit for bit, by content alone, in a folder that stays small and may be damaged."""

import logging
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import Means
from torch import Tensor

from reference.i3d import random_variables
from trivd.evaluation.networks.cache import CachedNetwork, with_cache
from trivd.evaluation.networks.features import Features
from trivd.evaluation.networks.i3d import I3D, Identity
from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.networks.weights.identify import identify
from trivd.runtime.errors import TrivdError

ENTRY = 4 + 8 + 4 * (5 + 3)  # bytes of the features of a clip of 5 frames


class Counted(Means):
    """Means that count the clips they see."""

    def __init__(self, fingerprint: str = "means 1") -> None:
        self.fingerprint = fingerprint
        self.seen = 0

    def __call__(self, video: Tensor) -> Features:
        self.seen += len(video)
        return super().__call__(video)


def clips(count: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (count, 5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


@given(batches=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), max_size=6))
@settings(max_examples=20)
def test_each_clip_is_computed_once(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    folder, network, video = tmp_path_factory.mktemp("kept"), Counted(), clips(10)
    for batch in batches:
        features = CachedNetwork(network, folder, 10**6)(video[batch])
        assert all(map(torch.equal, features, Means()(video[batch])))
    different = {number for batch in batches for number in batch}
    assert len(entries(folder)) == len(different)
    assert network.seen == len(different)
    again = Counted()
    for number in different:
        CachedNetwork(again, folder, 10**6)(video[number : number + 1])
    assert again.seen == 0


def test_pixels_shape_and_weights_tell_entries_apart(tmp_path: Path) -> None:
    video, network = clips(1), Counted()
    cached = CachedNetwork(network, tmp_path, 10**6)
    changed = video.clone()
    changed[0, 4, 7, 7, 2] += 1
    for other in (video, changed, video.view(1, 5, 4, 16, 3), video[:, 1:]):
        cached(other)
    assert network.seen == 4
    retrained = Counted("means 2")
    CachedNetwork(retrained, tmp_path, 10**6)(video)
    assert retrained.seen == 1


@pytest.mark.parametrize("damage", [b"", b"abc", b"\0" * ENTRY, b"\xff" * (2 << 20)])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, damage: bytes) -> None:
    video, network = clips(2), Counted()
    expected = CachedNetwork(network, tmp_path, 10**7)(video)
    entries(tmp_path)[0].write_bytes(damage)
    assert torch.equal(CachedNetwork(network, tmp_path, 10**7)(video).logits, expected.logits)
    assert network.seen == 3
    assert torch.equal(CachedNetwork(network, tmp_path, 10**7)(video).embedding, expected.embedding)
    assert network.seen == 3


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    video, network = clips(1), Counted()
    CachedNetwork(network, tmp_path, 10**6)(video)
    (entry,) = entries(tmp_path)
    content = bytearray(entry.read_bytes())
    content[20] ^= 1
    entry.write_bytes(content)
    assert torch.equal(CachedNetwork(network, tmp_path, 10**6)(video).embedding, Means()(video).embedding)


def test_the_folder_stays_small_and_keeps_what_is_used(tmp_path: Path) -> None:
    video, largest = clips(30), 10 * ENTRY
    for number in range(30):
        CachedNetwork(Counted(), tmp_path, largest)(video[number : number + 1])
        for age, entry in enumerate(sorted(entries(tmp_path), key=os.path.getmtime, reverse=True)):
            os.utime(entry, (1e9 - age, 1e9 - age))  # clocks of file systems are coarse
        CachedNetwork(first := Counted(), tmp_path, largest)(video[:1])
        assert first.seen == 0
        assert sum(entry.stat().st_size for entry in entries(tmp_path)) <= 1.1 * largest + ENTRY
    assert len(entries(tmp_path)) >= 10


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    cached = CachedNetwork(Counted(), tmp_path / "file", 10**6)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            assert torch.equal(cached(clips(3, seed)).logits, Means()(clips(3, seed)).logits)
    assert len([record for record in caplog.records if "not kept" in record.message]) == 1


def test_wrong_clips_are_refused_before_they_are_looked_up(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="take uint8 frames"):
        CachedNetwork(Counted(), tmp_path, 10**6)(torch.zeros(1, 5, 8, 8, 3))


def test_it_can_be_switched_off() -> None:
    network, unknown = Counted(), Counted("")
    assert with_cache(network, 0) is network
    assert with_cache(unknown, 10) is unknown
    assert with_cache(None, 10) is None
    assert isinstance(with_cache(network, 10), CachedNetwork)


def test_the_fingerprint_of_i3d_names_its_weights_and_its_input() -> None:
    variables = random_variables(variable_shapes(), 0)
    network = I3D.from_tensorflow(variables, identify(variables).identity)
    reference = network.fingerprint
    assert identify(variables).sha256 in reference
    assert network.with_input("torch", "torch").fingerprint not in ("", reference)
    assert I3D.from_tensorflow(variables, Identity("", "", "")).with_input("torch", "torch").fingerprint == ""
