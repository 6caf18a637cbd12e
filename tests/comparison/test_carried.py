"""What is carried of a run's folder: all that changes, at moments that a killed process could have left."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from autolora.comparison.carried import Parcel, Sender, stamps, unpack, whole
from autolora.errors import RunError
from autolora.files import write_atomic


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "there"
    write_atomic(folder / "recipe.yaml", "seed: 1\n")
    write_atomic(folder / "retrain" / "log.jsonl", "1\n")
    write_atomic(folder / "retrain" / "checkpoint.safetensors", b"\0\1")
    return folder


def test_what_is_new_replaced_grown_or_gone_is_carried_and_nothing_twice(there: Path, tmp_path: Path) -> None:
    here, sender = tmp_path / "here", Sender(there)

    def carry() -> Parcel:
        parcel = sender.parcel()
        assert parcel is not None
        unpack(parcel, here)
        return parcel

    carry()
    assert tree(here) == tree(there)
    assert sender.parcel() is None
    with (there / "retrain" / "log.jsonl").open("a") as log:
        log.write("2\n")
    write_atomic(there / "retrain" / "checkpoint.safetensors", b"\0\2")  # of the same size
    write_atomic(there / "adapter" / "weights", b"w")
    assert set(carry().files) == {"retrain/log.jsonl", "retrain/checkpoint.safetensors", "adapter/weights"}
    (there / "retrain" / "checkpoint.safetensors").unlink()
    (there / "adapter" / "weights").unlink()
    assert carry().gone == {"retrain/checkpoint.safetensors", "adapter/weights"}
    assert tree(here) == tree(there)
    assert not (here / "adapter").exists(), "a folder goes with its last file"


def test_what_came_with_the_run_is_not_sent_back(there: Path, tmp_path: Path) -> None:
    unpack(whole(there), tmp_path / "here")
    sender = Sender(tmp_path / "here", known=True)
    assert sender.parcel() is None
    (tmp_path / "here" / "retrain" / "log.jsonl").unlink()
    assert sender.parcel() == Parcel({}, frozenset({"retrain/log.jsonl"}))


def test_locks_links_and_what_is_half_written_stay_where_they_are(there: Path) -> None:
    known = stamps(there)
    for name in (".lock", ".lock.json", f".status.json.{'0' * 32}.tmp", "adapter.new/weights", "adapter.old/weights"):
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).touch()
    (there / "linked.yaml").symlink_to(there / "recipe.yaml")
    (there / "above").symlink_to(there.parent)
    assert stamps(there) == known


@pytest.mark.parametrize("name", ["../other/recipe.yaml", "/etc/hosts", "a/../../b", "a\\..\\..\\b", ""])
@pytest.mark.parametrize("gone", [False, True])
def test_what_leads_out_of_the_folder_is_refused_before_anything_is_written(
    name: str, gone: bool, tmp_path: Path
) -> None:
    parcel = Parcel({"recipe.yaml": b"", **({} if gone else {name: b""})}, frozenset({name} if gone else ()))
    with pytest.raises(RunError, match="leads out of it"):
        unpack(parcel, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_is_never_ahead_of_what_it_says_of_its_log(there: Path, tmp_path: Path) -> None:
    """A training that logs all the time, and whose checkpoint says how much it had logged, and its status as much."""
    ended = threading.Event()

    def train() -> None:
        log, size = there / "retrain" / "log.jsonl", 2
        while not ended.is_set():
            with log.open("a") as file:
                file.write("x" * 50 + "\n")
            size += 51
            if size % 5 == 0:
                write_atomic(there / "retrain" / "checkpoint.safetensors", str(size))
                write_atomic(there / "status.json", str(size))

    here, sender, thread = tmp_path / "here", Sender(there), threading.Thread(target=train)
    thread.start()
    try:
        seen = set()
        while len(seen) < 15:
            if parcel := sender.parcel():
                unpack(parcel, here)
                checkpoint = (here / "retrain" / "checkpoint.safetensors").read_text()
                if not checkpoint.isdigit():
                    continue
                status = (here / "status.json").read_text() if (here / "status.json").exists() else "0"
                assert int(status) <= int(checkpoint) <= (here / "retrain" / "log.jsonl").stat().st_size
                seen.add(checkpoint)
    finally:
        ended.set()
        thread.join()


def test_a_folder_that_somebody_writes_to_is_no_whole_one(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def busy(path: Path) -> bytes:
        write_atomic(there / "recipe.yaml", "seed: 2\n")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", busy)
    with pytest.raises(RunError, match="another process is at it"):
        whole(there)
