"""What a node of a cluster says of itself, and how a trial ends there: without Ray."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from autolora.comparison import ray_node
from autolora.comparison.ray_node import Seen, look, run_trial
from autolora.comparison.ray_tasks import _by_gpus, _faults, connect
from autolora.errors import CANCELLED, UserError
from autolora.runs.lock import Lock
from autolora.trackers.follow import UNTRACKED
from tests.laboratory import tiny_run


def test_a_node_says_whether_it_sees_the_folder_and_its_locks(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".nodes-1")
    assert not look(str(tmp_path), str(lock.path)).shared
    lock.acquire()
    seen = look(str(tmp_path), str(lock.path))
    assert (seen.shared, seen.folder) == (True, True)
    lock.release()
    assert not look(str(tmp_path / "none"), str(lock.path)).folder
    lock.path.touch()
    assert not look(str(tmp_path), str(lock.path)).locked, "a file whose lock is not seen from here"


def test_what_nodes_lack_is_said_by_node_and_value() -> None:
    mine = Seen(True, True, True, {"autolora": "1", "torch": "2"})
    assert _faults("n1", mine, mine) == []
    other = dataclasses.replace(mine, shared=False, folder=False, versions={"autolora": "1", "torch": "3"})
    working, torch = _faults("n1", other, mine)
    assert "has no folder" in working
    assert torch == "the node n1 has torch 3, and this machine 2"


def test_a_trial_on_a_node_ends_with_the_code_of_a_process(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    given = (str(laboratory), str(run.path), run.recipe, "float32", 1, UNTRACKED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_node, "work", lambda *_: sys.exit(CANCELLED))
    assert run_trial(*given) == CANCELLED  # type: ignore[arg-type]
    assert Path.cwd() == laboratory, "relative paths mean what they mean to whoever asked"
    monkeypatch.setattr(ray_node, "work", lambda *_: None)
    assert run_trial(*given) == 0  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="does not see"):
        run_trial(str(laboratory), str(tmp_path / "elsewhere"), *given[2:])  # type: ignore[arg-type]


def test_parts_of_different_gpus_are_no_gpu() -> None:
    assert [_by_gpus(2, share) for share in (1.0, 0.7, 0.5, 1 / 3)] == [2, 2, 4, 6]


def test_ray_that_is_not_installed_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'autolora\[ray\]'"):
        connect("auto")
