"""Whose a trial is, and what came of it: several comparisons in one folder, processes and servers that are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest

from autolora.comparison import processes
from autolora.comparison.execute import execute
from autolora.comparison.plan import Trial, plan
from autolora.comparison.processes import how_it_ended
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.runs.lock import Lock
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.comparison import workers


@pytest.fixture
def planned(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Trial]]:
    """Two trials as they are planned now, done by what stands for their processes.

    The fork server has a comparison's modules, as it has for every other test of this process: without them each
    process would import torch for itself, and those of later tests as well.
    """
    monkeypatch.setattr(processes, "work", workers.work)
    recipe = load_recipe(laboratory / "tiny.yaml")
    return lambda methods="lora:2,lora:3": plan([recipe], parse_methods(methods), [0], tmp_path)


class Other(threading.Thread):
    """Another comparison of the same trials, in the same folder: its locks are its own."""

    def __init__(self, trials: Sequence[Trial], root: Path) -> None:
        super().__init__()
        self.trials, self.root, self.found = trials, root, list[Run]()
        self.notices: list[str] = []

    def run(self) -> None:
        self.found = execute(self.trials, self.root, on_notice=self.notices.append)


def worked(root: Path) -> list[str]:
    """The runs, once for each process that was at one."""
    return sorted(path.parent.name for path in root.glob("tiny/*/worked-*"))


def until(ready: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def test_two_comparisons_in_one_folder_do_each_trial_once(planned: Callable[..., list[Trial]], tmp_path: Path) -> None:
    pools = [Other(planned(), tmp_path) for _ in range(2)]  # both are planned before either has made a run
    for pool in pools:
        pool.start()
    for pool in pools:
        pool.join()
    first, second = ([run.path for run in pool.found] for pool in pools)
    assert first == second
    assert len(set(first)) == 2
    assert worked(tmp_path) == sorted(path.name for path in first)
    assert [run.stage_state("eval") for run in pools[0].found] == ["success", "success"]
    assert len(list((tmp_path / "tiny").iterdir())) == 2, "no lock is left behind"


def test_a_trial_that_another_process_is_at_is_waited_for_and_said(
    planned: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    (trial,) = planned("lora:2")
    run = Run.create(tmp_path, trial.recipe)
    pool = Other(planned("lora:2,lora:3"), tmp_path)
    with run.hold():
        pool.start()
        until(lambda: [name for name in worked(tmp_path) if name != run.path.name])
        until(lambda: pool.notices)
        assert worked(tmp_path).count(run.path.name) == 0, "the other trial is done meanwhile"
        with run.stage("eval"):
            pass
    pool.join()
    assert pool.found[0].path == run.path
    assert worked(tmp_path).count(run.path.name) == 0
    assert len(pool.notices) == 1
    assert pool.notices[0].startswith("tiny lora:2 seed 0: ")
    assert pool.notices[0].endswith(" is at it, and is waited for")


def test_what_failed_with_another_comparison_is_not_tried_once_more_by_one_begun_with_it(
    planned: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "work", workers.fail)
    pools = [Other(planned("lora:2"), tmp_path) for _ in range(2)]
    for pool in pools:
        pool.start()
    for pool in pools:
        pool.join()
    assert len(worked(tmp_path)) == 1
    assert {read_result(pool.found[0]).reason for pool in pools} == {"it diverged"}
    execute(planned("lora:2"), tmp_path)  # a later one tries again
    assert len(worked(tmp_path)) == 2


def test_the_locks_of_a_killed_comparison_keep_nobody_out(planned: Callable[..., list[Trial]], tmp_path: Path) -> None:
    (trial,) = planned("lora:2")
    run = Run.create(tmp_path, trial.recipe)
    (run.path / ".lock").touch()
    (run.path / ".lock.json").write_text(f'{{"host": "elsewhere", "pid": {os.getppid()}, "since": "", "started": ""}}')
    (found,) = execute(planned("lora:2"), tmp_path)
    assert (found.path, found.stage_state("eval")) == (run.path, "success")
    assert not list((tmp_path / "tiny").rglob("*lock*"))


def test_a_trial_whose_run_says_success_is_one_however_its_process_ended(
    planned: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "work", workers.work_and_die)
    (run,) = execute(planned("lora:2"), tmp_path)
    assert (run.stage_state("eval"), run.status()["state"]) == ("success", "success")


def test_a_killed_process_fails_its_trial_with_the_signal(
    planned: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "work", workers.die)
    (run,) = execute(planned("lora:2"), tmp_path)
    error = run.status()["error"]
    assert error.startswith("its process ended with signal SIGKILL, which is how a machine that is out of memory ends ")
    assert "--jobs" in error
    assert "last seen with 1.50 GiB at most, of " in how_it_ended(-signal.SIGKILL, 3 << 29)
    assert how_it_ended(-1000) == "signal 1000"
    assert how_it_ended(4) == "exit code 4"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no fork server")
@pytest.mark.parametrize("with_its_processes", [False, True])
def test_a_killed_fork_server_fails_no_trial(
    planned: Callable[..., list[Trial]], tmp_path: Path, with_its_processes: bool
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "wait").touch()
    pool = Other(planned(), tmp_path)
    pool.start()
    until(lambda: worked(tmp_path))
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    if with_its_processes:
        (mark,) = tmp_path.glob("tiny/*/worked-*")
        os.kill(int(mark.name.partition("-")[2]), signal.SIGKILL)
    time.sleep(0.6)  # the comparison hears of the server's end first
    (tmp_path / "tiny" / "wait").unlink()
    pool.join()
    assert [run.status()["state"] for run in pool.found] == ["success", "success"]
    assert len(worked(tmp_path)) == (3 if with_its_processes else 2)
    assert len(pool.notices) == with_its_processes
    assert all("another one is begun" in notice for notice in pool.notices)


def test_a_trial_is_free_again_after_an_interruption(planned: Callable[..., list[Trial]], tmp_path: Path) -> None:
    def interrupt(trial: Trial, run: Run) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(planned("lora:2"), tmp_path, on_begin=interrupt)
    (run,) = (Run.open(path) for path in (tmp_path / "tiny").iterdir())
    assert run.live_process() is None
    lock = Lock(run.path / ".lock")
    lock.acquire()
    lock.release()
    assert run.status()["state"] in ("cancelled", "success")


def test_the_process_of_a_killed_comparison_is_waited_for_by_the_next(
    planned: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    """Its parent's lock is free, its own is not yet: it is the run that is still held."""
    (trial,) = planned("lora:2")
    run = Run.create(tmp_path, trial.recipe)
    orphan = threading.Event()

    def linger() -> None:
        with Run.open(run.path).hold():
            orphan.set()
            time.sleep(1.2)

    thread = threading.Thread(target=linger)
    thread.start()
    orphan.wait()
    begun = time.monotonic()
    (found,) = execute(planned("lora:2"), tmp_path)
    thread.join()
    assert time.monotonic() - begun > 1.0
    assert (found.path, found.stage_state("eval"), worked(tmp_path)) == (run.path, "success", [run.path.name])
