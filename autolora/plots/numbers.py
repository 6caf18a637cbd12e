"""Numbers beside the markers of a scatter plot, none over another: ``number(axes, {1: ((x, y), radius), …})``.

A number goes where there is room, as near to its marker as it can; a thin line leads to those that are further away, or
nearer to another marker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top, in points

_FONT, _WIDTH, _HEIGHT = 7.0, 4.5, 7.5  # points: of a digit
_NEAR, _STEP, _RINGS, _ANGLES = 5.5, 5.0, 16, 24
_LEADER = 9.0  # points from the marker's edge from which on a line leads to the number


def number(axes: Axes, markers: Mapping[int, tuple[Place, float]]) -> None:
    """Write each number beside its marker; the axes' limits must be what they will be.

    Args:
        axes: Of the plot.
        markers: Where the marker is in data, and its radius in points, by its number.
    """
    scale = 72 / axes.figure.dpi
    centres = {n: tuple(scale * axes.transData.transform(place)) for n, (place, _) in markers.items()}
    around = [_box(x, y, 2 * markers[n][1], 2 * markers[n][1]) for n, (x, y) in centres.items()]
    frame, taken = axes.bbox, [*around]
    inside = (scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    for n, (x, y) in centres.items():
        width, radius = _WIDTH * len(str(n)) + 1, markers[n][1]
        places = ((dx, dy, _box(x + dx, y + dy, width, _HEIGHT)) for dx, dy in _around(radius))
        dx, dy, box = min(places, key=lambda found: _crowding(found[2], taken, inside))
        taken.append(box)
        reach = math.hypot(dx, dy)
        strange = any(math.dist((x + dx, y + dy), centre) < reach for m, centre in centres.items() if m != n)
        far = strange or reach - radius > _LEADER
        line = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0} if far else None
        axes.annotate(
            str(n),
            markers[n][0],
            (dx, dy),
            textcoords="offset points",
            arrowprops=line,
            fontsize=_FONT,
            ha="center",
            va="center_baseline",
            zorder=5,
        )


def _around(radius: float) -> Iterator[Place]:
    """Offsets from a marker, the nearest first."""
    for ring in range(_RINGS):
        reach = radius + _NEAR + ring * _STEP
        for turn in range(_ANGLES):
            angle = math.tau * (turn / _ANGLES + 0.125)
            yield reach * math.cos(angle), reach * math.sin(angle)


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _crowding(box: Box, taken: list[Box], inside: Box) -> float:
    """How much of it lies over others or outside; 0 where there is room."""
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _common(box, inside)
    return outside + sum(_common(box, other) for other in taken)


def _common(one: Box, other: Box) -> float:
    across, up = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(across, 0.0) * max(up, 0.0)
