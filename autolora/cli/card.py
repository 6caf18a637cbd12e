"""``autolora card RUN``: the model card of a run, written again; for runs of earlier versions, the first time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autolora.cli.options import SetOption
from autolora.console import document, hush, line, screen
from autolora.errors import UserError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
LicenceOption = Annotated[
    str | None,
    typer.Option("--license", metavar="NAME", help="As the hub calls it: apache-2.0, mit, cc-by-4.0, other."),
]
LanguageOption = Annotated[
    list[str] | None, typer.Option("--language", metavar="CODE", help="Of the texts: en, de; more than once.")
]
AnewOption = Annotated[bool, typer.Option("--anew", help="Replace a card that has been edited.")]
PrintOption = Annotated[bool, typer.Option("--print", help="Print it, and write nothing.")]


def card(
    run: RunArgument,
    license_: LicenceOption = None,
    language: LanguageOption = None,
    set_: SetOption = None,
    anew: AnewOption = False,
    print_: PrintOption = False,
) -> None:
    """Write the model card of a run: adapter/README.md."""
    said = [*(set_ or ()), *([f"card.license={license_}"] if license_ else [])]
    said += [f"card.language=[{', '.join(language)}]"] if language else []
    if other := [text for text in said if not text.startswith("card")]:
        raise UserError(f"--set {other[0]}: a card is about what was run; only fields of the section card can be set")
    hush()
    from autolora.cards.again import card_of, text_of
    from autolora.runs.store import Run

    found = Run.open(run)
    if print_:
        document(text_of(found, said))
    elif (path := card_of(found, said, anyway=anew)) is not None:
        line(screen(), f"wrote {path}")
