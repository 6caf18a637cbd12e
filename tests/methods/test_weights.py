"""What is written beside its place takes it as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.files import replace_folder


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    with replace_folder(place) as fresh:
        (fresh / "old").touch()
    with pytest.raises(IsADirectoryError), replace_folder(place) as fresh:
        fresh.write_text("fails")
    assert [path.name for path in place.iterdir()] == ["old"]
    with replace_folder(place) as fresh:  # what was left of it is no obstacle
        (fresh / "newer").touch()
    assert [path.name for path in place.iterdir()] == ["newer"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
