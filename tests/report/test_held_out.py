"""Curves of the rows by which weights are chosen, with the step that is kept, in reports and for whoever watches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from autolora.comparison.outcome import outcome
from autolora.plots import curves
from autolora.report.document import write_report
from autolora.report.lean import Lean
from tests.report.test_document import MANIFEST, result, write

pytestmark = pytest.mark.usefixtures("small_pictures")

LINES = [(10, 1.0, 0.6), (20, 0.8, 0.9), (30, 0.7, 0.75)]  # step, training loss, accuracy of the held-out rows
KEPT = {"step": 20, "of": 30, "best_step": 20, "by": "held_out_accuracy", "value": 0.9}


@dataclass(frozen=True)
class Drawn:
    """What is in a figure, which is emptied once it is written."""

    quantity: str
    lines: list[list[float]]
    rings: list[list[float]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Drawn]:
    """The figures of learning curves, by their titles."""
    found: dict[str, Drawn] = {}
    made = curves._figure

    def keep(courses: Any, title: str, *more: Any) -> Figure:
        figure = made(courses, title, *more)
        (axes,) = figure.axes
        rings = [point for each in axes.collections for point in each.get_offsets().tolist()]
        found[title] = Drawn(axes.get_ylabel(), [list(line.get_ydata()) for line in axes.lines], rings)
        return figure

    monkeypatch.setattr(curves, "_figure", keep)
    return found


def test_a_report_draws_them_and_marks_what_is_kept(tmp_path: Path, drawn: dict[str, Drawn]) -> None:
    manifest = {**MANIFEST, "stages": {"retrain": {**MANIFEST["stages"]["retrain"], "kept": KEPT}}}  # type: ignore[dict-item]
    runs = [result(tmp_path, method, 0, manifest=manifest) for method in ("lora:4", "svd")]
    lines = [json.dumps({"step": s, "train_loss": t, "held_out_accuracy": a}) for s, t, a in LINES]
    assert runs[0].run is not None
    write(runs[0].run / "retrain" / "log.jsonl", "".join(f"{line}\n" for line in lines))
    page, *_ = write_report([Lean()(run) for run in runs], tmp_path / "page", outcome(runs), "Page")
    held = drawn["Retraining: accuracy of held-out rows"]
    assert held == Drawn("accuracy", [[0.6, 0.9, 0.75]], [[20.0, 0.9]])  # of svd there is none
    assert drawn["Retraining: training loss"].quantity == "loss"
    assert drawn["Retraining: training loss"].rings == []
    text = page.read_text(encoding="utf-8")
    assert "Circles: the steps whose weights are kept." in text
    assert "retraining: accuracy of held-out rows over the steps, of lora:4" in text


def test_where_nothing_is_held_out_nothing_is_said_of_it(tmp_path: Path, drawn: dict[str, Drawn]) -> None:
    runs = [result(tmp_path, "lora:4", 0)]
    page, *_ = write_report(runs, tmp_path / "page", outcome(runs), "Page")
    assert [title for title in drawn if "held-out" in title] == []
    assert "Circles" not in page.read_text(encoding="utf-8")
