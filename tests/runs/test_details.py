"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path

from autolora.runs.details import differences
from tests.export.runs import make_run


def test_what_a_recipe_leaves_at_its_default_is_shown_as_that(tmp_path: Path) -> None:
    one = make_run(tmp_path / "a")
    two = make_run(tmp_path / "b", retrain={"keep": "best", "held_out": 0.2})
    found = differences(one, two, ("interrupted", "interrupted"))
    assert found["recipe"] == {"retrain.keep": ["last", "best"], "retrain.held_out": [None, 0.2]}
