"""Weights & Biases: files for ``wandb sync``; WANDB_MODE=online sends them at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from autolora import safe
from autolora.trackers.base import Ended, Tracker, environment

MODE, FOLDER = "WANDB_MODE", "WANDB_DIR"
EXIT_CODES: dict[Ended, int] = {"success": 0, "failed": 1, "cancelled": 255}  # 255: as its own Ctrl-C is kept


class WandB(Tracker):
    """Its own step counts what is logged, and never goes back; each stage's numbers have the stage's step beside them.

    Without a network a resumed process adds a folder of the same run; ``wandb sync --append`` joins them.
    """

    modules = ("wandb",)
    _started: Any = None

    @override
    def place(self) -> str:
        if os.environ.get(MODE) == "online":
            return f"{os.environ.get('WANDB_BASE_URL', 'https://api.wandb.ai')} (WANDB_MODE=online)"
        return f"{self._folder / 'wandb'} (to send it: wandb sync)"

    @property
    def _folder(self) -> Path:
        return Path(os.environ.get(FOLDER) or self.about.folder)

    @override
    def open(self, run_id: str | None) -> str:
        with environment(**{"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", MODE: "offline"}):
            import wandb
            from accelerate.tracking import WandBTracker

            self._folder.mkdir(parents=True, exist_ok=True)
            name = run_id or secrets.token_hex(4)
            self._started = WandBTracker(
                self.about.project.replace("/", "-"),
                id=name,
                name=self.about.name,
                group=self.about.group or None,
                tags=[f"{key}:{value}"[:64] for key, value in self.about.tags.items()],
                dir=str(self._folder),
                resume="allow" if os.environ[MODE] == "online" else None,
                save_code=False,
                settings=wandb.Settings(console="off", disable_git=True, disable_code=True),
            )
            self._started.start()
        return str(name)

    @override
    def config(self, values: Mapping[str, Any], text: str) -> None:
        import wandb

        self._started.store_init_configuration(dict(values))
        self._started.log({"recipe": wandb.Html(f"<pre>{safe.html(text)}</pre>", inject=False)})

    @override
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._log(dict(values), step)

    @override
    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        import wandb

        self._log({name: wandb.Histogram(list(each)) for name, each in values.items()}, step)

    @override
    def picture(self, name: str, path: Path, step: int) -> None:
        import wandb

        self._log({name: wandb.Image(str(path))}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        """With the stage's own step, which its charts are drawn over."""
        logs = dict.fromkeys(name.rpartition("/")[0].split("/")[0] for name in values)
        for log in logs:
            self._started.tracker.define_metric(f"{log}/*", step_metric=f"{log}/step")
        self._started.log({**values, **{f"{log}/step": step for log in logs}})

    @override
    def close(self) -> None:
        if self._started is not None:
            self._started.tracker.finish(exit_code=EXIT_CODES[self.ended])
