"""Who is at a run: one at a time, for as long as it lives, whatever was left behind by those before."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from autolora.errors import UserError
from autolora.runs.lock import HeldError, Holder, Lock
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.runs.test_store import make_run

HOLD = """
import sys, time
from pathlib import Path
from autolora.runs.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(100)
"""


class Elsewhere:
    """Another process that holds a lock until it is killed."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_a_lock_is_held_until_it_is_let_go_as_often_as_it_was_taken_and_leaves_nothing(path: Path) -> None:
    mine, theirs = Lock(path), Lock(path)
    mine.acquire()
    mine.acquire()
    with pytest.raises(HeldError, match=rf"is in use \(process {os.getpid()} on .* since 20"):
        theirs.acquire()
    mine.release()
    with pytest.raises(HeldError):
        theirs.acquire()
    mine.release()
    theirs.acquire()
    theirs.release()
    assert list(path.parent.iterdir()) == []


def test_a_killed_process_holds_nothing_though_its_files_stay(path: Path) -> None:
    other = Elsewhere(path)
    lock = Lock(path)
    try:
        holder = lock.holder()
        assert holder is not None
        assert holder.pid == other.process.pid
        with pytest.raises(HeldError, match=f"process {other.process.pid} on "):
            lock.acquire()
    finally:
        other.kill()
    assert path.exists()
    assert lock.holder() is None
    lock.acquire()
    lock.release()
    assert list(path.parent.iterdir()) == []


def test_a_dying_process_is_waited_for(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    taken = threading.Event()

    def hold_for_a_moment() -> None:
        first.acquire()
        taken.set()
        time.sleep(0.3)
        first.release()

    thread = threading.Thread(target=hold_for_a_moment)
    thread.start()
    taken.wait()
    second.acquire(patience=5.0)
    thread.join()
    second.release()


def test_whoever_takes_turns_never_holds_it_together(path: Path) -> None:
    """The files are removed at the end of each turn, so that new ones are locked all the time."""
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        lock, turns = Lock(path), 0
        while turns < 10:
            try:
                lock.acquire()
            except HeldError:
                time.sleep(0.0001)
                continue
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0005)
            with guard:
                inside -= 1
            lock.release()
            turns += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize("pid", [1, os.getppid()])
def test_the_number_of_a_process_that_is_there_says_nothing_by_itself(tmp_path: Path, pid: int) -> None:
    """Of a killed run: its files, and a process that has its number today, here or on another host."""
    run = Run.open(make_run(tmp_path))
    stage = {"state": "running", "pid": pid}
    (run.path / "status.json").write_text(json.dumps({"state": "running", "stages": {"search": stage}}))
    (run.path / ".lock").touch()
    record = {"host": "elsewhere", "pid": pid, "since": "2026-01-01T00:00:00+00:00", "started": "x 1"}
    (run.path / ".lock.json").write_text(json.dumps(record))
    assert run.live_process() is None
    with run.stage("search"):
        pass
    assert run.stage_state("search") == "success"
    assert not list(run.path.glob(".lock*"))


def test_the_refusal_names_the_run_the_stage_and_who(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))
    other = Elsewhere(run.path / ".lock")
    try:
        (run.path / "status.json").write_text('{"state": "running", "stages": {"retrain": {"state": "running"}}}')
        assert read_result(run).reason == f"{run.live_process()} is at it"
        with pytest.raises(UserError, match="its retrain is still running") as refused, run.stage("eval"):
            pass
        assert f"{run.path}: its retrain is still running (process {other.process.pid} on " in str(refused.value)
        assert "eval" not in run.status()["stages"]
    finally:
        other.kill()


def test_two_threads_are_not_at_one_run_and_processes_that_do_not_write_do_not_ask(tmp_path: Path) -> None:
    run = Run.open(make_run(tmp_path))
    refused: list[str] = []

    def second() -> None:
        try:
            with Run.open(run.path).hold(0.0):
                pass
        except HeldError as error:
            refused.append(str(error))

    with run.hold(), run.stage("search"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        with Run(run.path, run.recipe, main=False).stage("search"):
            pass
        assert run.live_process() is None
    assert len(refused) == 1
    assert f"process {os.getpid()} on " in refused[0]
    second()
    assert len(refused) == 1


def test_a_run_that_cannot_be_written_to_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user sees it: no lock can be taken, and what is written down has to do."""
    run = Run.open(make_run(tmp_path))
    (run.path / ".lock").touch()

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert read_result(run).reason is None
    record = {"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00", "started": ""}
    (run.path / ".lock.json").write_text(json.dumps(record))
    assert read_result(run).reason == "process 7 on elsewhere since 2026-01-01T00:00:00+00:00 is at it"
    here = Holder.here()
    (run.path / ".lock.json").write_text(json.dumps({**record, "host": here.host, "started": "another boot 1"}))
    if here.started:  # known where the system has /proc
        assert read_result(run).reason is None
    with pytest.raises(UserError, match=r"\.lock cannot be locked: Permission denied"), run.stage("search"):
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', "[" * 100_000, '{"host":"\\u001b[2J","pid":1,"since":""}'])
def test_what_was_not_written_here_is_no_holder(path: Path, text: str) -> None:
    path.with_name(".lock.json").write_text(text)
    lock, other = Lock(path), Lock(path)
    other._take(0.0)
    with pytest.raises(HeldError, match=r"is in use \(another process\)"):
        lock.acquire()
    other.release()


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared folder that knows no locks."""
    take = filelock.FileLock.acquire

    def refuse(self: filelock.BaseFileLock, *args: object, **kwargs: object) -> object:
        if isinstance(self, filelock.SoftFileLock):
            return take(self, *args, **kwargs)  # type: ignore[arg-type]
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)


@pytest.mark.usefixtures("lockless")
def test_where_a_folder_has_no_locks_the_file_is_the_lock(path: Path) -> None:
    mine, theirs = Lock(path), Lock(path)
    mine.acquire()
    with pytest.raises(HeldError, match=f"process {os.getpid()} on "):
        theirs.acquire()
    mine.release()
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("lockless")
@pytest.mark.skipif(not Holder.here().started, reason="this system does not say when a process began")
def test_where_a_folder_has_no_locks_a_reused_number_is_taken_over_and_another_hosts_is_said(path: Path) -> None:
    soft = path.with_name(".lock.soft")
    killed = Lock(path)
    killed.acquire()
    own, host, started = soft.read_text().split()
    killed.release()
    soft.write_text(f"{own}\n{host}\n{int(started) - 1}\n")  # the number is in use, by a process that began later
    lock = Lock(path)
    assert lock.holder() is None
    lock.acquire()
    lock.release()
    soft.write_text(f"{own}\nelsewhere\n{started}\n")
    path.with_name(".lock.json").write_text(
        json.dumps({"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00", "started": ""})
    )
    with pytest.raises(HeldError, match="process 7 on elsewhere") as refused:
        lock.acquire()
    assert refused.value.remedy == f"; if that process is gone, remove {soft}"


def test_a_file_that_a_host_without_locks_has_left_keeps_nobody_out_where_there_are_locks(path: Path) -> None:
    path.with_name(".lock.soft").write_text("7\nelsewhere\n1\n")
    path.with_name(".lock.json").write_text(
        json.dumps({"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00", "started": ""})
    )
    lock = Lock(path)
    assert lock.holder() is None
    assert not path.exists(), "a look leaves nothing"
    lock.acquire()
    assert Lock(path).holder() is None, "it is this process's own"
    lock.release()
