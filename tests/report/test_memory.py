"""Bounded memory: what a report holds of a run is little, however many there are and however long their logs."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from autolora.comparison.groups import scores_by_task
from autolora.comparison.outcome import outcome
from autolora.lora.ranks import Ranks
from autolora.plots import curves, forest
from autolora.plots.forest import Line
from autolora.report import comparison_sections, curve_section, task_runs
from autolora.report.blocks import MOST_ROWS, Table
from autolora.report.document import MOST_FAILURES, write_report
from autolora.report.drawings import Drawings
from autolora.report.lean import Lean
from autolora.report.task_runs import MOST_METHODS
from autolora.runs.results import Result
from tests.comparison.support import cell
from tests.report.test_document import MANIFEST, MODULES, result, write

FILES = {f"file-{i}": {"size": 1, "sha256": f"{i:064}"} for i in range(40)}


def heavy(root: Path, seed: int) -> Result:
    """As it is read: with a whole manifest, and ranks with what gave them."""
    rule = {"selection": {name: [0.125 + seed] * 64 for name in MODULES}}
    ranks = Ranks({name: 1 + (seed + i) % 3 for i, name in enumerate(MODULES)}, initial_rank=4, rule=rule)
    manifest = json.loads(json.dumps({**MANIFEST, "files": FILES, "data": {"rows": [str(seed)] * 300}}))
    return result(root, "auto", seed, ranks=ranks, manifest=manifest)


def held(count: int, root: Path, light: Any) -> int:
    """Bytes that results take after they were made light."""
    light(heavy(root, 0))
    tracemalloc.start()
    try:
        kept = [light(heavy(root, seed)) for seed in range(count)]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if len(kept) == count else 0
    finally:
        tracemalloc.stop()


def test_a_light_result_is_a_small_part_of_what_was_read(tmp_path: Path) -> None:
    whole, light = held(20, tmp_path, lambda found: found), held(20, tmp_path, Lean())
    assert light < whole / 5
    assert light / 20 < 6_000


def test_light_results_give_the_page_that_whole_ones_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.plots.figures.DPI", 40)
    light, runs = Lean(), [heavy(tmp_path, seed) for seed in range(2)]
    one = write_report(runs, tmp_path / "one", outcome(runs), "Page")
    two = write_report([light(run) for run in runs], tmp_path / "two", outcome(runs), "Page")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_log_is_read_line_by_line(tmp_path: Path) -> None:
    """Of a log of 40 MB that a search of a large model leaves, only the losses stay."""
    run = result(tmp_path, "svd", 0)
    line = {"train_loss": 1.0, "selection": {name: [0.5] * 200 for name in MODULES}}
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step in range(600))
    assert run.run is not None
    write(run.run / "search" / "log.jsonl", text)
    tracemalloc.start()
    try:
        found = dict(curve_section._points(run))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found["search", "train_loss"]) == 600
    assert peak < len(text) / 10


def test_what_curves_hold_does_not_grow_with_the_runs() -> None:
    def size(count: int) -> int:
        tracemalloc.start()
        try:
            course = curves.Course()
            for run in range(count):
                course.add([(float(step), float(run + step)) for step in range(500)])
            gc.collect()
            return tracemalloc.get_traced_memory()[0] if course.count == count else 0
        finally:
            tracemalloc.stop()

    size(50)  # what the interpreter keeps for the next tuples and numbers is there from now on
    assert size(200) < 1.5 * size(50)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Figure]]:
    """Every figure that is made."""
    made: list[weakref.ref[Figure]] = []
    begin = Figure.__init__

    def noted(self: Figure, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Figure, "__init__", noted)
    return made


def test_a_figure_is_let_go_once_it_is_written(figures: list[weakref.ref[Figure]], tmp_path: Path) -> None:
    drawings = Drawings(tmp_path, {})
    gc.disable()
    try:
        for place in range(3):
            forest.save_png(
                [Line("a", 0.1, 0.0, 0.2, False)], tmp_path / f"{place}.png", title="", x_label="", baseline="b"
            )
            drawings.figure(tmp_path / f"{place}.png", "", "a plot")
            assert not [figure for figure in figures if figure() is not None]
    finally:
        gc.enable()
    assert len(figures) == 3


def test_a_page_of_very_many_methods_tasks_and_failures_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("autolora.report.document.MOST_TASKS", 2)
    monkeypatch.setattr("autolora.report.comparison_sections.MOST_TASKS", 2)
    names = [f"lora:{i}" for i in range(1, 61)]
    runs = [
        cell(f"t{task}", name, seed, 0.5 + i / 100 + seed / 1000, adapter_parameters=100 * (i + 1))
        for task in range(4)
        for i, name in enumerate(names)
        for seed in (0, 1)
    ]
    runs += [cell("t0", "svd", seed, None) for seed in range(2 * MOST_FAILURES)]
    write_report(runs, tmp_path, outcome(runs, "lora:1"), "Many")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Drawn are 40 of 60 differences" in text
    assert "Grey, without a number: up to 30 more methods" in text
    assert f"Drawn here: the {MOST_METHODS} methods with the best mean scores. Not drawn, but in the tables: 40" in text
    assert "curves of 2 more tasks are not drawn here" in text
    assert f"<summary>{MOST_FAILURES} more that did not succeed</summary>" in text
    section = text[text.index("## t0") : text.index("## t1")]
    assert "lora:60: no ranks" in section
    assert "lora:1: no ranks" not in section
    assert "lora:1 " in text[text.index("## Tables") : text.index("## t0")]
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_the_drawn_methods_of_a_loss_are_those_of_the_lowest() -> None:
    runs = [cell("t", f"lora:{i}", 0, float(i), higher_is_better=False) for i in range(1, 31)]
    kept = task_runs._best(task_runs._by_method(runs))
    assert kept == [f"lora:{i}" for i in range(1, MOST_METHODS + 1)]


def test_the_baseline_and_the_front_have_names_in_the_picture() -> None:
    points = [cell("t", f"lora:{i}", 0, i / 100, adapter_parameters=1000 - i) for i in range(1, 51)]
    runs = [*points, cell("t", "small", 0, 0.001, adapter_parameters=1)]
    scores = scores_by_task(runs)[0]
    panel = comparison_sections._panel(scores, "lora:1")
    names = {point.label for point in panel.points}
    assert names >= {"lora:1", "small", "lora:50"}
    assert (len(names), len(panel.others)) == (comparison_sections.MOST_POINTS, 51 - comparison_sections.MOST_POINTS)


def test_a_long_table_says_what_it_leaves_out() -> None:
    table = Table("x", tuple({"n": i} for i in range(MOST_ROWS + 3)))
    assert len(table.shown) == MOST_ROWS
    assert f"The first {MOST_ROWS} of {MOST_ROWS + 3} rows" in table.cut
    assert Table("x", ({"n": 1},)).cut == ""
