"""``autolora push RUN REPO``: a run's adapter, with its card, on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.console import line, screen, warn
from autolora.errors import UnreachableError

if TYPE_CHECKING:
    from autolora.cards.parcel import Parcel

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or what compress or merge wrote.")]
RepositoryArgument = Annotated[str, typer.Argument(metavar="REPO", help="owner/name; it is made if it is not there.")]
BaseOption = Annotated[
    str | None,
    typer.Option("--base-model", metavar="OWNER/NAME", help="What the pretrained model is called on the hub."),
]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make the repository a private one.")]
RevisionOption = Annotated[str | None, typer.Option(metavar="BRANCH", help="Another branch than main.")]
MessageOption = Annotated[str | None, typer.Option(metavar="TEXT", help="The message of the commit.")]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Has the token; default: HF_TOKEN, or that of hf auth login."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")]


def push(
    run: RunArgument,
    repo: RepositoryArgument,
    base_model: BaseOption = None,
    private: PrivateOption = False,
    revision: RevisionOption = None,
    message: MessageOption = None,
    token_file: TokenOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Send a run's adapter, its model card, ranks and metrics to the Hugging Face hub."""
    from autolora.cards.parcel import folder_parcel, parcel
    from autolora.cards.push import MESSAGE, check_name, offline, read_token
    from autolora.cards.push import push as send
    from autolora.runs.folders import is_run
    from autolora.runs.store import Run

    check_name(repo)
    if base_model is not None:
        check_name(base_model, "--base-model")
    found = parcel(Run.open(run), repo, base_model) if is_run(run) else folder_parcel(run, repo, base_model)
    for note in found.notes:
        warn(f"note: {note}")
    if dry_run:
        _show(found, f"would send to {repo}")
        return
    if (said := offline()) is not None:
        raise UnreachableError(f"{said} is set, so nothing is sent; it would be, to {repo}: {_listed(found)}")
    token = read_token(token_file)
    _show(found, f"sending to {repo}")
    where = send(found, repo, token, private=private, revision=revision, message=message or MESSAGE)
    line(screen(), f"sent: {where}")


def _show(parcel: Parcel, title: str) -> None:
    said = screen()
    line(said, f"{title}:")
    for name, size in parcel.sizes().items():
        line(said, f"{size:>15,} bytes  {name}")


def _listed(parcel: Parcel) -> str:
    return ", ".join(f"{name} ({size:,} bytes)" for name, size in parcel.sizes().items())
