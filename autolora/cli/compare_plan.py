"""What ``autolora compare`` says of its plan, before anything is run; and the plan in the form of other schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console

from autolora.console import line, say
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.comparison.asked import Asked
    from autolora.comparison.executor import Resources
    from autolora.comparison.plan import Trial

Given: TypeAlias = tuple[str, str | Path | Sequence[str] | bool | None]  # an option's name, and its value as given


def show_plan(console: Console, trials: Sequence[Trial], jobs: int, threads: int | None) -> None:
    """Trials, steps, time and disk.

    Args:
        console: What it is shown on.
        trials: The plan.
        jobs: How many run at a time.
        threads: Of each; None for all.

    Raises:
        UserError: A recipe cannot be run.
    """
    from autolora.comparison.estimate import estimates, in_words, wall_seconds
    from autolora.tables import render

    console.print("timing a few steps and rows of every recipe for the estimate", markup=False)
    found = estimates(trials, jobs, threads)
    if faulty := [estimate for estimate in found if estimate.faulty]:
        raise UserError("; ".join(f"{estimate.recipe}: {estimate.problem}" for estimate in faulty))
    console.print(render([estimate.row() for estimate in found], "Plan", console.width))
    console.print(render([estimate.time_row() for estimate in found], "Time, one trial after the other", console.width))
    if trying := sum(trial.tuning for trial in trials):
        line(console, f"{trying} of the {len(trials)} trials are for tuning, and are not reported")
    for estimate in found:
        if estimate.problem:
            console.print(f"{estimate.recipe}: no estimate: {estimate.problem}", markup=False, soft_wrap=True)
    if all(estimate.seconds is None for estimate in found):
        console.print("nothing could be timed: there is no estimate of time and disk", markup=False)
        return
    size = sum(estimate.size or 0 for estimate in found)
    known = "" if all(estimate.seconds is not None for estimate in found) else " for the recipes that could be timed"
    jobs_said = f" with {jobs} trials at a time, which were timed beside each other," if jobs > 1 else ""
    line(console, f"about {in_words(wall_seconds(found, jobs))}{jobs_said} and {size / 2**20:.0f} MiB{known}")


def plan_line(trial: Trial) -> str:
    """What is to be done of a trial.

    Args:
        trial: Of the plan.
    """
    what = "done" if trial.done else "to go on with" if trial.run else "to run"
    brought = "" if trial.wanted else " (built on by others)"
    return f"{what}: {trial.name}{brought}{f': {trial.run.path}' if trial.run else ''}"


def print_plan(
    asked: Asked, trials: Sequence[Trial], form: str, command: list[str], tables: list[str], resources: Resources
) -> None:
    """The plan on standard output.

    Args:
        asked: The comparison.
        trials: Its plan.
        form: json or slurm.
        command: The comparison's words.
        tables: Those of the tables alone.
        resources: Of each trial.
    """
    import json

    from autolora.comparison.plan_formats import plan_json, slurm_script
    from autolora.comparison.scheduled import schedule

    entries, here = schedule(asked, trials), Path.cwd()
    if form == "json":
        say(json.dumps(plan_json(entries, command, tables, here), indent=2))
        return
    name = f"autolora-{asked.recipes[0].name}"
    script = slurm_script(
        entries,
        command,
        tables,
        here,
        name=name,
        jobs=resources.jobs,
        gpu=resources.gpus is not None,
        cpus=resources.cpus,
    )
    say(script.rstrip())


def words(recipes: Sequence[str], options: Sequence[Given]) -> list[str]:
    """The command line of a comparison, from its options as they were given.

    Args:
        recipes: As they were given.
        options: The name and value of each; None, False and empty ones are left out.
    """
    found = ["autolora", "compare", *recipes]
    for name, value in options:
        if value is True:
            found.append(name)
        elif isinstance(value, list):
            found += [word for each in value for word in (name, each)]
        elif value is not None and value is not False:
            found += [name, str(value)]
    return found
