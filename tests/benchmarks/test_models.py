"""docs/models.md is what the table of architectures gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import models
from tests.model.architectures import ARCHITECTURES


def test_the_page_is_up_to_date() -> None:
    assert models.main(["--check"]) == 0, f"run: {models.COMMAND}"


def test_every_architecture_is_a_line() -> None:
    lines = [line.split(" | ")[0] for line in models.page().splitlines() if line.startswith("| ")]
    assert lines[2:] == [f"| {name}" for name in ARCHITECTURES]


def test_another_page_is_noticed_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "PAGE", tmp_path / "models.md")
    assert models.main(["--check"]) == 1
    assert models.COMMAND in capsys.readouterr().err
    assert models.main([]) == 0
    assert models.main(["--check"]) == 0
