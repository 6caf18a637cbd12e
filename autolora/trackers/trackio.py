"""trackio: a sqlite file, which ``trackio show`` shows; or what TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from typing_extensions import override

from autolora.trackers.base import Tracker, environment

FOLDER = "TRACKIO_DIR"  # which is read when trackio is imported


class Trackio(Tracker):
    """It keeps what is logged by step; the step of a stage's record is that of the stage."""

    modules = ("trackio",)
    extra = "trackio"
    _started: Any = None

    @override
    def place(self) -> str:
        named = (os.environ.get(name) for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", FOLDER))
        return next(filter(None, named), str(self.about.folder / "trackio"))

    @override
    def open(self, run_id: str | None) -> str:
        self._enter()
        from accelerate.tracking import TrackioTracker

        name = run_id or self.about.name
        more = {"group": self.about.group} if self.about.group else {}
        with redirect_stdout(io.StringIO()):  # standard output is the command's, and the place has been said
            self._started = TrackioTracker(
                self.about.project.replace("/", "-"),
                name=name,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
                config=dict(self.about.tags),
                **more,
            )
            self._started.start()
        return name

    def _enter(self) -> None:
        """Import trackio for this folder; anew where it was imported for another."""
        if os.environ.get(FOLDER):
            return
        wanted = (self.about.folder / "trackio").absolute()
        loaded = sys.modules.get("trackio.utils")
        if loaded is not None and Path(loaded.TRACKIO_DIR) != wanted:
            for module in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
                del sys.modules[module]
        wanted.mkdir(parents=True, exist_ok=True)
        with environment(**{FOLDER: str(wanted)}):
            import trackio  # noqa: F401

    @override
    def config(self, values: Mapping[str, Any], text: str) -> None:
        import trackio

        self._started.tracker.config.update({name: _plain(value) for name, value in values.items()})
        self._started.log({"recipe": trackio.Markdown(f"```yaml\n{text}```\n")}, step=0)

    @override
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._started.log(dict(values), step=step)

    @override
    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        import trackio

        self._started.log({name: trackio.Histogram(list(each)) for name, each in values.items()}, step=step)

    @override
    def picture(self, name: str, path: Path, step: int) -> None:
        import trackio

        self._started.log({name: trackio.Image(str(path))}, step=step)

    @override
    def close(self) -> None:
        if self._started is not None:
            import trackio

            with redirect_stdout(io.StringIO()):
                self._started.finish()
            trackio.context_vars.current_run.set(None)  # or it is ended again, and said so, when Python ends


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
