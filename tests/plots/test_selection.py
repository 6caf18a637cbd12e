"""The figure of the selection variables over the search."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from autolora.errors import UserError
from autolora.plots.selection import DROPPED, KEPT, _figure, save_png


def log(layers: int, projections: list[str], k: int = 4, steps: int = 20, rank: int = 3) -> list[dict[str, Any]]:
    chance = random.Random(1)
    names = [f"model.layers.{layer}.attn.{name}" for layer in range(layers) for name in projections]
    slopes = {name: [chance.gauss(0, 1) for _ in range(k)] for name in names}
    records = []
    for step in range(0, steps * 10, 10):
        weights = {name: [math.exp(a * step / (steps * 10)) for a in slope] for name, slope in slopes.items()}
        selection = {name: [weight / sum(row) for weight in row] for name, row in weights.items()}
        ranks = dict.fromkeys(names, rank)
        records.append(
            {"step": step, "train_loss": 1.0, "validation_loss": 1.0, "selection": selection, "ranks": ranks}
        )
    return records


def lines_of(figure: Figure, panel: int, colour: str) -> list[Any]:
    """The lines of a colour in the panel of that number, as arrays of (step, value)."""
    found = []
    for collection in figure.axes[panel].collections:
        if isinstance(collection, LineCollection) and tuple(collection.get_edgecolor()[0]) == to_rgba(colour):
            found += collection.get_segments()
    return found


def test_the_largest_components_at_the_end_are_coloured_and_the_others_grey() -> None:
    records = log(1, ["q"], k=5, rank=2)
    figure = _figure(records, 0.2)
    final = sorted(records[-1]["selection"]["model.layers.0.attn.q"])
    assert sorted(line[-1][1] for line in lines_of(figure, 0, KEPT)) == pytest.approx(final[-2:])
    assert sorted(line[-1][1] for line in lines_of(figure, 0, DROPPED)) == pytest.approx(final[:-2])
    assert [point[0] for point in lines_of(figure, 0, KEPT)[0]] == [record["step"] for record in records]


@pytest.mark.parametrize(("layers", "projections"), [(6, "qv"), (12, "qv"), (30, "qv"), (32, "qv"), (30, "qkvogud")])
def test_there_is_a_panel_per_module_none_overlaps_and_the_y_axis_is_shared(layers: int, projections: str) -> None:
    figure = _figure(log(layers, list(projections), steps=2), 0.25)
    panels = [axes.get_position() for axes in figure.axes]
    assert len(panels) == layers * len(projections)
    for index, one in enumerate(panels):
        assert 0 < one.x0 < one.x1 < 1
        assert 0 < one.y0 < one.y1 < 1
        for two in panels[:index]:
            assert one.x1 < two.x0 or two.x1 < one.x0 or one.y1 < two.y0 or two.y1 < one.y0
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    width, height = figure.get_size_inches()
    assert 4 < width < 10
    assert 2 < height < 20


def test_the_threshold_is_a_dashed_line_and_in_the_legend_only_if_there_is_one() -> None:
    with_one, without = _figure(log(2, ["q"]), 0.25), _figure(log(2, ["q"]), None)
    assert [line.get_ydata()[0] for line in with_one.axes[0].lines] == [0.25]
    assert [text.get_text() for text in with_one.legends[0].get_texts()] == ["kept", "dropped", "threshold 0.25"]
    assert not without.axes[0].lines
    assert [text.get_text() for text in without.legends[0].get_texts()] == ["kept", "dropped"]


def test_layers_projections_and_final_ranks_are_named() -> None:
    figure = _figure(log(12, ["query", "value"], rank=3), None)
    words = [text.get_text() for text in figure.texts]
    assert {str(layer) for layer in range(12)} | {"query", "value", "search step"} <= set(words)
    assert all(axes.texts[0].get_text() == "r = 3" for axes in figure.axes)


def test_a_long_log_is_thinned_out_but_keeps_its_ends() -> None:
    line = lines_of(_figure(log(1, ["q"], steps=2000), None), 0, KEPT)[0]
    assert len(line) <= 500
    assert (line[0][0], line[-1][0]) == (0, 19990)


@pytest.mark.parametrize("records", [[], [{"step": 0, "selection": {}, "ranks": {}}]])
def test_nothing_to_plot_is_the_users_error(records: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no selection variables"):
        save_png(records, tmp_path / "selection.png", threshold=None)
    assert not list(tmp_path.iterdir())


def test_one_record_a_value_that_is_missing_and_all_kept_can_be_drawn(tmp_path: Path) -> None:
    records = log(2, ["q"], rank=4)
    save_png(records[:1], tmp_path / "one.png", threshold=0.25)
    records[3]["selection"]["model.layers.0.attn.q"][1] = None
    records[4]["selection"]["model.layers.0.attn.q"][1] = math.nan
    save_png(records, tmp_path / "hole.png", threshold=0.25)
    assert Image.open(tmp_path / "one.png").format == Image.open(tmp_path / "hole.png").format == "PNG"


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    records = log(6, ["query", "value"], k=8)
    for name in ("a.png", "b.png"):
        save_png(records, tmp_path / name, threshold=0.125)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert 1000 < image.width < 2000
        assert 500 < image.height < 2000
        assert not {"Software", "Creation Time"} & set(image.info)
