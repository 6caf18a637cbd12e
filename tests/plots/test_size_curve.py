"""The curve of size against the rise of the loss: what is drawn, and that the same points give the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from autolora.errors import UserError
from autolora.plots.size_curve import _figure, save_png

PREDICTED = [(100, 2.0), (1000, 0.5), (10000, 0.0)]
MEASURED = [(100, 1.0), (1000, 0.25)]


def test_rises_are_shares_of_the_gain_where_it_is_known() -> None:
    figure = _figure(PREDICTED, MEASURED, (1000, 0.25), 2.0, "t")
    axes = figure.axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    assert list(lines["predicted"].get_xdata()) == [100, 1000, 10000]
    assert list(lines["predicted"].get_ydata()) == [1.0, 0.25, 0.0]
    assert list(lines["measured"].get_ydata()) == [0.5, 0.125]
    assert list(lines["this run"].get_xdata()) == [1000, 1000]
    assert list(axes.lines[-1].get_xydata()[0]) == [1000, 0.125]  # the ring
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "rise of the loss, share of LoRA's gain"
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"predicted", "measured", "this run"}


def test_without_a_gain_rises_are_as_they_are_and_what_is_not_known_is_not_drawn() -> None:
    figure = _figure(PREDICTED, [], (1000, None), None, "t")
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["predicted", "this run"]
    assert list(axes.lines[0].get_ydata()) == [2.0, 0.5, 0.0]
    assert axes.get_ylabel() == "rise of the loss"


def test_a_prediction_far_off_does_not_press_the_measured_line_down() -> None:
    axes = _figure([(10, 500.0), (100, 1.0)], MEASURED, (100, None), None, "t").axes[0]
    assert axes.get_ylim()[1] == 2.0
    axes = _figure([(10, 1.5), (100, 1.0)], MEASURED, (100, None), None, "t").axes[0]
    assert axes.get_ylim()[1] > 1.5


def test_one_point_is_seen() -> None:
    axes = _figure([(10, 1.0)], [], (10, None), None, "t").axes[0]
    assert axes.lines[0].get_marker() == "o"


def test_the_same_points_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_png(PREDICTED, MEASURED, tmp_path / name, own=(1000, 0.5), gain=2.0, title="t")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        image.verify()


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rises"):
        save_png([], [], tmp_path / "x.png", own=(1, None), gain=None, title="t")
