"""Equal parts of an update's batch, and runs that resume on other numbers of processes or from an earlier version."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from run_checks import MakeConfig, assert_same_run, run_to

from trivd.config import TrainingConfig, override, to_dict
from trivd.config.upgrade import VERSION
from trivd.runtime.errors import TrivdError
from trivd.training import run as run_module
from trivd.training.division import Division, divide
from trivd.training.run import Run

NUMBERS = st.integers(1, 60)


@given(batch=NUMBERS, processes=st.integers(1, 12), microbatch=st.none() | NUMBERS, least=st.integers(1, 6))
def test_passes_are_the_fewest_equal_ones(batch: int, processes: int, microbatch: int | None, least: int) -> None:
    """Among all ways to divide the batch, by trial."""
    assume(least <= batch)
    recipe = TrainingConfig(batch_size=batch, microbatch=microbatch)
    ways = [
        Division(passes, clips)
        for passes in range(least, batch + 1)
        for clips in range(1, (microbatch or batch) + 1)
        if processes * passes * clips == batch
    ]
    if ways:
        assert divide(recipe, processes, least) == min(ways)
    else:
        with pytest.raises(
            TrivdError, match=rf"{processes} processes .* {batch} clips .*--training\.batch-size"
        ) as error:
            divide(recipe, processes, least)
        numbers = [int(word) for word in str(error.value).rpartition("start ")[2].rstrip(".").split(" or ")]
        assert numbers
        for number in numbers:
            divide(recipe, number, least)


def begun(run: Run, recipe: dict[str, Any], make: MakeConfig) -> None:
    with run.opened(make(training=recipe), "moving-digits"):
        pass


def test_a_run_keeps_its_passes(tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On other numbers of processes, if the microbatch lets it; another microbatch is refused where it does not."""
    run, recipe = Run(tmp_path / "run"), {"batch_size": 24, "microbatch": 3}

    def resumed(processes: int, microbatch: int | None) -> Division:
        config = tiny_config(training=recipe | {"microbatch": microbatch})
        monkeypatch.setattr(run_module, "world_size", lambda: processes)
        with run.opened(config, "moving-digits") as passes:
            return divide(config.training, processes, passes)

    assert resumed(4, 3) == Division(2, 3)
    assert resumed(2, 3) == Division(4, 3)  # the memory decides
    assert resumed(4, 3) == Division(2, 3)  # as it began
    assert resumed(2, 6) == Division(2, 6)
    assert resumed(2, None) == Division(2, 6)
    assert resumed(12, 6) == Division(2, 1)
    assert resumed(4, 3) == Division(2, 3)
    for processes, microbatch in ((4, 2), (2, 4), (1, 8)):
        with pytest.raises(TrivdError, match=r"other settings: training\.microbatch \(there 3\)"):
            resumed(processes, microbatch)
    with pytest.raises(TrivdError, match=r"24 processes cannot share .*; start 12\."):
        resumed(24, 3)
    monkeypatch.setattr(run_module, "world_size", lambda: 1)
    with pytest.raises(TrivdError, match=r"training\.batch_size \(there 24\)"):
        begun(run, {"batch_size": 12, "microbatch": 3}, tiny_config)


def of_version_1(run: Run, recipe: dict[str, int], processes: int) -> None:
    """Rewrite a run's settings as before the batch size was that of all processes and passes."""
    values = json.loads(run.config_file.read_text())
    training = values["config"]["training"]
    del training["microbatch"], values["version"], values["passes"]
    training |= recipe
    run.config_file.write_text(json.dumps(values | {"processes": processes}))


@pytest.mark.parametrize(
    ("accumulation", "microbatch"),
    [(1, None), (2, 3)],
)
def test_a_run_of_version_1_keeps_its_batch_and_passes(
    tmp_path: Path,
    tiny_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    accumulation: int,
    microbatch: int | None,
) -> None:
    """Three clips of each of two processes, in each pass."""
    run, config = Run(tmp_path / "run"), tiny_config()
    begun(run, {}, tiny_config)
    of_version_1(run, {"batch_size": 3, "accumulation": accumulation}, 2)
    now = override(config, {"training": {"batch_size": 6 * accumulation, "microbatch": microbatch}}, "test")
    saved, _ = run.read()
    assert to_dict(saved) == to_dict(now)
    monkeypatch.setattr(run_module, "world_size", lambda: 2)
    with run.opened(saved, "moving-digits") as passes:
        assert passes == accumulation
        assert divide(saved.training, 2, passes) == Division(accumulation, 3)
    assert run.read()[0] == saved  # as this version writes it
    assert run.passes == accumulation


def test_a_run_of_version_2_keeps_its_warps(tmp_path: Path, tiny_config: MakeConfig) -> None:
    run = Run(tmp_path / "run")
    begun(run, {}, tiny_config)
    values = json.loads(run.config_file.read_text()) | {"version": 2}
    model = values["config"]["model"]
    del model["warp_start_weight"], model["gate_bias"]
    model |= {"warp_size": 3, "warp_start": "copy"}
    run.config_file.write_text(json.dumps(values))
    saved, _ = run.read()
    assert saved == override(tiny_config(), {"model": {"warp_size": (3,), "warp_start_weight": 0.46}}, "test")


def test_a_run_of_a_later_version_is_left_alone(tmp_path: Path, tiny_config: MakeConfig) -> None:
    run = Run(tmp_path / "run")
    begun(run, {}, tiny_config)
    later = json.dumps(json.loads(run.config_file.read_text()) | {"version": VERSION + 1})
    run.config_file.write_text(later)
    with pytest.raises(TrivdError, match=rf"run\.json has format version {VERSION + 1}; update trivd"):
        begun(run, {}, tiny_config)
    assert run.config_file.read_text() == later


def test_a_run_of_version_1_resumes(copied: Path, trained_run: Path, tiny_config: MakeConfig) -> None:
    config, _ = Run(trained_run).read()
    of_version_1(Run(copied), {"accumulation": 1}, 1)
    shutil.rmtree(copied / "checkpoints" / "step-00000004")
    complete, said = run_to(copied, config)
    assert complete
    assert "from step 2" in said
    assert_same_run(copied, trained_run, 4)
    with pytest.raises(TrivdError, match=r"training\.batch_size \(there 2\)"):
        run_to(copied, tiny_config(training={"batch_size": 4}))


def test_fewer_processes_say_what_they_change(
    tmp_path: Path, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that two processes began, with all of the batch in one pass."""
    folder, config = tmp_path / "run", tiny_config(training={"batch_size": 4, "microbatch": 2, "steps": 1})
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "world_size", lambda: 2)
        with Run(folder).opened(config, "moving-digits") as passes:
            assert passes == 1
    complete, said = run_to(folder, config)
    assert complete
    assert "Global batch: 4 clips = 1 x 2 x 2 (processes x passes x clips)." in said
    assert "The run began with 1 pass, which --training.microbatch 4 would keep; batch" in said
