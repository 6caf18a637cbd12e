"""Forest plots: where means and intervals are drawn, what marks those that are told apart, and long labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from autolora.errors import UserError
from autolora.plots import forest
from autolora.plots.figures import inner_limits, inner_reach, legend_columns
from autolora.plots.forest import Line

LINES = (
    Line("better", 0.04, 0.02, 0.06, told_apart=True),
    Line("neither", -0.01, -0.03, 0.01, told_apart=False),
    Line("one seed", 0.02, None, None, told_apart=False),
    Line("worse", -0.05, -0.06, -0.04, told_apart=True),
    Line("absent", None, None, None, told_apart=False),
)


def drawn(lines: tuple[Line, ...]) -> Axes:
    return forest._figure(lines, "t", ["x"]).axes[0]


def means(axes: Axes) -> list[PathCollection]:
    return [each for each in axes.collections if isinstance(each, PathCollection)]


def test_means_and_intervals_are_where_the_numbers_say() -> None:
    axes = drawn(LINES)
    zero, *intervals = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert [list(line.get_xdata()) for line in intervals] == [[0.02, 0.06], [-0.03, 0.01], [-0.06, -0.04]]
    points = [tuple(each.get_offsets()[0]) for each in means(axes)]
    assert [x for x, _ in points] == [0.04, -0.01, 0.02, -0.05]
    places = list(axes.get_yticks())
    assert [y for _, y in points] == places[:4]
    assert places == sorted(places)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # from top to bottom
    low, high = axes.get_xlim()
    assert low < -0.06
    assert high > 0.06


def test_what_is_told_apart_is_filled_coloured_and_starred() -> None:
    axes = drawn(LINES)
    filled = [to_hex(each.get_facecolor()[0]) != "#ffffff" for each in means(axes)]
    assert filled == [True, False, False, True]
    edges = [to_hex(each.get_edgecolor()[0]) for each in means(axes)]
    assert (edges[0], edges[3]) == (forest.BETTER.lower(), forest.WORSE.lower())
    assert edges[1] == edges[2]
    assert [text.get_text() for text in axes.texts] == [
        "+0.0400 [+0.0200, +0.0600] *",
        "-0.0100 [-0.0300, +0.0100]",
        "+0.0200 (no interval)",
        "-0.0500 [-0.0600, -0.0400] *",
        "no seed in common",
    ]


def test_one_method_far_away_does_not_flatten_the_others() -> None:
    axes = drawn((*LINES[:3], Line("far", -0.9, -1.0, -0.8, told_apart=True)))
    low, high = axes.get_xlim()
    assert -0.1 < low < -0.03
    assert 0.06 < high < 0.1
    arrow = means(axes)[-1]
    assert low < arrow.get_offsets()[0][0] < -0.05
    assert "-0.9000" in axes.texts[-1].get_text()


def test_long_labels_are_broken_at_their_signs_and_lose_nothing() -> None:
    label = "squeeze-shuffled:at=0.5:k=8:budget=tolerance=0.02"
    wrapped = forest._wrapped(label)
    assert wrapped.replace("\n", "") == label
    assert max(map(len, wrapped.split("\n"))) <= forest._LABEL
    assert all(line.endswith(":") for line in wrapped.split("\n")[:-1])
    assert forest._wrapped("lora:8") == "lora:8"


def test_every_text_is_within_the_figure() -> None:
    figure = forest._figure(
        (*LINES, Line("squeeze-shuffled:at=0.5:k=8", -0.5, -0.6, -0.4, told_apart=True)), "t", ["x"]
    )
    figure.canvas.draw()
    axes = figure.axes[0]
    for text in [*axes.texts, *axes.get_yticklabels(), *figure.texts]:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


def test_outliers_are_few_and_far() -> None:
    assert inner_reach([1, 2, 3]) == 3
    assert inner_reach([1, 2, 9]) == 2
    assert inner_reach([1, 9]) == 9  # of two, neither is the outlier
    assert inner_reach([0, 0, 5]) == 5
    assert inner_reach([1, 1, 1, 1, 40, 41]) == 1
    assert inner_limits([0.70, 0.71, 0.72, 0.24]) == (0.70, 0.72)
    assert inner_limits([0.5]) == (0.5, 0.5)


def test_a_legend_of_long_labels_has_fewer_columns() -> None:
    assert legend_columns(["ab"] * 9, 5.4) == 4
    assert legend_columns(["a" * 30] * 9, 5.4) == 2
    assert legend_columns(["a" * 90], 5.4) == 1


def test_the_same_differences_give_the_same_bytes_and_none_are_an_error(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        forest.save_png(LINES, tmp_path / name, title="t", x_label="x", baseline="base")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with pytest.raises(UserError, match="no differences"):
        forest.save_png(LINES[-1:], tmp_path / "x.png", title="", x_label="", baseline="base")
