"""Learning curves and Pareto plots: what is drawn, and that the same input gives the same bytes."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from autolora.errors import UserError
from autolora.plots import curves, pareto, rank_spread
from autolora.plots.curves import MOST_POINTS, MOST_RUNS, Course, course, mean_curve
from autolora.plots.figures import styles
from autolora.plots.pareto import Panel, Point, front

NAMES = ["autolora", "lora:4"]
LOOKS = styles(NAMES)


def figure(runs: dict[str, list[list[tuple[float, float]]]]) -> Figure:
    return curves._figure({label: course(found) for label, found in runs.items()}, "loss", styles(list(runs)))


def test_the_mean_is_over_the_steps_that_all_curves_have() -> None:
    assert mean_curve([[(1, 2.0), (2, 4.0), (3, 1.0)], [(2, 6.0), (3, 2.0)]]) == [(2, 5.0), (3, 1.5)]
    assert mean_curve([[(1, 2.0)]]) == [(1, 2.0)]
    assert mean_curve([]) == []


def test_seeds_are_thin_and_their_mean_is_thick_and_in_the_legend() -> None:
    drawn = {"autolora": [[(1, 1.0), (2, 3.0)], [(1, 3.0), (2, 5.0)]], "lora:4": [[(1, 0.5), (2, 0.25)]]}
    axes = figure(drawn).axes[0]
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert [line.get_label() for line in thick] == NAMES
    assert list(thick[0].get_ydata()) == [2.0, 4.0]
    assert len(axes.lines) == 4
    assert to_hex(thick[0].get_color()) == LOOKS["autolora"].colour.lower()


def test_long_curves_are_means_of_windows_and_a_missing_loss_is_a_gap() -> None:
    steps, values = curves._coordinates([(step, float(step)) for step in range(10 * MOST_POINTS)])
    assert len(steps) == MOST_POINTS
    assert (steps[0], values[0]) == (4.5, 4.5)
    _, values = curves._coordinates([(0, 1.0), (1, math.nan)])
    assert math.isnan(values[1])


def test_many_runs_are_a_band_of_one_standard_deviation_and_none_of_them_is_held() -> None:
    found, values = Course(), [float(i % 5) for i in range(50)]
    for value in values:
        found.add([(1.0, value), (2.0, 1.0)])
    assert found.runs == []
    assert found.mean == [(1.0, pytest.approx(2.0)), (2.0, 1.0)]
    assert found.spread == [(1.0, pytest.approx(statistics.stdev(values))), (2.0, 0.0)]
    axes = curves._figure({"lora:4": found}, "loss", LOOKS).axes[0]
    (band,) = axes.collections
    ends = band.get_paths()[0].vertices[:, 1]
    assert (min(ends), max(ends)) == pytest.approx((2 - statistics.stdev(values), 2 + statistics.stdev(values)))
    assert len(axes.lines) == 1


def test_a_course_of_long_runs_is_reduced_to_what_is_drawn() -> None:
    long = [[(float(step), float(step + run)) for step in range(10 * MOST_POINTS)] for run in (0, 2)]
    found = course(long).reduced
    assert len(found.mean) == MOST_POINTS
    assert found.mean[0] == (4.5, pytest.approx(5.5))
    assert found.spread[0] == (4.5, pytest.approx(math.sqrt(2)))
    assert found.longest == 10 * MOST_POINTS
    assert [len(run) for run in found.runs] == [MOST_POINTS] * 2
    assert len(course(long[:1] * MOST_RUNS).runs) == MOST_RUNS
    assert course([[(1, math.nan)], [(1, 1.0)]]).mean[0][1] != 1.0  # the mean of what is not a number is none


def test_a_wide_range_is_logarithmic() -> None:
    assert figure({"lora:4": [[(1, 100.0), (2, 0.5)]]}).axes[0].get_yscale() == "log"
    assert figure({"lora:4": [[(1, 1.0), (2, 0.5)]]}).axes[0].get_yscale() == "linear"


def test_the_front_has_what_nothing_else_is_at_least_as_good_as_and_better() -> None:
    a, b, c = Point("a", ((1, 0.5),)), Point("b", ((2, 0.5),)), Point("c", ((3, 0.9), (5, 0.7)))
    tie = Point("tie", ((1, 0.5),))
    assert c.mean == (4.0, pytest.approx(0.8))
    assert [point.label for point in front([c, b, a, tie])] == ["a", "tie", "c"]
    assert front([b]) == [b]


def test_styles_differ_for_many_methods() -> None:
    names = [f"m{i}" for i in range(21)]
    assert len(set(styles(names).values())) == 21
    assert styles(["a", "b", "a"]).keys() == {"a", "b"}


def test_figures_are_png_files_and_the_same_bytes_twice(tmp_path: Path) -> None:
    runs = [{f"h.{layer}.{name}": layer + seed for layer in range(3) for name in "qkv"} for seed in range(3)]
    for name in ("one.png", "two.png"):
        folder = tmp_path / name
        curves.save_png({"lora:4": [[(1, 1.0), (2, 0.5)]]}, folder / "curves.png", title="loss", looks=LOOKS)
        points = (Point("autolora", ((1, 0.5), (2, 0.6)), 3.0), Point("lora:4", ((30, 0.7),)))
        pareto.save_png([Panel("t", "y", points)], folder / "front.png", cost="seconds", looks=LOOKS)
        rank_spread.save_png(runs, 8, folder / "spread.png")
        rank_spread.save_png(runs[:1], 8, folder / "single.png")
    for path in (tmp_path / "one.png").iterdir():
        assert path.read_bytes() == (tmp_path / "two.png" / path.name).read_bytes()
        with Image.open(path) as image:
            image.verify()


def test_the_rank_spread_shows_mean_and_standard_deviation() -> None:
    import numpy as np

    figure = rank_spread._figure(["h.0.q", "h.1.q", "h.1.v"], np.array([[1.0, 4, 2], [3, 4, 2]]), 8)
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"2.0", "±1.4", "4.0", "±0.0", "–"}
    assert "sum 8.0 ± 1.4 of 24, 3 modules" in {text.get_text() for text in figure.texts}


def test_the_legend_of_long_labels_stays_within_the_figure() -> None:
    names = [f"squeeze:at=0.5:k={i}:budget=tolerance=0.02" for i in range(12)]
    drawn = figure({name: [[(1, 1.0), (2, 0.5)]] for name in names})
    drawn.canvas.draw()
    (legend,) = drawn.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.bbox.x1
    assert box.y1 < drawn.axes[0].bbox.y0


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no learning curves"):
        curves.save_png({"lora:4": [[]]}, tmp_path / "x.png", title="", looks=LOOKS)
    with pytest.raises(UserError, match="no scores"):
        pareto.save_png([Panel("t", "y", ())], tmp_path / "x.png", cost="", looks=LOOKS)
    with pytest.raises(UserError, match="no ranks"):
        rank_spread.save_png([], 8, tmp_path / "x.png")


@pytest.mark.parametrize("numbers", ["short", "long"])
def test_nothing_of_an_axis_is_cut_off_on_the_left(tmp_path: Path, numbers: str) -> None:
    """Of a fixed margin, seven digits and a minus leave the axis' name half a letter."""
    scale = {"short": 1.0, "long": -1e-4}[numbers]
    panel = Panel("quickstart", "matthews_correlation", (Point("lora:4", ((1000.0, 7.56 * scale),), 1.0),))
    pareto.save_png([panel], tmp_path / "pareto.png", cost="seconds", looks=LOOKS)
    runs = {"lora:4": [[(1, 1.0 * scale), (2, 1.001 * scale)]]}
    curves.save_png(runs, tmp_path / "curves.png", title="Search", looks=LOOKS)
    for name in ("pareto", "curves"):
        with Image.open(tmp_path / f"{name}.png") as image:
            left = image.convert("L").crop((0, 0, 3, image.height))
        assert left.getextrema() == (255, 255), name
