"""Where the figures of a report go and how its methods look: ``Drawings(folder, styles(methods)).place("ranks")``."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autolora.plots.figures import Style, compact
from autolora.report.blocks import Figure, Names


@dataclass(frozen=True)
class Drawings:
    """The figures of one document.

    Args:
        folder: Of the document; they are in ``figures`` below it.
        looks: The style of each method.
        names: Of files and anchors, each given once.
    """

    folder: Path
    looks: Mapping[str, Style]
    names: Names = field(default_factory=Names, compare=False)

    def place(self, *words: str) -> Path:
        """The path of a new figure, named after the words."""
        return self.folder / "figures" / f"{self.names.new(*words)}.png"

    def figure(self, path: Path, caption: str, alt: str) -> Figure:
        """The figure that was written to `path`, which this makes smaller.

        Args:
            path: A PNG file.
            caption: Under it; may be "".
            alt: What it shows, for those who do not see it.
        """
        compact(path)
        gc.collect()  # what matplotlib leaves of a figure is megabytes in circles, too few objects to be noticed
        return Figure(path, caption, alt)
