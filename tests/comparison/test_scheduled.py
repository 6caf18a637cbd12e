"""The plan of a comparison for schedulers: stages, ids, and trials that are run one by one, in any order."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from autolora.comparison.asked import Asked
from autolora.comparison.cells import Cells
from autolora.comparison.plan import Trial
from autolora.comparison.plan_formats import slurm_script
from autolora.comparison.scheduled import Entry, run_one, schedule
from autolora.comparison.sweep import legs_of
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.sweeping import Point, parse_sweep
from autolora.recipe.tuning import Rates, asked_rates
from autolora.runs.folders import TUNING
from autolora.runs.lock import Holder
from autolora.runs.store import Run

SHORT = ["search.steps=2", "retrain.steps=2"]
SLURM = "SLURM_ARRAY_TASK_ID"


def asked(
    laboratory: Path,
    root: Path,
    methods: str,
    rates: Rates = (),
    sweep: str = "",
    *,
    select: bool = False,
    seeds: Sequence[int] = (0, 1),
) -> Asked:
    varied = parse_sweep([sweep] if sweep else ())

    def at(point: Point) -> list[Recipe]:
        return [load_recipe(laboratory / "tiny.yaml", [*SHORT, *point.overrides])]

    legs = tuple(legs_of(varied, at)) if sweep else ()
    return Asked(at(Point()), parse_methods(methods), seeds, root, rates, legs, select)


def entries(question: Asked) -> list[Entry]:
    return schedule(question, question.checked_plan(None, "t"))


def by_stage(found: Sequence[Entry]) -> list[set[str]]:
    count = max(entry.stage for entry in found) + 1
    return [
        {entry.trial.name.removeprefix("tiny ") for entry in found if entry.stage == number} for number in range(count)
    ]


def test_what_builds_on_others_or_takes_their_search_over_is_of_a_later_stage(laboratory: Path, tmp_path: Path) -> None:
    found = entries(asked(laboratory, tmp_path, "lora-matched,autolora,autolora:budget=rank=1,lora:2"))
    assert by_stage(found) == [
        {"autolora seed 0", "autolora seed 1", "lora:2 seed 0", "lora:2 seed 1"},
        {f"{method} seed {seed}" for method in ("lora-matched", "autolora:budget=rank=1") for seed in (0, 1)},
    ]
    place = {entry.id: number for number, entry in enumerate(found)}
    assert len(place) == len(found)
    assert all(place[need] < place[entry.id] for entry in found for need in entry.needs)


def test_rates_and_points_are_chosen_by_the_trials_of_a_stage_before(laboratory: Path, tmp_path: Path) -> None:
    tuned = entries(asked(laboratory, tmp_path, "lora:2,lora:3:learning_rate=1e-3", (1e-3, 3e-3)))
    assert [len(stage) for stage in by_stage(tuned)] == [4, 2]
    assert all(len(entry.needs) == 2 for entry in tuned if entry.stage == 1)
    chosen = entries(asked(laboratory, tmp_path, "lora:2", sweep="retrain.batch_size=4,6", select=True))
    assert [len(stage) for stage in by_stage(chosen)] == [2, 2]
    searched = entries(asked(laboratory, tmp_path, "lora:2", asked_rates("learning_rate=log:1e-4..1e-2", 3)))
    assert [len(stage) for stage in by_stage(searched)] == [1, 1, 1], (
        "the second seed takes over the rates of the first"
    )


@pytest.mark.parametrize(
    ("methods", "more"),
    [
        ("lora:2,lora:3", {"rates": (1e-3, 3e-3)}),
        ("lora:2", {"sweep": "retrain.batch_size=4,6", "select": True}),
        ("lora:2", {"rates": (1e-3, 3e-3), "sweep": "retrain.batch_size=4,6"}),
    ],
)
def test_a_trial_alone_chooses_what_the_whole_comparison_chooses_under_an_id_that_stays(
    laboratory: Path, tmp_path: Path, methods: str, more: dict[str, object]
) -> None:
    question = asked(laboratory, tmp_path, methods, **more, seeds=[0])  # type: ignore[arg-type]
    found = entries(question)
    made: list[Run] = []

    def run_all(trials: Sequence[Trial]) -> list[Run]:
        runs = []
        for trial in trials:
            run = trial.run or Run.create(tmp_path, trial.recipe, TUNING if trial.tuning else "")
            if not trial.done:
                made.append(run)
                run_stages(run, Context(run.recipe, show=False))
            runs.append(run)
        return runs

    for entry in random.Random(0).sample(found, len(found)):
        run_one(question, question.checked_plan(None, "t"), entry.id, run_all)
        assert {each.id for each in entries(question)} == {each.id for each in found}
    assert len(made) == len(found), "each once"
    question.run(question.checked_plan(None, "t"), run_all)
    assert len(made) == len(found), "and none but those of the whole"


def test_a_search_that_another_task_is_at_is_waited_for(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = asked(laboratory, tmp_path, "autolora,autolora:budget=rank=1", seeds=[0])
    maker, other = entries(question)
    taken: list[list[str]] = []

    def run_all(trials: Sequence[Trial]) -> list[Run]:
        taken.append([trial.method for trial in trials])
        return [Run.create(tmp_path, trial.recipe) for trial in trials]

    run_one(question, question.checked_plan(None, "t"), other.id, run_all)
    monkeypatch.setattr(Cells, "holder", lambda cells, trial: Holder("elsewhere", 7, "now"))
    run_one(question, question.checked_plan(None, "t"), other.id, run_all)
    assert taken == [[other.trial.method], [maker.trial.method, other.trial.method]]


def test_an_id_of_another_comparison_is_refused(laboratory: Path, tmp_path: Path) -> None:
    question = asked(laboratory, tmp_path, "lora:2")
    with pytest.raises(UserError, match="no such trial"):
        run_one(question, question.checked_plan(None, "t"), "0" * 12, lambda trials: [])


def test_bash_submits_the_stages_each_behind_the_other(laboratory: Path, tmp_path: Path) -> None:
    found = entries(asked(laboratory, tmp_path, "lora-matched,autolora,lora:2"))
    script = tmp_path / "job file.sh"
    script.write_text(slurm_script(found, ["autolora"], [], tmp_path, name="a b/$c", jobs=3, gpu=True, cpus=8))
    (tmp_path / "sbatch").write_text(
        f'#!/bin/bash\necho "$@" >> {shlex.quote(str(tmp_path / "said"))}\necho "$RANDOM;it"\n'
    )
    (tmp_path / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop(SLURM, None)
    (tmp_path / "elsewhere").mkdir()
    relative = f"../{script.name}"
    subprocess.run(["bash", relative], cwd=tmp_path / "elsewhere", env=environment, check=True, capture_output=True)
    first, second, tables = (tmp_path / "said").read_text().splitlines()
    assert first == f"--parsable --array=0-3%3 {tmp_path}/elsewhere/{relative}"  # not from the comparison's folder
    assert second.startswith("--parsable --array=4-5%3 --dependency=afterany:")
    assert tables.startswith("--parsable --array=6-6%3 --dependency=afterany:")
    assert ";" not in second + tables
    header = script.read_text().split("# 6 trials in 2 stages")[0]
    assert "--job-name=a-b-c\n" in header
    assert "--gpus-per-task=1\n" in header
    assert "--cpus-per-task=8\n" in header
