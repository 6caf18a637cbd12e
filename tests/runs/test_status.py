"""What a stage that is made anew does to those after it: what was read of another product counts no more."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from autolora.experiment.line import stages_left
from autolora.runs import seal
from autolora.runs.results import read_result
from autolora.runs.store import Run
from autolora.runs.summary import summarise
from tests.export.runs import make_run
from tests.laboratory import of_an_earlier_version

WRITTEN = {"search": "search/ranks.json", "retrain": "adapter/adapter_model.safetensors", "eval": "metrics.json"}


def write(run: Run, stage: str, content: str) -> None:
    path = run.path / WRITTEN[stage]
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def do(run: Run, stage: str, content: str) -> None:
    with run.stage(stage):
        write(run, stage, content)


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    """A run whose stages have ended, as far as its status says."""
    run = Run.open(make_run(tmp_path))
    for stage in WRITTEN:
        do(run, stage, f"the first {stage}")
    return run


def state(run: Run) -> str:
    return summarise(run.path, "x").state


@pytest.mark.parametrize(("stage", "left"), [("search", ["retrain", "eval"]), ("retrain", ["eval"]), ("eval", [])])
def test_what_was_made_of_another_product_is_to_be_made_again(whole: Run, stage: str, left: list[str]) -> None:
    do(whole, stage, "another")
    assert stages_left(whole) == left
    assert state(whole) == ("partial" if left else "finished")
    if left:
        assert (read_result(whole).state, read_result(whole).metric) == ("partial", None)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("stage", WRITTEN)
def test_the_same_product_leaves_what_was_made_of_it(whole: Run, stage: str, earlier: bool) -> None:
    if earlier:  # which listed nothing
        of_an_earlier_version(whole.path)
    do(whole, stage, f"the first {stage}")
    assert (stages_left(whole), state(whole)) == ([], "finished")


@pytest.mark.parametrize(
    ("end", "said", "told"),
    [(ValueError, "failed", "failed"), (KeyboardInterrupt, "interrupted", "cancelled")],
)
def test_a_measurement_does_not_count_while_its_adapter_is_made_anew(
    whole: Run, end: type[BaseException], said: str, told: str
) -> None:
    found: list[str | None] = []
    with contextlib.suppress(end), whole.stage("retrain"):
        found.append(whole.stage_state("eval"))
        raise end
    assert found == [None]
    assert (stages_left(whole), state(whole), read_result(whole).state) == (["retrain", "eval"], said, told)
    do(whole, "retrain", "the first retrain")
    assert (stages_left(whole), state(whole)) == ([], "finished")  # it is the adapter that was measured


def test_a_kill_between_the_list_and_the_status_leaves_no_measurement_of_another_adapter(
    whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    listed = seal._write

    def kill(*arguments: object) -> None:
        listed(*arguments)  # type: ignore[arg-type]
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(seal, "_write", kill)
        with pytest.raises(Killed):
            do(whole, "retrain", "another")
    do(whole, "retrain", "another")
    assert stages_left(whole) == ["eval"]
