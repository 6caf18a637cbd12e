"""The options that say where a comparison's trials run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typing_extensions import override

from autolora.errors import UserError

FORMATS = ("text", "json", "slurm")
ADDRESS = re.compile(r"auto|local|ray://\S+|[^\s/]+:[0-9]+")
ONE_GPU = 1.0

JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="How many trials run at a time; default: 1, with --ray as many as there is room for."
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        metavar="1|0.5|...", help="GPU of each trial: its own, or a part; default: shared out among the jobs."
    ),
]
CpusOption = Annotated[int | None, typer.Option(metavar="N", help="Threads of each trial; default: an equal share.")]
RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Run trials on a Ray cluster: HOST:PORT, ray://HOST:PORT, local, or left out, the one that is running.",
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="text|json|slurm", help="With --dry-run: the plan for people, or schedulers.")
]
TrialOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Run this trial alone (ids: --dry-run --format json), and what it builds on."),
]


def with_ray_address(arguments: Sequence[str]) -> list[str]:
    """The words behind a command, where --ray has its address: "auto" where none was given.

    Args:
        arguments: Of the command.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)  # what follows are no options
    found: list[str] = []
    for place, word in enumerate(arguments):
        found.append(word)
        after = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == "--ray" and place < end and not ADDRESS.fullmatch(after):
            found.append("auto")
    return found


class RayCommand(TyperCommand):
    """A command with `RayOption`, whose address may be left out."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_ray_address(args))


def check_placing(ray: str | None, form: str, *, dry_run: bool, trial: str | None, gpus: float | None) -> None:
    """Make sure of what the options say together.

    Args:
        ray: --ray.
        form: --format.
        dry_run: --dry-run.
        trial: --trial.
        gpus: --gpus-per-cell.

    Raises:
        UserError: They contradict each other.
    """
    if form not in FORMATS:
        raise UserError(f"--format: {form!r} is none of {', '.join(FORMATS)}")
    if form != "text" and not dry_run:
        raise UserError(f"--format {form} is the form of a plan: add --dry-run")
    if trial is not None and dry_run:
        raise UserError("--trial runs a trial, and --dry-run runs nothing; leave one out")
    if ray is not None and not ADDRESS.fullmatch(ray):
        raise UserError(f"--ray: {ray!r} is no address: HOST:PORT, ray://HOST:PORT, auto or local")
    if form == "slurm" and gpus not in (None, ONE_GPU):
        raise UserError("--gpus-per-cell: a task of the array job has a whole GPU; say 1, or leave it out for none")
