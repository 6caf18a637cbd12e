"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path

from autolora.runs.base import Base, write_base
from autolora.runs.details import differences
from autolora.runs.store import Run
from tests.export.runs import make_run


def test_what_a_recipe_leaves_at_its_default_is_shown_as_that(tmp_path: Path) -> None:
    one = make_run(tmp_path / "a")
    two = make_run(tmp_path / "b", retrain={"keep": "best", "held_out": 0.2})
    found = differences(one, two, ("interrupted", "interrupted"))
    assert found["recipe"] == {"retrain.keep": ["last", "best"], "retrain.held_out": [None, 0.2]}


def test_another_base_model_and_other_rows_are_shown(tmp_path: Path) -> None:
    one, two = (make_run(tmp_path / name) for name in "ab")
    for path, weights, rows in ((one, "a" * 64, "c" * 64), (two, "b" * 64, "d" * 64)):
        run = Run.open(path)
        write_base(path, Base(weights, "e" * 64, {}))
        run.note("retrain", data={"train": rows})
    found = differences(one, two, ("interrupted", "interrupted"))
    assert found["made_of"] == {"base model's weights": ["a" * 12, "b" * 12], "rows of train": ["c" * 12, "d" * 12]}
    assert differences(one, one, ("interrupted", "interrupted"))["made_of"] == {}
