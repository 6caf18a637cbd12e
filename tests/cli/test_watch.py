"""Watching: Ctrl-C ends it and leaves the terminal as it was; what its page is afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from autolora.runs.status import Status
from autolora.runs.store import Run
from tests.cli.support import ENTRY_POINT, Call, environment
from tests.export.runs import make_run
from tests.runs.test_lock import Elsewhere

REFRESH = '<meta http-equiv="refresh"'


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A run at whose retraining another process is."""
    run = Run.open(make_run(tmp_path))
    Status(run.path).mark_stage("retrain", "running")
    now = datetime.now(UTC).isoformat()
    run.note("retrain", underway={"part": "retrain", "first": 0, "total": 100, "at": now})
    (run.path / "retrain").mkdir()
    lines = [json.dumps({"step": step, "train_loss": 1 / step}) for step in (10, 20, 30)]
    (run.path / "retrain" / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    there = Elsewhere(run.path / ".lock")
    yield run.path
    there.kill()


def read_until(terminal: int, wanted: bytes, seconds: float = 240) -> bytes:
    """What a terminal was sent up to and with something."""
    found, end = b"", time.monotonic() + seconds
    while wanted not in found:
        assert time.monotonic() < end, found
        if select.select([terminal], [], [], 0.2)[0]:
            found += os.read(terminal, 65536)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_ctrl_c_ends_it_and_leaves_terminal_and_run_as_they_were(running: Path, tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    page, (ours, theirs) = tmp_path / "page.html", pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [str(ENTRY_POINT), "watch", str(running), "--every", "0.2", "--html", str(page)]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(COLUMNS="80", TERM="xterm-256color"),
        start_new_session=True,
        preexec_fn=lambda: (signal.signal(signal.SIGINT, signal.SIG_DFL), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    shown = read_until(ours, b"30 of 100")
    assert REFRESH in page.read_text(encoding="utf-8")
    os.write(ours, b"\x03")  # Ctrl-C
    shown += read_until(ours, b"wrote ")
    assert process.wait(timeout=240) == 0
    while select.select([ours], [], [], 0.2)[0]:
        shown += os.read(ours, 65536)
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1  # the cursor was hidden, and is back
    assert b"Traceback" not in shown
    assert termios.tcgetattr(theirs) == before
    text = page.read_text(encoding="utf-8")
    assert REFRESH not in text
    assert "so this page stays as it is" in text
    assert Run.open(running).live_process() is not None


def test_the_page_of_what_has_ended_is_its_report(call: Call, finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, _, err = call("watch", finished, "--every", "0.1", "--html", page)
    assert (code, err) == (0, f"wrote {page}\n")
    text = page.read_text(encoding="utf-8")
    assert REFRESH not in text
    assert "Learning curves" in text
    assert [path for path in tmp_path.iterdir() if path != page] == []


def test_where_there_can_be_no_report_the_page_stays_and_it_is_said(call: Call, copied: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (copied / "retrain" / "log.jsonl").write_text("{\n")
    code, _, err = call("watch", copied, "--once", "--html", page)
    assert code == 0
    assert f"{page} is no report: " in err
    assert "It has ended. A whole report: autolora report" in page.read_text(encoding="utf-8")


def test_a_page_that_is_written_once_loads_itself_no_more(call: Call, running: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, _, err = call("watch", running, "--once", "--html", page)
    assert (code, err) == (0, f"wrote {page}\n")
    text = page.read_text(encoding="utf-8")
    assert REFRESH not in text
    assert "so this page stays as it is" in text
