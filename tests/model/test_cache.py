"""A folder is made once on a machine, whole or not at all, and only what was written by this user is found again."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.model import cache
from autolora.model.cache import ENTRY, LOCK, cached, fault, total

KEY = {"sha256": "ab", "library": "1.0"}
ELSEWHERE = """
import sys, time
from pathlib import Path
from autolora.model.cache import cached
def make(folder):
    (folder / "weights").write_bytes(b"half")
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    print("half", flush=True)
    time.sleep(float(sys.argv[3]))
    (folder / "weights").write_bytes(b"whole")
print(cached(Path(sys.argv[1]), {"sha256": "ab", "library": "1.0"}, make))
"""


class Maker:
    """Writes two files, and counts how often."""

    def __init__(self, content: bytes = b"whole") -> None:
        self.content, self.times = content, 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "weights").write_bytes(self.content)
        (folder / "config").write_bytes(b"{}")


@pytest.fixture(autouse=True)
def _as_a_new_process() -> None:
    cache._checked.clear()


def elsewhere(root: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ELSEWHERE, str(root), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(cache.__file__).parents[2])


def test_it_is_made_once_for_a_key_and_anew_for_another(tmp_path: Path) -> None:
    make, root = Maker(), tmp_path / "deep" / "root"
    first = cached(root, KEY, make)
    assert {path.name for path in first.iterdir()} == {"weights", "config", ENTRY}
    cache._checked.clear()
    assert (cached(root, KEY, make), make.times) == (first, 1)
    assert cached(root, {**KEY, "library": "1.1"}, make) != first
    assert make.times == 2
    assert total(root) == sum(path.stat().st_size for path in root.rglob("*/*"))


@pytest.mark.parametrize("seen", [True, False], ids=["in one process", "in another"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights").write_bytes(b"Whole"),
        lambda folder: (folder / "weights").write_bytes(b"who"),
        lambda folder: (folder / "weights").unlink(),
        lambda folder: (folder / "more.py").write_bytes(b""),
        lambda folder: (folder / ENTRY).unlink(),
        lambda folder: (folder / ENTRY).write_text((folder / ENTRY).read_text().replace('"1.0"', '"1.1"')),
        lambda folder: (folder / ENTRY).write_text("[1"),
        lambda folder: shutil.rmtree(folder),
    ],
    ids=["changed", "cut", "gone", "more", "no entry", "other entry", "no JSON", "all gone"],
)
def test_what_is_not_as_it_was_written_is_made_anew(tmp_path: Path, damage: Callable[[Path], Any], seen: bool) -> None:
    make = Maker()
    folder = cached(tmp_path / "root", KEY, make)
    damage(folder)
    if not seen:
        cache._checked.clear()
    assert cached(tmp_path / "root", KEY, make) == folder
    assert make.times == 2
    assert (folder / "weights").read_bytes() == b"whole"
    assert {path.name for path in folder.iterdir()} == {"weights", "config", ENTRY}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    make = Maker()
    folder = cached(tmp_path / "root", KEY, make)
    (tmp_path / "other").write_bytes(b"whole")
    (folder / "weights").unlink()
    (folder / "weights").symlink_to(tmp_path / "other")
    cached(tmp_path / "root", KEY, make)
    assert make.times == 2
    assert not (folder / "weights").is_symlink()


def test_of_two_processes_at_once_one_makes_it_and_both_have_it(tmp_path: Path) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    both = [elsewhere(root, log, 1.0) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert log.read_text() == "made\n"
    assert said[0][-1] == said[1][-1]
    assert Path(said[0][-1], "weights").read_bytes() == b"whole"


def test_what_a_killed_process_leaves_is_not_taken_and_goes(tmp_path: Path) -> None:
    root, make = tmp_path / "root", Maker()
    process = elsewhere(root, tmp_path / "log", 60.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert any(path.read_bytes() == b"half" for path in root.rglob("weights"))
    folder = cached(root, KEY, make)
    assert make.times == 1
    assert {path.name for path in root.iterdir()} - {LOCK} == {folder.name}


@pytest.mark.skipif(sys.platform == "win32", reason="what is below a user's folder is the user's there")
def test_a_root_that_others_may_enter_or_own_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, root = Maker(), tmp_path / "root"
    cached(root, KEY, make)
    assert root.stat().st_mode & 0o777 == 0o700
    assert fault(root) == ""
    root.chmod(0o770)
    with pytest.raises(PermissionError, match="can be entered by others, who could have changed it"):
        cached(root, KEY, make)
    root.chmod(0o700)
    own = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: own + 1)
        with pytest.raises(PermissionError, match="is somebody else's"):
            cached(root, KEY, make)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(PermissionError, match="is no folder"):
        cached(tmp_path / "link", KEY, make)
    assert make.times == 1


def test_where_nothing_can_be_written_it_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        cached(tmp_path / "file" / "root", KEY, Maker())

    def full(folder: Path) -> None:
        (folder / "weights").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cached(tmp_path / "root", KEY, full)
    assert {path.name for path in (tmp_path / "root").iterdir()} <= {LOCK}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(OSError, match=r"has no room for 0\.0 GiB"):
        cached(tmp_path / "root", KEY, Maker(), size=101)


def test_all_together_are_bounded_and_what_was_used_lately_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, root = Maker(b"x" * 1000), tmp_path / "root"
    monkeypatch.setattr(cache, "LIMIT", 3000)
    oldest, older = (cached(root, {"sha256": name}, make) for name in "ab")
    for age, folder in enumerate((older, oldest), start=2):
        os.utime(folder, (0, folder.stat().st_mtime - age * cache.RECENT))
    third = cached(root, {"sha256": "c"}, make)
    assert set(cache._folders(root)) == {older, third}
    os.utime(older)
    fourth = cached(root, {"sha256": "d"}, make)
    assert set(cache._folders(root)) == {older, third, fourth}
