"""Removing runs: whole or not at all, nobody's that is at work, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.files import write_json
from autolora.runs.folders import all_run_folders, run_folders
from autolora.runs.index import summaries
from autolora.runs.lock import Lock
from autolora.runs.removal import check_removable, remove, tell, users
from autolora.runs.store import Run
from tests.export.runs import make_run
from tests.laboratory import change_state
from tests.runs.test_lock import Elsewhere


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs")


def test_a_run_is_removed_whole_and_its_bytes_are_counted(run: Path) -> None:
    other = make_run(run.parents[1])
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert remove(run) == size > 0
    assert [path.name for path in run.parent.iterdir()] == [other.name]


def test_a_damaged_run_is_removed_too(run: Path) -> None:
    (run / "status.json").write_text("{")
    remove(run)
    assert not run.exists()


def test_what_is_no_run_stays(run: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    for path, why in ((run.parent, "is not a run"), (run / "search", "is not a run"), (link, "is a link")):
        with pytest.raises(UserError, match=why):
            remove(path)
    shutil.copytree(run, run / "nested")
    with pytest.raises(UserError, match=r"holds other runs, such as .*nested"):
        remove(run)
    assert (run / "recipe.yaml").is_file()


def test_a_project_with_names_like_a_runs_stays(tmp_path: Path) -> None:
    (tmp_path / "proj" / "eval").mkdir(parents=True)
    for name, content in (("recipe.yaml", "name: mine"), ("eval/notes.md", "mine"), ("status.json", '{"mine": 1}')):
        (tmp_path / "proj" / name).write_text(content)
    for name in ("status.json", "recipe.yaml"):
        with pytest.raises(UserError, match=r"is not removed: nothing in it says that it is a run's"):
            remove(tmp_path / "proj")
        (tmp_path / "proj" / name).rename(tmp_path / "proj" / "manifest.json")
    assert (tmp_path / "proj" / "eval" / "notes.md").read_text() == "mine"


def test_a_run_under_another_name_is_removed_by_what_its_state_says(run: Path) -> None:
    run = run.rename(run.with_name("my best run"))
    (run / "status.json").write_text("{")
    remove(run)
    assert not run.exists()


def test_what_a_tracker_keeps_of_a_run_is_no_run(run: Path) -> None:
    root = run.parents[1]
    comparison = root / "comparisons" / "tiny"
    for folder in (run, comparison):  # MLflow's artifacts have a copy of the recipe, and pictures by stage
        artifacts = folder / "tracking" / "mlflow" / "artifacts" / "0123" / "artifacts"
        shutil.copytree(run / "search", artifacts / "search")
        shutil.copy(run / "recipe.yaml", artifacts)
    assert [*run_folders(root)] == [*all_run_folders(root)] == [run]
    other = make_run(root / "tracking")  # a recipe may be called so
    assert sorted(all_run_folders(root)) == sorted([run, other])
    remove(run)
    assert not run.exists()


def test_a_run_that_somebody_is_at_stays(run: Path) -> None:
    there = Elsewhere(run / ".lock")
    try:
        with pytest.raises(UserError, match=rf"in use \(process {there.process.pid} on"):
            remove(run)
    finally:
        there.kill()
    assert (run / "recipe.yaml").is_file()
    remove(run)  # the lock that a killed process has left is nobody's
    assert not run.exists()


def test_a_run_that_a_comparison_is_about_to_begin_stays(run: Path) -> None:
    change_state(run / "status.json", state="running", stages={})
    there = Elsewhere(run.parent / ".0123456789abcdef.lock")
    try:
        with pytest.raises(UserError, match="in use"):
            check_removable(run)
    finally:
        there.kill()
    check_removable(run)


def test_a_killed_removal_leaves_no_half_a_run_and_the_next_one_finishes_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(run)
    monkeypatch.undo()
    root = run.parents[1]
    (left,) = (path for path in run.parent.iterdir() if path.is_dir())
    assert (left / "recipe.yaml").is_file()
    assert [*run_folders(root), *run_folders(root, "tiny"), *all_run_folders(root)] == []
    assert summaries(root) == []
    other = make_run(root)
    remove(other)
    assert [path for path in run.parent.iterdir() if path.is_dir()] == []


def test_a_rename_that_fails_leaves_the_run_as_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="cannot be removed: Permission denied; nothing of it is gone"):
        remove(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    Lock(run / ".lock").acquire()


def test_comparisons_and_runs_that_have_to_do_with_it_are_found_and_told(run: Path) -> None:
    root = run.parents[1]
    other = Run.open(make_run(root))
    other.add_base_run("autolora", Run.open(run))
    comparison = root / "comparisons" / "tiny"
    trials = [{"recipe": "tiny", "score": 0.5, "run": f"../../tiny/{each.name}"} for each in (run, other.path)]
    write_json(comparison / "trials.json", trials)
    found = users(run)
    assert (found.comparisons, found.runs) == ((comparison.resolve(),), (other.path,))
    remove(run)
    tell(comparison, run, "2026-01-01")
    told = json.loads((comparison / "trials.json").read_text())
    assert told == [{**trials[0], "removed": "2026-01-01"}, trials[1]]
