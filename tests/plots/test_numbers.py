"""Numbers beside markers: none over another, over a marker or outside, however crowded the markers are."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from autolora.plots import pareto
from autolora.plots.figures import styles
from autolora.plots.numbers import number
from autolora.plots.pareto import Panel, Point


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.3])
def test_nineteen_numbers_find_room(apart: float) -> None:
    figure = Figure(figsize=(5, 3.6))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(-1, 1), ylim=(-1, 1))
    markers = {n: ((0.5 * (n % 2), apart * (n / 10 - 1)), 3.0) for n in range(1, 20)}
    number(axes, markers)
    figure.canvas.draw()
    assert [text.get_text() for text in axes.texts] == [str(n) for n in markers]
    alone = [Text.get_window_extent(text) for text in axes.texts]  # without the line that leads to it
    assert not [1 for one, other in combinations(alone, 2) if _over(one, other) > 2.0]
    centres = [axes.transData.transform(place) for place, _ in markers.values()]
    assert not [1 for box in alone for centre in centres if box.contains(*centre)]


def _over(one: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(one, other)
    return 0.0 if common is None else float(common.width * common.height)


def test_a_crowded_panel_names_all_its_methods() -> None:
    points = tuple(Point(f"m{i}", ((9216 + i, 0.7 + i / 1000),), 1.0) for i in range(19))
    figure = pareto._figure([Panel("t", "y", points)], "seconds", styles([point.label for point in points]))
    assert {text.get_text() for text in figure.axes[0].texts} == {str(n) for n in range(1, 20)}
    figure.canvas.draw()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= -1
