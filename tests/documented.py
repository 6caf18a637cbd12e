"""The blocks of commands in the documents, and what is said above each: who runs it, or what it needs.

<!-- run in: PLACE -->       the block is run as it stands, in a place that tests/cli/test_documented_commands.py makes
<!-- run by: FILE::TEST -->  that test runs what it shows
<!-- needs: WHAT -->         it is run by nobody here; the site shows the words
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "examples/README.md", "docs/*.md", "docs/container/*.md")
OTHER_LANGUAGES = {"python", "yaml", "toml", "json"}

FENCED = re.compile(r"^(?P<mark>`{3,})(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=mark)[^\S\n]*$", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)(?P<text>(?:    [^\n]*\n(?:\n(?=    ))?)+)")
COMMAND = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?P<program>autolora|make|python3?|pip|accelerate|docker|podman)\s")
MARK = re.compile(r"<!-- (?P<kind>run in|run by|needs): (?P<what>.+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """Commands of a document.

    Args:
        document: Its path in the repository.
        line: Where they begin, from 1.
        text: With what they print, if the document shows that.
        kind: "run in", "run by", "needs"; "" where nothing is said.
        what: Behind it.
    """

    document: str
    line: int
    text: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command, without comments; lines that end in a backslash are joined."""
        joined = self.text.replace("\\\n", " ").splitlines()
        prompted = any(line.lstrip().startswith("$ ") for line in joined)
        lines = [line for line in joined if COMMAND.match(line) and (line.lstrip().startswith("$ ") or not prompted)]
        return [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines]


def blocks() -> Iterator[Block]:
    """Those of all documents that hold a command."""
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        yield from blocks_of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def blocks_of(document: str, text: str) -> Iterator[Block]:
    """Those of one document, fenced and indented."""
    fenced = [match for match in FENCED.finditer(text) if _may_hold_commands(match)]
    hidden = FENCED.sub(lambda match: re.sub(r"[^\n]", "`", match[0]), text)
    for match in sorted([*fenced, *INDENTED.finditer(hidden)], key=re.Match.start):
        found = MARK.search(text[: match.start()].rstrip())
        kind, what = (found["kind"], found["what"]) if found else ("", "")
        block = Block(document, text[: match.start()].count("\n") + 1, match["text"], kind, what)
        if block.commands():
            yield block


def _may_hold_commands(match: re.Match[str]) -> bool:
    """What a program prints, as ``text``, may begin like a command: there it is one behind a prompt alone."""
    language = match["language"].strip()
    return language not in OTHER_LANGUAGES and (language != "text" or bool(re.search(r"^\s*\$ ", match["text"], re.M)))
