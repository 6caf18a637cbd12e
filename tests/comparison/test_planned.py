"""What a comparison says of itself while it runs, and what whoever watches makes of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from autolora.comparison.plan import Trial
from autolora.comparison.planned import FILE, Planned, read_planned
from autolora.comparison.underway import Watched
from autolora.errors import UserError
from autolora.recipe.method import parse_method
from autolora.runs.status import Status
from autolora.runs.store import Run
from tests.export.runs import make_run
from tests.runs.test_lock import Elsewhere

NOW = datetime.now(UTC)


def trials_of(root: Path) -> tuple[list[Trial], list[Run]]:
    """Two methods and two seeds, and a run for each."""
    trials, runs = [], []
    for word in ("autolora", "lora:2"):
        for seed in (0, 1):
            run = Run.open(make_run(root))
            run.recipe = run.recipe.model_copy(update={"method": parse_method(word), "seed": seed})
            run.save_recipe()
            trials.append(Trial(run.recipe, True, None))
            runs.append(run)
    return trials, runs


def measure(run: Run, score: float) -> None:
    run.note("retrain", trainable_parameters=10, head_parameters=2, seconds=40.0)
    run.note("eval", metric="accuracy", score=score, scores=[{"name": "accuracy", "value": score}], seconds=2.0)
    with run.stage("eval"):
        pass


def test_trials_are_waiting_running_done_and_failed_and_means_and_time_left_are_known(tmp_path: Path) -> None:
    trials, runs = trials_of(tmp_path)
    folder = tmp_path / "comparisons" / "tiny"
    seen: list[dict[str, int]] = []
    told: list[str] = []
    there = Elsewhere(tmp_path / "lock")  # which stands for the comparison: who asks sees no lock of its own process
    there.kill()

    def execute(given: list[Trial], on_begin, on_end) -> list[Run]:  # type: ignore[no-untyped-def]
        watched = Watched(folder)
        seen.append({state: watched.look(NOW).count(state) for state in ("done", "running", "waiting", "failed")})
        for i, score in enumerate((0.5, 0.7)):
            on_begin(given[i], runs[i])
            measure(runs[i], score)
            on_end(given[i], runs[i], 1.0)
        on_begin(given[2], runs[2])
        Status(runs[2].path).mark_stage("retrain", "running")
        other = Elsewhere(runs[2].path / ".lock")
        comparing = Elsewhere(next(folder.glob(".compare-*.lock")).with_name(".compare-x.lock"))
        try:
            now = watched.look(NOW)
            seen.append({state: now.count(state) for state in ("done", "running", "waiting", "failed")})
            assert now.alive
            assert now.running
            means = {each.arm: each for each in now.means()}
            assert (means["autolora"].scores, means["autolora"].shown) == ((0.5, 0.7), "0.6000 ± 0.1414")
            assert means["lora:2"].shown == ""
            assert now.left is not None
            assert 40 < now.left <= 2 * 42
        finally:
            other.kill()
            comparing.kill()
        runs[2].mark("failed", error="no room")
        return runs

    execution = partial(execute, on_begin=lambda trial, run: told.append(trial.name))
    assert Planned(folder, trials, 1).follow(execution)(trials) == runs
    assert len(told) == 3
    assert seen[0] == {"done": 0, "running": 0, "waiting": 0, "failed": 4}  # its own process holds the lock
    assert seen[1] == {"done": 2, "running": 1, "waiting": 1, "failed": 0}
    ended = Watched(folder).look(NOW)
    assert not ended.running
    assert [each.state for each in ended.trials] == ["done", "done", "failed", "failed"]
    assert [each.summary.reason for each in ended.trials if each.summary] == [None, None, "no room"]
    assert list(folder.glob(".compare-*.lock")) == [] or not ended.alive


def test_points_of_a_sweep_are_told_apart(tmp_path: Path) -> None:
    trials, runs = trials_of(tmp_path)
    swept = []
    for i, (trial, run) in enumerate(zip(trials, runs, strict=True)):
        swept.append(replace(trial, run=run, point=f"search.rank={2 + 2 * (i % 2)}"))
        measure(run, i / 10)
    Planned(tmp_path / "comparisons" / "tiny", swept, 1).follow(lambda given, **_: runs)(swept)
    found = {each.arm: each.scores for each in Watched(tmp_path / "comparisons" / "tiny").look(NOW).means()}
    methods = ["autolora search.rank=2", "autolora search.rank=4", "lora:2 search.rank=2", "lora:2 search.rank=4"]
    assert found == dict(zip(methods, [(0.0,), (0.1,), (0.2,), (0.3,)], strict=True))


def test_a_plan_that_is_none_and_one_that_leads_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "comparisons" / "tiny"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="is neither a run nor a comparison"):
        Watched(folder)
    (folder / FILE).write_text('{"format": 1, "cells": [1, {"recipe": 2}]}')
    assert read_planned(folder) is None
    elsewhere = make_run(tmp_path / "elsewhere")
    shutil.copytree(elsewhere, tmp_path / "runs" / "tiny" / "a")
    cell = {"recipe": "tiny", "method": "autolora", "seed": 0, "tuning": False, "jobs": 1, "by": "x"}
    cells = [{**cell, "run": f"../../{path}"} for path in (f"../elsewhere/tiny/{elsewhere.name}", "tiny/a")]
    (folder / FILE).write_text(json.dumps({"format": 1, "cells": cells}))
    assert [each.summary is None for each in Watched(folder).look(NOW).trials] == [True, False]
