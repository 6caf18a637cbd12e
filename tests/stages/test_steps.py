"""What a stage took: parts of an interrupted one add up, one that is done anew begins at nothing."""

from pathlib import Path

import pytest

from autolora.pipeline import retrain, search
from autolora.retrain.stage import RetrainStage
from autolora.stages import steps
from tests.laboratory import tiny_run
from tests.methods.linked import interrupting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever somebody looks."""
    now = iter(range(10_000))
    monkeypatch.setattr(steps.time, "monotonic", lambda: float(next(now)))


def test_an_interrupted_part_is_on_the_bill_and_one_done_anew_is_not_added(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: None
) -> None:
    run, lab = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=6")
    search(run, lab)

    def seconds() -> float:
        return float(run.manifest()["stages"]["retrain"]["seconds"])

    with interrupting(monkeypatch, RetrainStage, "advance", call=6):
        retrain(run, lab)
    part = seconds()
    assert part > 0
    retrain(run, lab)
    whole = seconds()
    assert whole > part
    (run.path / "retrain" / "checkpoint.safetensors").unlink()
    retrain(run, lab)
    assert 0 < seconds() < part + whole
    retrain(run, lab)  # from its last checkpoint: nothing is left to do, and what it took stays
    assert seconds() >= whole - part
