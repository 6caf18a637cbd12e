"""Nothing that lies in the current folder is run: no module, no program; in no process of a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autolora.programs import program
from tests.cli.support import autolora, environment, settings

PACKAGES = ("yaml", "torch", "numpy", "rich", "typer", "pydantic", "transformers", "sitecustomize", "usercustomize")
NEVER = {"__main__", "antigravity", "this"}


@pytest.fixture
def hostile(tmp_path: Path, laboratory: Path) -> Iterator[Path]:
    """A folder with a recipe to compare, and a module of every name that Python's library has, and of others."""
    for name in (*sys.stdlib_module_names - NEVER, *PACKAGES):
        code = f"import sys; open({str(tmp_path / 'ran.txt')!r}, 'a').write({name + chr(10)!r})\n"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    for name in ("git", "java"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'ran.txt'}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    for name in ("model", "data"):
        (tmp_path / name).symlink_to(laboratory / name)
    text = (laboratory / "tiny.yaml").read_text(encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    yield tmp_path
    assert not (tmp_path / "ran.txt").exists(), (tmp_path / "ran.txt").read_text()


def test_a_comparison_imports_nothing_from_the_current_folder(hostile: Path) -> None:
    steps = settings(search__steps=1, retrain__steps=1)
    done = autolora(
        "compare", "tiny.yaml", "--methods", "lora:1", "--seeds", "0-0", *steps, cwd=hostile, PATH=":.:/usr/bin:/bin"
    )
    assert done.returncode == 0, done.stderr


def _unguarded() -> dict[str, str]:
    """Without what a command that was called inside this process has set for those that it begins."""
    return {name: value for name, value in environment().items() if name != "PYTHONSAFEPATH"}


def _imported_by_python(folder: Path) -> list[str]:
    """What ``python -m`` imports for any module, before code of it is run; only ``python -P -m`` prevents that."""
    (folder / "empty").mkdir()
    (folder / "empty" / "other.py").write_text("import sys; print(*sys.modules)\n", encoding="utf-8")
    command = [sys.executable, "-m", "other"]
    done = subprocess.run(
        command, cwd=folder / "empty", env=_unguarded(), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("arguments", [("--version",), ("recipes", "validate", "tiny.yaml")])
def test_nor_does_the_module(hostile: Path, arguments: tuple[str, ...]) -> None:
    for name in _imported_by_python(hostile):
        (hostile / f"{name}.py").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "autolora", *arguments],
        cwd=hostile,
        env=_unguarded(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_program_is_looked_for_in_absolute_folders_only(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PATH", f":.:{hostile}:bin")
    assert program("java") is None
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "java").write_text("#!/bin/sh\n")
    (tmp_path / "tools" / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f":.:{hostile}:{tmp_path / 'tools'}")
    assert program("java") == str(tmp_path / "tools" / "java")
