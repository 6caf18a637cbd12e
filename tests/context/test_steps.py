"""What a stage took: parts of an interrupted one add up, one that is done anew begins at nothing."""

from pathlib import Path

import pytest

from autolora.context import steps
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.training.finetune import Finetuning
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
    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=6")
    search(run, context)

    def seconds() -> float:
        return float(run.manifest()["stages"]["retrain"]["seconds"])

    with interrupting(monkeypatch, Finetuning, "advance", call=6):
        retrain(run, context)
    part = seconds()
    assert part > 0
    retrain(run, context)
    whole = seconds()
    assert whole > part
    (run.path / "retrain" / "checkpoint.safetensors").unlink()
    retrain(run, context)
    assert 0 < seconds() < part + whole
    retrain(run, context)  # from its last checkpoint: nothing is left to do, and what it took stays
    assert seconds() >= whole - part
