"""A comparison's plan as other programs read it: ``plan_json(entries, …)`` and ``slurm_script(entries, …)``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from autolora.comparison.scheduled import Entry
from autolora.safe import one_line

FORMAT = 1
SCRIPT = """\
#!/bin/bash
{header}
# {count}; the last task writes the tables.
#     bash FILE      submits a job for each stage, begun when the one before it has ended
#     sbatch FILE    submits them all at once: a trial makes what is missing of what it builds on, and waits for what
#                    others are at
# What was cut off goes on from its last checkpoint when its task comes again.
set -euo pipefail
script=$0
[[ $script == /* ]] || script=$PWD/$script
cd {folder}
trials=(
{trials}
)
if [[ -n "${{SLURM_ARRAY_TASK_ID:-}}" ]]; then
    if (( SLURM_ARRAY_TASK_ID < ${{#trials[@]}} )); then
        exec {command} --trial "${{trials[SLURM_ARRAY_TASK_ID]}}"{each}
    fi
    exec {command}{tables}
fi
{submit}
"""


def plan_json(entries: Sequence[Entry], command: Sequence[str], tables: Sequence[str], folder: Path) -> dict[str, Any]:
    """The plan: commands are lists of words, and are run in the folder.

    Args:
        entries: From `autolora.comparison.scheduled.schedule`.
        command: The comparison's, which --trial ID makes one of a trial.
        tables: What is added to write the tables.
        folder: Where it was given.
    """
    return {
        "format": FORMAT,
        "folder": str(folder),
        "trials": [_listed(entry, command) for entry in entries],
        "tables": [*command, *tables],
    }


def slurm_script(
    entries: Sequence[Entry],
    command: Sequence[str],
    tables: Sequence[str],
    folder: Path,
    *,
    name: str,
    jobs: int | None = None,
    gpu: bool = False,
    cpus: int | None = None,
) -> str:
    """An array job: a task for each trial that is not done, and one for the tables.

    Args:
        entries: From `autolora.comparison.scheduled.schedule`.
        command: The comparison's.
        tables: What is added to it to write the tables.
        folder: Where it was given.
        name: Of the job.
        jobs: How many tasks run at a time; None for as many as the cluster lets.
        gpu: Whether each has a GPU.
        cpus: Of each; None for the cluster's default.
    """
    left = [entry for entry in entries if not entry.trial.done]
    stages = [[entry.id for entry in group] for _, group in groupby(left, lambda entry: entry.stage)]
    limit = f"%{jobs}" if jobs else ""
    header = [f"--job-name={re.sub(r'[^A-Za-z0-9._-]+', '-', name)}", f"--array=0-{len(left)}{limit}", "--requeue"]
    header += ["--gpus-per-task=1", "--ntasks=1"] if gpu else []
    header += [f"--cpus-per-task={cpus}"] if cpus else []
    given = ["--cpus-per-cell", str(cpus)] if cpus else []
    return SCRIPT.format(
        header="\n".join(f"#SBATCH {option}" for option in header),
        count=f"{_counted(len(left), 'trial')} in {_counted(len(stages), 'stage')}",
        folder=shlex.quote(str(folder)),
        trials="\n".join(f"    {entry.id}  # {one_line(entry.trial.name)}" for entry in left),
        command=shlex.join(command),
        each="".join(f" {word}" for word in given),
        tables="".join(f" {shlex.quote(word)}" for word in [*tables, *given]),
        submit="\n".join(_submit([*map(len, stages), 1], limit)),
    )


def _submit(sizes: Sequence[int], limit: str) -> list[str]:
    """Lines that submit a job for each stage; the one after it begins however that has ended, and says what failed."""
    lines, begin = [], 0
    for number, size in enumerate(sizes):
        last = begin + size - 1
        after = ' --dependency=afterany:"${job%%;*}"' if number else ""
        lines.append(f'job=$(sbatch --parsable --array={begin}-{last}{limit}{after} "$script")')
        begin += size
    return [*lines, 'echo "the tables are written by job $job"']


def _listed(entry: Entry, command: Sequence[str]) -> dict[str, Any]:
    trial = entry.trial
    return {
        "id": entry.id,
        "name": trial.name,
        "recipe": trial.recipe.name,
        "method": trial.method,
        "seed": trial.recipe.seed,
        "settings": trial.point,
        "tuning": trial.tuning,
        "undecided": trial.undecided,
        "stage": entry.stage,
        "needs": list(entry.needs),
        "done": trial.done,
        "run": None if trial.run is None else str(trial.run.path),
        "command": [*command, "--trial", entry.id],
    }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
