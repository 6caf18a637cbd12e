"""Which exceptions are the user's to mend, which are what came of a run, and which are ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from autolora.causes import MENDABLE, explained, is_memory, plainly
from autolora.errors import RunError, UserError


@pytest.mark.parametrize("number", sorted(MENDABLE))
def test_what_the_system_refuses_is_said_with_the_path_and_what_to_do(number: int) -> None:
    told = explained(OSError(number, os.strerror(number), "some/file.json"))
    assert isinstance(told, UserError)
    assert str(told) == f"some/file.json: {MENDABLE[number]}"


def test_a_number_that_is_not_known_is_said_in_the_words_of_the_system() -> None:
    told = explained(OSError(errno.ENXIO, "No such device or address", "some/pipe"))
    assert str(told) == "some/pipe: No such device or address; name another path"


def test_a_full_disk_needs_no_path() -> None:
    assert "the disk is full" in str(explained(OSError(errno.ENOSPC, "No space left on device")))
    assert isinstance(explained(OSError(errno.EDQUOT, "Disk quota exceeded")), UserError)


@pytest.mark.parametrize(
    "error", [OSError(errno.EBADF, "Bad file descriptor"), KeyError("x"), RuntimeError("shapes"), ValueError("y")]
)
def test_what_may_be_our_fault_stays_what_it_is(error: Exception) -> None:
    assert explained(error) is None
    with pytest.raises(type(error)) as raised, plainly():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(1 << 60, dtype=torch.uint8),
        lambda: np.empty(1 << 60, dtype=np.uint8),
        lambda: bytearray(1 << 60),
    ],
    ids=["torch", "numpy", "python"],
)
def test_an_allocation_that_fails_is_a_failed_run_with_advice(allocate: object) -> None:
    advice = r"memory was short .*lower retrain\.batch_size.*gradient_accumulation"
    with pytest.raises(RunError, match=advice), plainly("retrain"):
        allocate()  # type: ignore[operator]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("could not create a primitive"),  # what oneDNN said of a process with too little
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_the_memory_of_a_device_is_memory(error: Exception) -> None:
    told = explained(error, "eval")
    assert isinstance(told, RunError)
    assert "lower eval.batch_size" in str(told)


def test_what_a_processor_cannot_do_is_no_shortage() -> None:
    assert not is_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))


def test_a_name_that_is_too_long_and_one_with_a_nul(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="longer than the file system takes"), plainly():
        (tmp_path / ("n" * 300)).write_text("")
    with pytest.raises(UserError, match="NUL"), plainly():
        (tmp_path / "a\0b").write_text("")


def test_a_file_where_a_folder_is_due_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: a part of the path is a file|file/below: a part"), plainly():
        (tmp_path / "file" / "below").write_text("")
    with pytest.raises(UserError, match="it is a folder, and a file is needed"), plainly():
        tmp_path.read_text()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\0" * 100, b'{"a": 1}'])
def test_tensors_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="safetensors file is damaged"), plainly():
        load_file(tmp_path / "x.safetensors")


def test_tensors_on_a_full_disk_say_the_number_of_the_system() -> None:
    told = explained(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert isinstance(told, UserError)
    assert "the disk is full" in str(told)


def test_the_cause_is_kept_for_the_traceback() -> None:
    cause = OSError(errno.EACCES, "Permission denied", "x")
    with pytest.raises(UserError) as raised, plainly():
        raise cause
    assert raised.value.__cause__ is cause


def test_names_that_are_no_unicode_and_outputs_that_have_no_such_character() -> None:
    with pytest.raises(UserError, match="no Unicode"), plainly():
        "caf\udce9".encode()
    with pytest.raises(UserError, match="PYTHONUTF8=1"), plainly():
        "café".encode("ascii")


@pytest.mark.skipif(os.name != "posix", reason="a folder that is in use can't be removed elsewhere")
def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="is not there any more; change to another one"), plainly():
        Path.cwd()
    assert explained(FileNotFoundError(errno.ENOENT, "there", "/a/path")) is not None
    monkeypatch.chdir(tmp_path)
    assert explained(FileNotFoundError(errno.ENOENT, "our own fault")) is None
