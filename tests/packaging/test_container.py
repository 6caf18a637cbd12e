"""The container file: what it copies is enough for the package, what it installs is pinned, nothing runs as root."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
STEPS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def step(name: str) -> list[str]:
    return [rest for word, rest in STEPS if word == name]


def copied() -> list[str]:
    return [source for rest in step("COPY") for source in rest.split()[:-1]]


def test_what_is_copied_is_let_through_and_no_more() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(line[1:] for line in ignore if line.startswith("!")) == sorted(copied())
    assert "*" in ignore


def test_what_is_copied_builds_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "copied"
    place.mkdir()
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    monkeypatch.chdir(place)
    (wheel,) = WheelBuilder(str(place)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert {"autolora/cli/__init__.py", "autolora/_recipes/quickstart.yaml"} <= set(names)
    assert {
        f"autolora/{path.relative_to(ROOT / 'autolora').as_posix()}" for path in (ROOT / "autolora").rglob("*.py")
    } <= {*names}


def test_all_that_is_installed_has_its_pin() -> None:
    installs = [command for rest in step("RUN") for command in rest.split("&& ") if command.startswith("pip install")]
    assert len(installs) == 3
    assert all("-c constraints.txt" in command and "--only-binary :all:" in command for command in installs)
    assert any("hatchling" in command for command in installs)


def test_nothing_runs_as_root_and_the_hub_is_off() -> None:
    words = [word for word, _ in STEPS]
    assert step("USER") == ["autolora"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert words[-2:] == ["ENTRYPOINT", "CMD"]
    assert "HF_HUB_OFFLINE=1" in step("ENV")[0]


def test_what_is_written_is_kept_together_whoever_runs() -> None:
    """Runs, and the key that marks them as made here; a user without a name has no other home than this."""
    (home,) = step("VOLUME")
    assert f"HOME={home}" in step("ENV")[0].split()
    assert f"chmod 1777 {home}" in " ".join(step("RUN"))
    assert step("WORKDIR")[-1] == home


def test_what_it_runs_is_a_command_and_a_recipe() -> None:
    assert step("ENTRYPOINT") == ['["autolora"]']
    assert step("CMD") == ['["run", "quickstart"]']
    assert (ROOT / "recipes" / "quickstart.yaml").is_file()
