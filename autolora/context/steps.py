"""What search and retrain share: running their steps in a run's directory, and what that took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from autolora.console import StageProgress
from autolora.context.base import Context
from autolora.recipe.schema import Search, Steps
from autolora.registry import METHODS
from autolora.runs.manifest import peak_memory_mib
from autolora.runs.store import Run
from autolora.training.finite import Watch
from autolora.training.keeping import Keeping
from autolora.training.log import MetricLog
from autolora.training.loop import Trainable, run_steps


def run_in(
    run: Run,
    context: Context,
    name: str,
    trainable: Trainable,
    settings: Steps,
    total: int,
    title: str = "",
    begin: int = 0,
    keeping: Keeping | None = None,
) -> int:
    """Run a stage's steps, with its log and checkpoint in a folder of the run; notes time, memory and passes.

    Args:
        run: The run.
        context: Of its recipe.
        name: The folder, which begins with the stage's name.
        trainable: What is trained.
        settings: How often to log and to checkpoint.
        total: Number of steps.
        title: What the progress bar is called; "": the folder's name.
        begin: The first step, where another training has done those before it.
        keeping: Chooses among the steps' weights, and may end the training.

    Returns:
        The number of the last step that was done.

    Raises:
        RunError: The training has diverged.
    """
    folder, top = run.path / name, name.split("/")[0]
    begun = time.monotonic()
    try:
        with StageProgress(title or name, examples=settings.batch_size, show=context.show and context.main) as progress:
            done = run_steps(
                trainable,
                total=total,
                log_every=settings.log_every,
                checkpoint_every=settings.checkpoint_every,
                log=MetricLog(folder / "log.jsonl", partial(run.logged, name)),
                checkpoint=folder / "checkpoint.safetensors",
                observer=progress,
                main_process=context.main,
                on_accepted=lambda: _begun(run, name, total, keeping),
                begin=begin,
                watch=Watch(title or name, advice(context, settings)),
                keeping=keeping,
            )
    finally:  # an interrupted part counts, too
        add_seconds(run, top, time.monotonic() - begun)
    run.note(top, peak_memory_mib=peak_memory_mib(context.compute.device), processes=context.compute.processes)
    return done


def _begun(run: Run, name: str, total: int, keeping: Keeping | None) -> None:
    """Keep what whoever watches the run has to know: where its steps are logged, from which on, and to which."""
    run.save_recipe()
    if not run.main:
        return
    records = MetricLog(run.path / name / "log.jsonl").records() if (run.path / name / "log.jsonl").exists() else []
    first = records[-1]["step"] if records else 0
    now = datetime.now(UTC).isoformat()
    chosen = {"chosen_by": [keeping.name, keeping.higher_is_better]} if keeping else {}
    run.note(name.split("/")[0], underway={"part": name, "first": first, "total": total, "at": now, **chosen})


def advice(context: Context, settings: Steps) -> str:
    """What to try where a training diverges: the fields of the recipe that have to do with it, and their values.

    Args:
        context: Of the run.
        settings: Of the stage.
    """
    recipe = context.recipe
    if isinstance(settings, Search):
        rates = {
            "search.weights.learning_rate": settings.weights.learning_rate,
            "search.selection.learning_rate": settings.selection.learning_rate,
        }
    else:
        rate = METHODS.load(recipe.method.name).weights_in(recipe).learning_rate
        own = rate != recipe.retrain.weights.learning_rate
        rates = {"method.learning_rate" if own else "retrain.weights.learning_rate": rate}
    lower = " or ".join(f"{field} (it is {rate:g})" for field, rate in rates.items())
    half = ", compute in full precision (model.dtype: float32)" if context.compute.bfloat16 else ""
    return f"lower {lower}{half}, or give its rate a longer warmup; and start a new run"


@contextmanager
def timed(run: Run, stage: str) -> Iterator[None]:
    """Inside, time is counted to a stage, however that ends.

    Args:
        run: The run.
        stage: Its name.
    """
    begun = time.monotonic()
    try:
        yield
    finally:
        add_seconds(run, stage, time.monotonic() - begun)


def forget_seconds(run: Run, stage: str) -> None:
    """Before a stage: one that is begun anew, and not gone on with, has taken no time yet.

    Args:
        run: The run.
        stage: Its name.
    """
    interrupted = run.stage_state(stage) not in (None, "success")
    if not interrupted and not any((run.path / stage).rglob("checkpoint.safetensors")):
        run.note(stage, seconds=0.0)


def add_seconds(run: Run, stage: str, seconds: float) -> None:
    """Add to what a stage has taken so far: a resumed stage took what its parts took.

    Args:
        run: The run.
        stage: Its name.
        seconds: What this part took.
    """
    previous = run.manifest().get("stages", {}).get(stage, {}).get("seconds", 0.0)
    run.note(stage, seconds=round(previous + seconds, 2))
