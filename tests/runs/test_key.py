"""The key that marks runs as made here: one for all processes of a user, and nobody else's."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.runs import key
from autolora.runs.key import is_signed, key_fault, sign, state_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder for state, which is not there yet."""
    monkeypatch.setenv("AUTOLORA_STATE", str(tmp_path / "state" / "autolora"))
    return tmp_path / "state" / "autolora"


def test_a_mark_is_an_hmac_of_the_bytes_by_a_key_that_only_the_user_can_read(folder: Path) -> None:
    mark = sign(b"seed: 0\n")
    secret = (folder / "key").read_bytes()
    assert len(secret) == 32
    assert mark == hmac.new(secret, b"seed: 0\n", hashlib.sha256).hexdigest() == sign(b"seed: 0\n")
    assert [path.name for path in folder.iterdir()] == ["key"]
    if sys.platform != "win32":
        assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_a_mark_holds_for_these_bytes_and_this_user_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = sign(b"seed: 0\n")
    assert mark is not None
    assert is_signed(b"seed: 0\n", ["é\ud800", mark])
    assert not is_signed(b"seed: 1\n", [mark])
    assert not is_signed(b"seed: 0\n", [])
    assert not is_signed(b"seed: 0\n", ["", mark[:-1], mark.upper()])
    monkeypatch.setenv("AUTOLORA_STATE", str(folder.with_name("other")))
    assert not is_signed(b"seed: 0\n", [mark])


def test_processes_that_need_the_first_key_at_once_come_to_one(folder: Path) -> None:
    code = "import sys; from autolora.runs.key import sign; sys.stdin.readline(); print(sign(b'x'))"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    marks = {process.communicate(timeout=60)[0].strip() for process in started}
    assert marks == {sign(b"x")}


def test_what_a_killed_process_left_of_a_key_is_no_key(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "key.new").write_bytes(b"half")
    assert sign(b"x") is not None
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_damaged_key_is_neither_used_nor_replaced(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "key").write_bytes(b"short")
    assert sign(b"x") is None
    assert "key, the key that marks runs as made here, is damaged: it does not have 32 bytes" in key_fault()
    assert (folder / "key").read_bytes() == b"short"


def test_without_a_folder_for_it_nothing_is_marked_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOLORA_STATE", str(tmp_path / "file" / "state"))
    assert sign(b"x") is None
    assert not is_signed(b"x", ["a"])
    assert "can be neither read nor written (Not a directory); AUTOLORA_STATE names another folder" in key_fault()


def test_a_folder_that_cannot_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, patience: float = 0.0) -> None:
        raise UserError("key.lock cannot be locked: Read-only file system")

    monkeypatch.setattr(key.Lock, "acquire", refuse)
    assert sign(b"x") is None
    assert "(key.lock cannot be locked: Read-only file system); AUTOLORA_STATE" in key_fault()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AUTOLORA_STATE", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert sign(b"x") is None
    assert key_fault().startswith("the user has no home folder (Could not determine home directory.)")


@pytest.mark.skipif(sys.platform == "win32", reason="the folders of other systems")
def test_where_the_key_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOLORA_STATE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert state_folder() == Path("/var/state/autolora")
    for ignored in ("", "not/absolute"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert state_folder() == tmp_path / ".local" / "state" / "autolora"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == tmp_path / ".local" / "state" / "autolora"
