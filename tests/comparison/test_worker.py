"""The process of a trial says why it failed, even where its run's status cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison import worker
from autolora.errors import FAILED, RunError
from autolora.trackers.follow import UNTRACKED
from tests.laboratory import tiny_run


def test_a_reason_that_cannot_be_kept_is_said_in_one_line(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")

    def diverge(*_: Any, **__: Any) -> None:
        raise RunError("retrain diverged")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker, "run_whole", diverge)
    monkeypatch.setattr(type(run), "mark", full)
    with pytest.raises(SystemExit) as end:
        worker._work(run, "float32", None, show=False, tracking=UNTRACKED)
    assert end.value.code == FAILED
    said = capsys.readouterr().err
    assert said.splitlines() == [
        f"{run.path}: retrain diverged (which could not be kept in its status.json: No space left on device)"
    ]
