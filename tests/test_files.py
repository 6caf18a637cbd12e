"""Files that are whole or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import threading
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.files import read_state, replace_folder, sync, write_atomic, write_json, write_records, write_state


def test_text_and_bytes_come_back_as_they_were_in_a_folder_that_was_not_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "folder" / "a.txt", "ränge\r\n\n")
    write_atomic(tmp_path / "b.bin", b"\x00\r\n\xff")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "ränge\r\n\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\r\n\xff"


def test_an_old_file_is_replaced_and_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "a long first version")
    write_atomic(path, "second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_the_replacement_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_reader_never_sees_half_a_file_while_two_writers_write(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    versions = ["a" * 200_000, "b" * 300_000]
    write_atomic(path, versions[0])
    writers = [
        threading.Thread(target=lambda text=text: [write_atomic(path, text) for _ in range(20)]) for text in versions
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_text())
    for writer in writers:
        writer.join()
    assert seen <= set(versions)
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_the_order_of_keys_and_ends_in_a_newline(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": {"z": "ü", "y": True}}
    write_json(tmp_path / "v.json", value)
    text = (tmp_path / "v.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.index('"b"') < text.index('"a"')
    assert '"ü"' in text
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, "the value is nan"),
        ({"a": {"b": [0.5, math.inf]}}, r"a\.b\[1\] is inf"),
        ([{"c": (1, -math.inf)}], r"\[0\]\.c\[1\] is -inf"),
    ],
)
def test_what_json_has_no_number_for_is_an_error_and_not_null(value: object, where: str, tmp_path: Path) -> None:
    write_json(tmp_path / "v.json", [1])
    with pytest.raises(ValueError, match=f"^{where}, which JSON has not$"):
        write_json(tmp_path / "v.json", value)
    write_records(tmp_path / "r.jsonl", [{"x": 1.0}])
    with pytest.raises(ValueError, match="which JSON has not"):
        write_records(tmp_path / "r.jsonl", [{"x": 1.0}, {"x": value}])
    assert json.loads((tmp_path / "v.json").read_text()) == [1]
    assert (tmp_path / "r.jsonl").read_text() == '{"index": 0, "x": 1.0}\n'


def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "v.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "v.json", [object()])
    assert json.loads((tmp_path / "v.json").read_text()) == [1]


def test_a_state_says_what_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    value = {"b": [1, 2.5, None, True, 1e-300], "a": {"ü": "\n\t", "nothing": None}, "format": 2}
    write_state(path, value)
    assert read_state(path, since=0) == value
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(UserError, match=r"state\.json is not what was written: its SHA-256 is \w{12}, and should be"):
        read_state(path, since=0)


def test_a_state_of_an_earlier_format_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for number in (None, 1, 2):
        path.write_text(json.dumps({"x": 1} if number is None else {"x": 1, "format": number}))
        assert read_state(path, since=3)["x"] == 1
    path.write_text('{"x": 1, "format": 3}')
    with pytest.raises(UserError, match="it does not say its SHA-256"):
        read_state(path, since=3)
    path.write_text("[]")
    with pytest.raises(UserError, match="is not a JSON object"):
        read_state(path, since=3)


def test_a_file_and_its_name_reach_the_disk_where_the_system_can_do_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = list[bool](), os.fsync

    def note(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(tmp_path / "a.txt", "a")
    assert synced == [False, True]
    with replace_folder(tmp_path / "folder") as fresh:
        (fresh / "file").write_text("x")
    assert synced[2:] == [False, True, True]

    def cannot(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not for folders")

    monkeypatch.setattr(os, "fsync", cannot)
    write_atomic(tmp_path / "a.txt", "b")
    assert (tmp_path / "a.txt").read_text() == "b"


def test_a_disk_that_fails_to_take_a_folder_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        sync(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are needed")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is no file, and would be replaced by one"):
        write_atomic(tmp_path / "pipe", "text")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
