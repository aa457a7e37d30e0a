"""Feeding a stand-in for a GPU."""

import json
import time
from pathlib import Path

import pytest

from benchmarks.scripts import feeding


def test_a_stand_in_takes_its_time_while_the_next_step_is_prepared() -> None:
    device = feeding.StandIn(0.02)
    started = time.monotonic()
    device.launch()  # returns at once: the next may be prepared meanwhile
    for _ in range(4):
        device.launch()
    assert time.monotonic() - started >= 4 * 0.02


@pytest.mark.parametrize("workers", [0, 1])
def test_figures_of_a_short_run(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "WARM_UPS", 1)
    feeding.main("moving-digits", tmp_path / "out.json", preset_name="quickstart", steps=3, workers=workers)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["steps_per_second"] > 0
    assert 0 <= facts["wait_share"] < 1
    assert facts["seconds_preparing"] > 0
