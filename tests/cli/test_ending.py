"""How a command ends: 2 the user can mend it, 3 the run failed, 1 a fault of ours, whose traceback is kept."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import pytest

from autolora.errors import RunError, UserError
from autolora.runs.store import Run
from tests.cli.support import ENTRY_POINT, Call, environment, read
from tests.export.runs import make_run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, copied: Path) -> Path:
    """A run whose export ends with whatever the test sets as `error` of the module."""

    def fail(run: Run) -> None:
        raise ERRORS[-1]

    monkeypatch.setattr("autolora.export.read.read_allocation", fail)
    return copied


ERRORS: list[Exception] = []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("mend it"), 2, "autolora: mend it"),
        (RunError("step 3: the loss is nan"), 3, "autolora: the run failed: step 3: the loss is nan"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "autolora: a/b: the disk is full"),
        (MemoryError(), 3, "autolora: the run failed: memory was short"),
        (KeyError("x"), 1, "autolora: failed: KeyError: 'x'"),
    ],
    ids=["user", "run", "disk", "memory", "bug"],
)
@pytest.mark.parametrize("debug", [False, True])
def test_exit_codes_are_the_same_with_debug(
    call: Call, failing: Path, error: Exception, code: int, message: str, debug: bool
) -> None:
    ERRORS.append(error)
    ended, _, err = call("export", failing, *(["--debug"] if debug else []))
    assert ended == code
    assert message in err
    assert ("Traceback (most recent call last)" in err) == debug


def test_a_fault_of_ours_keeps_its_traceback_in_a_file(
    call: Call, failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = partial(tempfile.mkstemp, dir=tmp_path)
    monkeypatch.setattr(tempfile, "mkstemp", make)
    ERRORS.append(KeyError("x"))
    code, _, err = call("export", failing)
    assert code == 1
    found = re.search(r"its traceback is in (\S+\.txt)\.", err)
    assert found
    assert "Please report it" in err
    kept = Path(found[1])
    assert kept.parent == tmp_path
    text = kept.read_text(encoding="utf-8")
    assert text.startswith("autolora ")
    assert "Traceback (most recent call last)" in text
    assert "KeyError: 'x'" in text


def test_where_no_file_can_be_written_the_traceback_is_shown(
    call: Call, failing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/temporary")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    ERRORS.append(KeyError("x"))
    code, _, err = call("export", failing)
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "its traceback is above" in err


def test_a_fault_in_a_stage_is_kept_in_the_run(
    call: Call, laboratory: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.chdir(laboratory)
    monkeypatch.setattr("autolora.experiment.evaluate.predictions_of", fail)
    code, _, err = call("eval", copied)
    assert code == 1
    assert f"its traceback is in {copied / 'status.json'}" in err
    assert "ZeroDivisionError: ours" in read(copied / "status.json")["stages"]["eval"]["traceback"]


def test_short_memory_in_a_stage_is_a_failed_run_whose_status_says_so(
    call: Call, laboratory: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.chdir(laboratory)
    monkeypatch.setattr("autolora.experiment.evaluate.predictions_of", fail)
    code, _, err = call("eval", copied)
    assert code == 3
    assert "- eval.batch_size: 4 -> 1: " in err
    assert "nothing is lost: autolora eval" in err
    status = read(copied / "status.json")
    assert status["state"] == "failed"
    assert "memory was short" in status["stages"]["eval"]["error"]


def _in_shell(line: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("autolora", str(ENTRY_POINT), 1)
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_reader_that_has_gone_is_no_fault_of_ours(tmp_path: Path) -> None:
    done = _in_shell("autolora recipes show quickstart | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert done.returncode in (0, 2)  # 0: it had written everything before the other end was closed
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_pipe_that_is_closed_already(tmp_path: Path) -> None:
    done = _in_shell("autolora recipes show quickstart > >(exec 0<&-); exit $?", tmp_path)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device that is always full is needed")
def test_a_full_disk_behind_standard_output(tmp_path: Path) -> None:
    done = _in_shell("autolora recipes show quickstart > /dev/full", tmp_path)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_streams_that_are_closed(tmp_path: Path, closed: str) -> None:
    assert _in_shell(f"autolora recipes show quickstart {closed}", tmp_path).returncode == 0


def test_an_output_that_has_no_such_character(tmp_path: Path) -> None:
    recipe = _in_shell("autolora recipes show quickstart", tmp_path).stdout
    (tmp_path / "mine.yaml").write_text(recipe + "# schön\n", encoding="utf-8")
    done = _in_shell("autolora recipes show mine.yaml", tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "PYTHONUTF8=1" in done.stderr
    listed = _in_shell("autolora recipes list", tmp_path, PYTHONIOENCODING="ascii")
    assert listed.returncode == 0, listed.stderr


def test_nobody_is_asked_on_an_input_that_is_closed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr("sys.stdin", None)  # as Python has it then
    code, _, err = call("runs", "rm", run)
    assert code == 2
    assert "standard input is no terminal" in err
    assert run.is_dir()


def test_a_recipe_in_another_encoding_is_neither_shown_nor_copied(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes("# schön\ntask: chat\n".encode("latin-1"))
    for arguments in (["show", recipe], ["copy", recipe, tmp_path / "copy.yaml"]):
        code, out, err = call("recipes", *arguments)
        assert (code, out) == (2, "")
        assert f"{recipe}:1: the file is not UTF-8 text: byte 0xf6 (save it as UTF-8)" in err
    recipe.write_bytes("# schön\n".encode("utf-8-sig"))
    assert call("recipes", "show", recipe)[:2] == (0, "# schön\n")


@pytest.mark.parametrize("since", ["999999w", "0001-01-01", "0001-01-01T00:00+14:00"])
def test_an_age_before_the_first_year_is_no_fault(call: Call, tmp_path: Path, since: str) -> None:
    make_run(tmp_path)
    code, out, err = call("runs", "--runs", tmp_path, "--since", since)
    assert (code, len(out.splitlines())) == (0, 2), err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are needed")
def test_answers_replace_no_device(call: Call, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    code, _, err = call("predict", make_run(tmp_path), tmp_path / "rows.jsonl", "-o", tmp_path / "pipe")
    assert code == 2
    assert f"-o: {tmp_path / 'pipe'} is no file" in err


def test_a_folder_of_a_shipped_recipes_name_hides_none_of_its_runs(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    code, _, err = call("export", "quickstart")
    assert (code, "there is no run of quickstart below runs" in err) == (2, True)
    (tmp_path / "mine").mkdir()
    assert "mine is not a run" in call("export", "mine")[2]
