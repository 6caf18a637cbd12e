"""Building autolora's distributions and installing them away from the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "autolora"

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"


def run(*command: str | Path, cwd: Path, seconds: float = 300, **more: str) -> str:
    """The standard output of a command that must succeed and that nothing outside `cwd` helps to find autolora.

    more: what is added to its environment.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**ours, "HF_HUB_OFFLINE": "1", **more},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, target: Path) -> Path:
    """The wheel that pip makes of a source tree or a source distribution, with the hatchling that is installed."""
    target.mkdir()
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", target, source, cwd=target)
    (wheel,) = target.glob("*.whl")
    return wheel


def install_beside_dependencies(wheel: Path, folder: Path) -> Environment:
    """A new environment with the wheel in it and with the packages of the tests' own environment behind it.

    Those come in by a .pth file, which Python does not follow to the .pth of an editable autolora.
    """
    venv.create(folder, with_pip=False)
    environment = Environment(folder)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", environment.python, "install", *options, wheel, cwd=folder)
    (environment.packages / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    return environment
