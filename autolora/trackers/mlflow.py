"""MLflow: a sqlite store in a file, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from typing_extensions import override

from autolora.trackers.base import BY_LAYER, Ended, Tracker, environment, quantiles

URI = "MLFLOW_TRACKING_URI"
STATUS: dict[Ended, str] = {"success": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
# Nothing is reported to anybody; and a server that does not answer holds a training up for seconds, not for an hour.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class MLflow(Tracker):
    """Distributions over all layers are kept as their quartiles, pictures and the recipe as artifacts."""

    modules = ("mlflow", "sqlalchemy", "alembic", "cryptography")
    _started: Any = None

    @property
    def _store(self) -> Path:
        return (self.about.folder / "mlflow").absolute()

    @override
    def place(self) -> str:
        return os.environ.get(URI) or f"sqlite:///{(self._store / 'mlflow.db').as_posix()}"

    @override
    def open(self, run_id: str | None) -> str:
        with environment(**QUIET):
            import mlflow
            from accelerate.tracking import MLflowTracker

            own = not os.environ.get(URI)
            if own:
                self._store.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(self.place())
            tags = {**self.about.tags, **({"group": self.about.group} if self.about.group else {})}
            started = MLflowTracker(
                experiment_name=self.about.project,
                logging_dir=(self._store / "artifacts").as_uri() if own else None,
                run_id=run_id,
                run_name=self.about.name,
                tags=tags,
            )
            # Whoever comes first makes tables and experiment; the trials of a comparison come together.
            with FileLock(self._store / "mlflow.lock") if own else nullcontext():
                started.start()
        self._started = started
        return str(started.active_run.info.run_id)

    @override
    def config(self, values: Mapping[str, Any], text: str) -> None:
        import mlflow

        with environment(**QUIET):
            self._started.store_init_configuration({_name(name): _short(value) for name, value in values.items()})
            mlflow.log_text(text, "recipe.yaml")

    @override
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        with environment(**QUIET):
            self._started.log({_name(name): value for name, value in values.items()}, step=step)

    @override
    def histograms(self, values: Mapping[str, Sequence[float]], step: int) -> None:
        together = {name: each for name, each in values.items() if BY_LAYER not in name}
        self.scalars({f"{name}/{q}": x for name, each in together.items() for q, x in quantiles(each).items()}, step)

    @override
    def picture(self, name: str, path: Path, step: int) -> None:
        with environment(**QUIET):
            self._started.log_artifact(str(path), _name(name).rpartition("/")[0] or None)

    @override
    def close(self) -> None:
        if self._started is not None:
            with environment(**QUIET):
                import mlflow

                mlflow.end_run(STATUS[self.ended])


def _name(name: str) -> str:
    """As MLflow allows one: letters, digits, and _ - . space : /, 250 of them at most."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)[:250]


def _short(value: Any) -> str:
    """As long as a parameter may be."""
    text = str(value)
    return text if len(text) <= 6000 else f"{text[:5990]}…"
