"""A run's directory: its states, what it builds on, and its ranks with the command that mends them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import RunError, UserError
from autolora.lora.ranks import Ranks
from autolora.runs import status
from autolora.runs.folders import is_run, ranks_file
from autolora.runs.inventory import FORMAT
from autolora.runs.listing import runs
from autolora.runs.store import Run
from tests.export.runs import ALPHA, LAYERS, RANKS, K, make_run
from tests.laboratory import change_state, of_an_earlier_version


def opened(root: Path, **more: object) -> Run:
    """A searched run of a recipe, as a new process finds it."""
    return Run.open(make_run(root, **more))  # type: ignore[arg-type]


def made_at(run: Run, time: str) -> Run:
    """The run, as if it had been made then."""
    change_state(run.path / "manifest.json", created=time)
    return run


def test_a_new_run_has_a_recipe_a_manifest_and_a_state_and_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = (opened(tmp_path) for _ in range(2))
    assert first.path != second.path
    for run in (first, second):
        assert is_run(run.path)
        assert run.path.parent == tmp_path / "tiny"
        assert run.status() == {"format": FORMAT, "state": "running", "stages": {}}
        assert run.manifest()["seed"] == run.recipe.seed
    assert first.recipe == second.recipe


def test_a_folder_that_is_no_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run: it has no recipe\.yaml and status\.json"):
        Run.open(tmp_path)
    later = max(opened(tmp_path).path for _ in range(2))
    with pytest.raises(UserError, match=rf"; runs are in it, the newest is {re.escape(str(later))}$"):
        Run.open(later.parent)


def test_the_ranks_have_the_scaling_of_the_retraining(tmp_path: Path) -> None:
    plain = opened(tmp_path).ranks()
    assert (plain, plain.initial_rank, plain.lora_alpha, plain.scaling) == (RANKS, K, ALPHA, "constant")
    other = opened(tmp_path, retrain={"lora_alpha": 6.0, "scaling": "per_rank"})
    assert (other.ranks(), other.ranks().scale(LAYERS[0])) == (RANKS, 6.0 / RANKS[LAYERS[0]])
    assert Ranks.load(other.path / "search" / "ranks.json").lora_alpha == ALPHA


def test_ranks_found_in_training_win_and_keep_the_scaling_that_they_were_trained_with(tmp_path: Path) -> None:
    run = opened(tmp_path, retrain={"lora_alpha": 6.0, "scaling": "per_rank"})
    trained = Ranks(dict.fromkeys(LAYERS, 2), initial_rank=3, lora_alpha=9.0)
    trained.save(run.path / "retrain" / "ranks.json")
    assert ranks_file(run.path) == run.path / "retrain" / "ranks.json"
    assert run.ranks() == trained


def test_a_run_without_ranks_says_how_to_find_some(tmp_path: Path) -> None:
    run = opened(tmp_path)
    (run.path / "search" / "ranks.json").unlink()
    with pytest.raises(UserError) as error:
        run.ranks()
    assert str(error.value) == f"{run.path} has no ranks yet; run: autolora search {run.path} --resume"


@pytest.mark.parametrize("content", ["{", "[]", '{"ranks": {"a": 1}}'])
@pytest.mark.parametrize(("stage", "resume"), [("search", " --resume"), ("retrain", "")])
def test_damaged_ranks_come_with_the_command_that_writes_them_anew(
    tmp_path: Path, stage: str, resume: str, content: str
) -> None:
    run = opened(tmp_path)
    file = run.path / stage / "ranks.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(UserError) as error:
        run.ranks()
    said = str(error.value)
    assert said.startswith(f"{file} ")
    assert said.endswith(f"; remove it, and write it anew with: autolora {stage} {run.path}{resume}")


def test_the_first_formats_ranks_are_read_too(tmp_path: Path) -> None:
    run = opened(tmp_path)
    selection = {name: [0.5, 0.3, 0.1, 0.1] for name in LAYERS}
    record = {"initial_rank": 4, "lora_alpha": 16.0, "constraint": "softmax", "threshold": None}
    record |= {"ranks": dict.fromkeys(LAYERS, 2), "selection": selection}
    (run.path / "search" / "ranks.json").write_text(json.dumps(record))
    assert run.ranks() == dict.fromkeys(LAYERS, 2)
    assert run.ranks().kept == dict.fromkeys(LAYERS, (0, 1))


def test_an_earlier_versions_ranks_found_in_training_have_the_recipes_scaling(tmp_path: Path) -> None:
    """Their file, of the first format, said nothing of it."""
    run = opened(tmp_path, retrain={"lora_alpha": 32.0, "scaling": "per_rank"})
    (run.path / "retrain").mkdir()
    record = {"initial_rank": 3, "share": 0.5, "ranks": dict.fromkeys(LAYERS, 2)}
    (run.path / "retrain" / "ranks.json").write_text(json.dumps(record))
    found = run.ranks()
    assert (found, found.initial_rank, found.rule) == (dict.fromkeys(LAYERS, 2), 3, {"share": 0.5})
    assert (found.lora_alpha, found.scaling, found.scale(LAYERS[0])) == (32.0, "per_rank", 16.0)


def test_an_earlier_versions_constant_scaling_is_alpha_over_k_whatever_the_ranks_are_out_of(tmp_path: Path) -> None:
    """AdaLoRA begins at more than k, and trains with α / k all the same."""
    run = opened(tmp_path)
    (run.path / "retrain").mkdir()
    record = {"initial_rank": 6, "ranks": dict.fromkeys(LAYERS, 3)}
    (run.path / "retrain" / "ranks.json").write_text(json.dumps(record))
    assert run.ranks().scale(LAYERS[0]) == run.recipe.retrain_alpha / run.recipe.search.rank


def test_a_stage_ends_as_success_failed_or_cancelled(tmp_path: Path) -> None:
    run = opened(tmp_path)
    with run.stage("search"):
        assert run.stage_state("search") == run.status()["state"] == "running"
        assert run.status()["stages"]["search"]["pid"] == os.getpid()
    assert run.stage_state("search") == run.status()["state"] == "success"
    with pytest.raises(ValueError, match="no good"), run.stage("retrain"):
        raise ValueError("no good")
    failed = run.status()["stages"]["retrain"]
    assert (failed["state"], failed["error"], run.status()["state"]) == ("failed", "no good", "failed")
    assert failed["traceback"].rstrip().endswith("ValueError: no good")
    with pytest.raises(KeyboardInterrupt), run.stage("eval"):
        raise KeyboardInterrupt
    assert run.stage_state("eval") == run.status()["state"] == "cancelled"
    assert run.stage_state("search") == "success"


def test_a_process_that_does_not_write_leaves_every_file_as_it_is(tmp_path: Path) -> None:
    path = make_run(tmp_path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    run = Run(path, Run.open(path).recipe, main=False)
    run.note("search", seconds=1.0)
    run.mark("failed", error="x")
    run.save_recipe()
    with run.stage("search"):
        pass
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_notes_of_a_stage_add_up(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.note("search", seconds=1.0, steps=2)
    run.note("search", seconds=3.0)
    run.note("retrain", steps=5)
    assert run.manifest()["stages"] == {"search": {"seconds": 3.0, "steps": 2}, "retrain": {"steps": 5}}


def test_runs_that_build_on_each_other_move_together(tmp_path: Path) -> None:
    base, run = opened(tmp_path / "old"), opened(tmp_path / "old")
    assert run.base_run("autolora") is None
    run.add_base_run("autolora", base)
    assert run.base_run("autolora") == base.path.resolve()
    assert run.base_run("lora:4") is None
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = Run.open(tmp_path / "new" / "tiny" / run.path.name)
    assert moved.base_run("autolora") == (tmp_path / "new" / "tiny" / base.path.name).resolve()


def test_runs_are_listed_oldest_first_and_a_damaged_one_is_left_out_unless_it_is_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, middle = (made_at(opened(tmp_path), f"2026-01-0{day}") for day in (1, 3, 2))
    of_an_earlier_version(middle.path)
    of_an_earlier_version(new.path)
    assert [run.path for run in runs(tmp_path)] == [run.path for run in (old, middle, new)]
    assert [run.path for run in runs(tmp_path, "tiny")] == [run.path for run in (old, middle, new)]
    assert runs(tmp_path, "small") == []
    (middle.path / "recipe.yaml").write_text("task: no-such-task\n")
    assert [run.path for run in runs(tmp_path)] == [old.path, new.path]
    said = capsys.readouterr().err
    assert said.startswith("note: a run is left out: ")
    assert str(middle.path) in said
    (middle.path / "recipe.yaml").unlink()
    (middle.path / "search").mkdir(exist_ok=True)
    assert [run.path for run in runs(tmp_path)] == [old.path, new.path]
    assert f"{middle.path} is not a run: it has no recipe.yaml" in capsys.readouterr().err
    (new.path / "recipe.yaml").write_text("task: no-such-task\n")
    with pytest.raises(UserError, match="is not the resolved recipe of a run"):
        runs(tmp_path)


def test_a_status_that_cannot_be_written_does_not_hide_why_a_stage_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path)
    write = status.write_state

    def full(path: Path, content: dict[str, Any]) -> None:
        if content.get("state") != "running":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(status, "write_state", full)
    for reason in (RunError("diverged"), KeyboardInterrupt()):
        with pytest.raises(type(reason)) as raised, run.stage("search"):
            raise reason
        assert raised.value is reason
    assert run.stage_state("search") == "running"
    assert run.live_process() is None
