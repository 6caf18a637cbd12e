"""CoNLL files: a word a line with its columns, an empty line between sentences.

U.N.     NNP I-NP B-ORG
official NN  I-NP O
"""

from __future__ import annotations

from pathlib import Path

from autolora.data.files import CONLL_COLUMNS
from autolora.errors import UserError

DOCUMENT = "-DOCSTART-"  # the first word of a line that only says that a document begins


def read_conll(path: Path) -> dict[str, list[list[str]]]:
    """The words (first column) and the tags (last column) of every sentence, by column name.

    Columns are separated by blanks or tabs.

    Args:
        path: The file, a blank line between two sentences.

    Raises:
        UserError: A line has fewer than two columns, or another number of them than the lines before.
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    width = 0
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file is not UTF-8 text ({error.reason})") from None
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if parts and parts[0] != DOCUMENT:
            width = width or len(parts)
            if len(parts) < 2 or len(parts) != width:
                wanted = f"{width} columns, as the lines before" if width > 1 else "a word and its tag, at least"
                raise UserError(f"{path}:{number}: the line must have {wanted}, got {line.strip()[:60]!r}")
            sentences[-1].append((parts[0], parts[-1]))
        elif sentences[-1]:
            sentences.append([])
    whole = [sentence for sentence in sentences if sentence]
    if not whole:
        raise UserError(f"{path}: the file has no words")
    return {
        name: [[word[i] for word in sentence] for sentence in whole]
        for i, name in zip((0, 1), CONLL_COLUMNS, strict=True)
    }
