"""Size against the rise of the loss: ``save_png(predicted, measured, path, own=…, gain=…, title=…)``.

A point is (parameters, rise of the mean loss). Where it is known what the whole LoRA has gained, rises are shown as
shares of it: at 1 nothing is left. The run's own size is marked by an upright line, and by a ring where its rise is
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autolora import safe
from autolora.errors import UserError
from autolora.plots.figures import COLOURS, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]
_ABOVE = 2.0  # a prediction is drawn up to so many times the largest measured rise: far off it is quadratic and wrong


def save_png(
    predicted: Points,
    measured: Points,
    path: Path,
    *,
    own: tuple[int, float | None],
    gain: float | None,
    title: str,
) -> None:
    """Write the figure; the same points give the same bytes.

    Args:
        predicted: By ascending size; may be empty.
        measured: Likewise.
        path: The PNG file.
        own: Parameters of the run's own ranks, and their rise, measured or else predicted.
        gain: What rises are shown as shares of; None: they are shown as they are.
        title: Of the figure.

    Raises:
        UserError: There is no point at all.
    """
    if not predicted and not measured:
        raise UserError("there are no rises of the loss to draw")
    save(_figure(predicted, measured, own, gain, title), path)


def _figure(
    predicted: Points, measured: Points, own: tuple[int, float | None], gain: float | None, title: str
) -> Figure:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter

    figure, axes = new_axes(3, 3)
    unit = 1.0 if gain is None else gain
    if predicted:
        _draw(axes, predicted, unit, "predicted", COLOURS[0], None)
    if measured:
        _draw(axes, measured, unit, "measured", COLOURS[1], "o")
    axes.axvline(own[0], color="0.4", linewidth=1, linestyle=":", zorder=1, label="this run")
    if own[1] is not None:
        axes.plot([own[0]], [own[1] / unit], "o", markersize=10, markerfacecolor="none", color="0.4", zorder=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.04, y=0.06)
    if predicted and measured:
        most = max(rise for _, rise in measured) / unit
        if most > 0 and max(rise for _, rise in predicted) / unit > _ABOVE * most:
            axes.set_ylim(top=_ABOVE * most)
    if gain is not None:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    axes.set_xlabel("parameters of LoRA", fontsize=9)
    axes.set_ylabel("rise of the loss" if gain is None else "rise of the loss, share of LoRA's gain", fontsize=9)
    axes.set_title(safe.label(title), fontsize=10, loc="left")
    figure.legend(loc="lower center", ncols=3, frameon=False, fontsize=8, handlelength=2.4)
    return figure


def _draw(axes: Axes, points: Points, unit: float, label: str, colour: str, marker: str | None) -> None:
    sizes, rises = zip(*sorted(points), strict=True)
    alone = "o" if len(sizes) == 1 else marker  # a line of one point cannot be seen
    shares = [rise / unit for rise in rises]
    axes.plot(sizes, shares, color=colour, linewidth=1.5, marker=alone, markersize=4, label=label, zorder=3)
