"""The file of a card, ``README.md``, which is ours until somebody edits it.

A card that autolora writes ends with a line that has its SHA-256. While that fits, it is written anew when there is
more to say. A card whose line is gone, or does not fit, is somebody's own, and stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from autolora.files import write_atomic
from autolora.lora.stored import CARD

HERE = 'adapter = "."  # this folder, or the name of its repository on the hub'  # in the code of a card
_LINE = re.compile(r"<!-- written by autolora, and anew until it is edited: sha256 ([0-9a-f]{64}) -->\n")
_TEMPLATE = "# Model Card for Model ID"  # how the one that PEFT writes begins
_VERSIONS = re.compile(r"\s*### Framework versions\s+(- PEFT \S+\s*)?$")


def sealed(text: str) -> str:
    """A card with its last line.

    Args:
        text: Without it.
    """
    text = f"{text.rstrip()}\n\n"
    return f"{text}<!-- written by autolora, and anew until it is edited: sha256 {_digest(text)} -->\n"


def unsealed(text: str) -> str:
    """A card of ours without its last line.

    Args:
        text: As it is in the file.
    """
    return _LINE.sub("", text)


def is_ours(path: Path) -> bool:
    """Whether a card was written by autolora, and nobody has edited it since.

    Args:
        path: The file, which is there.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = list(_LINE.finditer(text))
    return bool(found) and found[-1].end() == len(text) and _digest(text[: found[-1].start()]) == found[-1][1]


def is_edited(path: Path) -> bool:
    """Whether a card is somebody's own; one that is not there is not.

    Args:
        path: The file.
    """
    if not path.exists():
        return False
    try:
        return not is_ours(path) and not _is_template(path.read_bytes().decode("utf-8"))
    except (OSError, UnicodeDecodeError):
        return True


def write(folder: Path, text: str, *, anyway: bool = False) -> bool:
    """Write a card, unless there is one that is somebody's own.

    Args:
        folder: Where the adapter is.
        text: Without the last line.
        anyway: Whether somebody's own is replaced, too.

    Returns:
        Whether it was written.
    """
    path = folder / CARD
    if is_edited(path) and not anyway:
        return False
    content = sealed(text)
    if not path.is_file() or path.read_bytes() != content.encode("utf-8"):
        write_atomic(path, content)
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _is_template(text: str) -> bool:
    """Whether it is what PEFT writes, in which nobody has filled in anything."""
    from huggingface_hub import ModelCard, ModelCardData

    if _TEMPLATE not in text:
        return False
    empty = ModelCard.from_template(ModelCardData()).text
    return _bare(ModelCard(text, ignore_metadata_errors=True).text) == _bare(empty)


def _bare(text: str) -> list[str]:
    """The lines that say something."""
    return [line.strip() for line in _VERSIONS.sub("", text).splitlines() if line.strip()]
