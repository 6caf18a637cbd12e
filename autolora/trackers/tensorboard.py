"""TensorBoard: event files, which ``tensorboard --logdir DIR`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from autolora.trackers.base import Tracker


class TensorBoard(Tracker):
    """Another process adds an event file to those that are there; TensorBoard shows them as one run."""

    modules = ("tensorboard",)
    _started: Any = None

    @override
    def place(self) -> str:
        return str(self._folder(self.about.name))

    def _folder(self, name: str) -> Path:
        return self.about.folder / "tensorboard" / name

    @override
    def open(self, run_id: str | None) -> str:
        from accelerate.tracking import TensorBoardTracker

        folder = self._folder(run_id or self.about.name)
        self._started = TensorBoardTracker(folder.name, folder.parent)
        self._started.start()
        return folder.name

    @override
    def config(self, values: Mapping[str, Any], text: str) -> None:
        plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in values.items()}
        self._started.store_init_configuration({**plain, **{f"tag.{k}": v for k, v in self.about.tags.items()}})
        fenced = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown, as TensorBoard shows texts
        self._started.log({"recipe": fenced}, step=0)

    @override
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._started.log(dict(values), step=step)

    @override
    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        import numpy as np

        for name, each in values.items():
            self._started.writer.add_histogram(name, np.asarray(each, dtype=float), global_step=step)
        self._started.writer.flush()

    @override
    def picture(self, name: str, path: Path, step: int) -> None:
        import numpy as np
        from matplotlib.image import imread

        pixels = np.rint(255 * imread(path)[None, :, :, :3]).astype(np.uint8)  # (1, height, width, 3)
        self._started.log_images({name: pixels}, step=step, dataformats="NHWC")
        self._started.writer.flush()

    @override
    def close(self) -> None:
        if self._started is not None:
            self._started.finish()
