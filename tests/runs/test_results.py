"""What a run came to, read from files of this version and of an earlier one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.files import write_json, write_records
from autolora.metrics.base import Score
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.export.runs import LAYERS, RANKS, make_run
from tests.laboratory import of_an_earlier_version

SCORES = (
    Score("precision", 0.5, higher_is_better=True, low=0.0, high=1.0),
    Score("ter", 0.25, higher_is_better=False, low=0.0, high=None),
    Score("accuracy", None, higher_is_better=True, low=0.0, high=1.0),
)
ROWS = [
    {"split": "validation", "examples": 9, "precision": 0.5, "ter": 0.25, "accuracy": None, "total rank": 8},
    {"split": "test", "examples": 7, "precision": 0.5, "ter": 0.25, "accuracy": None, "total rank": 8},
]
EVALUATED = {"metric": "ter", "score": 0.25, "higher_is_better": False, "scores": [asdict(score) for score in SCORES]}


def finished(
    root: Path, evaluated: dict[str, Any], rows: list[dict[str, Any]], retrain: dict[str, Any] | None = None
) -> Run:
    """A run all of whose stages have succeeded."""
    run = Run.open(make_run(root))
    for stage in ("search", "retrain", "eval"):
        with run.stage(stage):
            pass
    counts = {"forward_passes": 30, "backward_passes": 20}
    run.note("search", seconds=2.0, peak_memory_mib={"process": 300.0}, **counts)
    counts = {"trainable_parameters": 120, "head_parameters": 20, "forward_passes": 10, "backward_passes": 10}
    run.note("retrain", **{"seconds": 3.0, "peak_memory_mib": {"process": 400.0}, **counts, **(retrain or {})})
    run.note("eval", **evaluated)
    write_json(run.path / "metrics.json", rows)
    return run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = finished(tmp_path, EVALUATED, ROWS)
    found = read_result(run)
    assert (found.recipe, found.method, found.seed, found.state, found.run) == (
        *("tiny", "autolora", 0, "success", run.path),
    )
    assert (found.metric, found.score, found.higher_is_better, found.scores) == ("ter", 0.25, False, SCORES)
    assert (found.rows, found.reason) == (tuple(ROWS), None)
    assert (found.adapter_parameters, found.trainable_parameters) == (100, 120)
    assert (found.ranks, found.total_rank, found.initial_rank) == (RANKS, sum(RANKS.values()), 4)
    assert (found.search_seconds, found.retrain_seconds, found.total_seconds) == (2.0, 3.0, 5.0)
    assert (found.peak_memory_mib, found.forward_passes, found.backward_passes) == (400.0, 40, 30)
    assert found.adapter == run.path / "adapter"
    assert found.manifest == run.manifest()


def test_on_a_gpu_the_memory_is_the_devices(tmp_path: Path) -> None:
    memory = {"process": 400.0, "device": 900.0}
    assert read_result(finished(tmp_path, EVALUATED, ROWS, {"peak_memory_mib": memory})).peak_memory_mib == 900.0


def test_a_method_without_ranks_has_none(tmp_path: Path) -> None:
    run = finished(tmp_path, EVALUATED, ROWS)
    of_an_earlier_version(run.path)
    (run.path / "search" / "ranks.json").unlink()
    found = read_result(run)
    assert (found.ranks, found.total_rank, found.initial_rank) == (None, None, None)


def test_the_ranks_of_a_result_have_the_retrainings_scaling(tmp_path: Path) -> None:
    run = finished(tmp_path, EVALUATED, ROWS)
    retrain = run.recipe.retrain.model_copy(update={"scaling": "per_rank", "lora_alpha": 6.0})
    run.recipe = run.recipe.model_copy(update={"retrain": retrain})
    ranks = read_result(run).ranks
    assert ranks is not None
    assert (ranks.scaling, ranks.lora_alpha) == ("per_rank", 6.0)


@pytest.mark.parametrize(
    ("metrics", "main", "row", "expected"),
    [
        (("accuracy", "f1"), "accuracy", {"accuracy": 0.75, "f1": 0.5}, {"accuracy": True, "f1": True}),
        (
            ("entities",),
            "f1",
            {"type": "all", "precision": 0.5, "recall": 0.75, "f1": 0.6, "accuracy": 0.9, "entities": 4},
            {"precision": True, "recall": True, "f1": True, "accuracy": True},
        ),
        (("ter", "bleu"), "ter", {"ter": 0.25, "bleu": 0.5, "empty outputs": 0}, {"ter": False, "bleu": True}),
    ],
    ids=["classification", "tagging", "generation"],
)
def test_a_run_of_an_earlier_version_is_read_too(
    tmp_path: Path, metrics: tuple[str, ...], main: str, row: dict[str, Any], expected: dict[str, bool]
) -> None:
    """Its manifest has no scores and no direction, its ranks.json is of the first format."""
    rows = [{"split": "validation", "examples": 9, **row, "total rank": 8, "LoRA parameters": 10}]
    run = finished(tmp_path, {"metric": main, "score": row[main]}, rows)
    run.recipe = run.recipe.model_copy(update={"eval": run.recipe.eval.model_copy(update={"metrics": metrics})})
    of_an_earlier_version(run.path)
    selection = {name: [0.5, 0.3, 0.1, 0.1] for name in LAYERS}
    record = {"initial_rank": 4, "lora_alpha": 16.0, "constraint": "softmax", "threshold": None}
    write_json(
        run.path / "search" / "ranks.json", {**record, "ranks": dict.fromkeys(LAYERS, 2), "selection": selection}
    )
    found = read_result(run)
    assert (found.metric, found.score, found.higher_is_better) == (main, row[main], expected[main])
    assert {score.name: score.higher_is_better for score in found.scores} == expected
    assert {score.name: score.value for score in found.scores} == {name: row[name] for name in expected}
    assert found.ranks is not None
    assert (found.ranks, found.ranks.kept) == (dict.fromkeys(LAYERS, 2), dict.fromkeys(LAYERS, (0, 1)))
    assert found.total_rank == 8


def test_a_run_that_has_not_ended_has_its_state_and_no_numbers(tmp_path: Path) -> None:
    found = read_result(Run.open(make_run(tmp_path)))
    assert (found.state, found.reason, found.score, found.ranks, found.rows) == ("running", None, None, None, ())
    assert (found.adapter, found.total_seconds) == (None, None)


@pytest.mark.parametrize(
    ("stages", "left"),
    [(("search",), "retrain and eval are still to do"), (("search", "retrain"), "eval is still to do")],
)
def test_a_run_of_which_a_stage_is_left_is_no_success(tmp_path: Path, stages: tuple[str, ...], left: str) -> None:
    run = Run.open(make_run(tmp_path))
    for stage in stages:
        with run.stage(stage):
            pass
    found = read_result(run)
    assert (found.state, found.reason, found.adapter) == ("partial", left, None)


def test_a_failed_run_says_why_in_one_line(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))
    with pytest.raises(ValueError, match="first"), run.stage("retrain"):
        raise ValueError("first\n  second")
    found = read_result(run)
    assert (found.state, found.reason) == ("failed", "first second")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    run = finished(tmp_path, EVALUATED, ROWS)
    (run.path / "metrics.json").write_text("[")
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        read_result(run)


def test_predictions_are_those_of_the_split(tmp_path: Path) -> None:
    run = finished(tmp_path, EVALUATED, ROWS)
    records = [{"reference": "a", "prediction": "b"}, {"reference": "c", "prediction": "d"}]
    write_records(run.path / "predictions" / "validation.jsonl", records)
    found = read_result(run)
    assert found.predictions("validation") == [{"index": i, **record} for i, record in enumerate(records)]
    with pytest.raises(UserError, match=r"has no predictions of a split 'dev'; it has: validation, test"):
        found.predictions("dev")
    with pytest.raises(UserError, match=r"test\.jsonl cannot be read"):
        found.predictions("test")
