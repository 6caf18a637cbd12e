"""Run the cells of a comparison, each in a process of its own: ``execute(cells, root, jobs=2)``.

A cell that fails, however it fails, leaves its reason in its run's status.json, and the others go on. A process has its
own peak of memory, its own state of the device, and ends when the comparison ends, however that ends. Cells are resumed
where they were interrupted; a cell whose needs have failed is not begun.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from autolora.compare.plan import Cell, cell_key
from autolora.errors import FAILED
from autolora.recipe.method import label
from autolora.runs.store import Run

PRELOADED = ["autolora.compare.worker"]


@dataclass
class _Job:
    """A cell whose process is running."""

    cell: Cell
    run: Run
    process: BaseProcess
    begun: float


def execute(
    cells: Sequence[Cell],
    root: Path,
    *,
    jobs: int = 1,
    show: bool = False,
    on_begin: Callable[[Cell, Run], None] = lambda cell, run: None,
    on_end: Callable[[Cell, Run, float], None] = lambda cell, run, seconds: None,
) -> list[Run]:
    """Run all cells that are not done, `jobs` at a time; their runs, in the cells' order.

    on_begin, on_end: told of every cell that is run; seconds: how long its process took.
    """
    runs = {cell_key(cell.recipe): cell.run for cell in cells if cell.run is not None}
    waiting = [cell for cell in cells if not cell.done]
    running: list[_Job] = []
    context = process_context()
    try:
        while waiting or running:
            while len(running) < jobs and (cell := _next(waiting, running)) is not None:
                waiting.remove(cell)
                run = runs.setdefault(cell_key(cell.recipe), cell.run or Run.create(root, cell.recipe))
                if _can_begin(cell, run, runs):
                    running.append(_begin(cell, run, runs, context, jobs, show))
                    on_begin(cell, run)
                else:
                    on_end(cell, run, 0.0)
            if not running:  # none of those tried could begin
                continue
            wait([job.process.sentinel for job in running])
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                job.process.join()
                _finish(job)
                on_end(job.cell, job.run, time.monotonic() - job.begun)
    finally:
        _stop(running)
    return [runs[cell_key(cell.recipe)] for cell in cells]


def process_context() -> Any:
    """Processes that begin with everything imported, where the system can; else fresh ones."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    return context


def _next(waiting: Sequence[Cell], running: Sequence[_Job]) -> Cell | None:
    """The first cell whose needs have ended, well or not."""
    unfinished = {cell_key(cell.recipe) for cell in (*waiting, *(job.cell for job in running))}
    return next((cell for cell in waiting if unfinished.isdisjoint(map(cell_key, cell.needs))), None)


def _can_begin(cell: Cell, run: Run, runs: dict[str, Run]) -> bool:
    """Not if another process is at it, and not (which is noted) if what it builds on did not succeed."""
    if run.live_process() is not None:
        return False
    for needed in cell.needs:
        if runs[cell_key(needed)].stage_state("eval") != "success":
            run.mark("failed", error=f"it builds on {label(needed.method)}, which did not succeed")
            return False
    return True


def _begin(cell: Cell, run: Run, runs: dict[str, Run], context: Any, jobs: int, show: bool) -> _Job:
    run.recipe = cell.recipe  # where the data lies may have changed
    run.mark("running")
    for needed in cell.needs:
        run.add_source(label(needed.method), runs[cell_key(needed)])
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    from autolora.compare.worker import work

    process = context.Process(target=work, args=(str(run.path), cell.recipe, threads, show), daemon=False)
    process.start()
    return _Job(cell, run, process, time.monotonic())


def _finish(job: _Job) -> None:
    """A process that could not say why it ended has its reason written here."""
    code = job.process.exitcode
    if code == 0 or job.run.status()["state"] in ("failed", "cancelled"):
        return
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    hint = "; was memory short?" if code == -signal.SIGKILL else ""
    job.run.mark("failed", error=f"its process ended with {how}{hint}")


def _stop(running: Sequence[_Job]) -> None:
    """Cancel what is running (SIGTERM takes the way of Ctrl-C there), and wait for it."""
    for job in running:
        if job.process.is_alive():
            job.process.terminate()
    for job in running:
        job.process.join()


def end_with_parent() -> None:
    """In a child process: end when the parent has ended, however that did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(FAILED)

    threading.Thread(target=watch, daemon=True).start()
