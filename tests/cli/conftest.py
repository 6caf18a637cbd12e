"""One whole run of the laboratory's recipe, by the command line."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import Call, only_run, succeed


@pytest.fixture(scope="session")
def finished(laboratory: Path) -> Path:
    """A run of tiny.yaml with seed 3 that nothing interrupted. To be read only."""
    succeed("run", "tiny.yaml", "--seed", "3", "--output", "finished", cwd=laboratory)
    return only_run(laboratory / "finished")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "tiny" / finished.name))


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs a command in this process, which spares the seconds that importing torch takes."""
    from autolora.cli import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    terminate = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, terminate)
