r"""Text as each medium takes it: ``terminal(text)``, ``html(text)``, ``markdown(text)``, ``csv_cell(text)`` and others.

Names, labels and messages come from recipes, data files and models that others wrote. What a medium would act on
instead of showing it becomes what Python writes for it (``\x1b``), wherever the text goes; each function then does what
its own medium asks for besides. A text without anything of the kind comes back as it is. There is one function for each
medium, and whatever writes to that calls it.

`autolora.console` has the terminal's, `autolora.report.blocks.Names` makes the names of files.
"""

from __future__ import annotations

import json
import re
from html import escape

from autolora.errors import UserError

# C0 and DEL, C1 (a terminal may take U+009B for ESC [), line and paragraph separators, what overrides the direction of
# writing (embeddings, overrides, isolates), halves of characters. Not the marks that Arabic and Hebrew texts are
# written with, nor joiners.
_ACTING = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_ANY = re.compile(f"[{_ACTING}]")
_INLINE = re.compile(r"(?:\r\n|[\n\r\t])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ or a rule it would begin an option
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
# What a spreadsheet computes, in ASCII and in full width; apostrophes before it are ours, or taken for ours.
_FORMULA = re.compile("'*[\t\n=+\\-@\uff1d\uff0b\uff0d\uff20]")
_PLAIN = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"{_PLAIN}(?: ± {_PLAIN})?")


def printable(text: str, keep: str = "") -> str:
    r"""`text` with what would act on a screen written as Python writes it, ``\x1b`` for instance.

    Args:
        text: Any.
        keep: Characters that are left as they are.
    """
    return _ANY.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


def terminal(text: str) -> str:
    """`text` for a terminal, over as many lines as it has.

    Args:
        text: Any.
    """
    return printable(text, keep="\n\t")


def one_line(text: str) -> str:
    """`text` on one line: a line break or a tab is a blank.

    Args:
        text: Any.
    """
    return printable(_INLINE.sub(" ", text))


def html(text: str) -> str:
    """`text` for an element or a quoted attribute of an HTML page.

    Args:
        text: Any.
    """
    return escape(printable(text, keep="\n\t"))


def markdown(text: str) -> str:
    """`text` on one line of a Markdown document (GitHub's), none of it HTML, code, emphasis, link, heading or list.

    Args:
        text: Any.
    """
    shown = _no_markup(" ".join(one_line(text).split()))
    shown = re.sub(r"^([#+\-=])", r"\\\1", shown)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", shown)


def markdown_cell(text: str) -> str:
    """`text` for a cell of a Markdown table, which a pipe would end.

    Args:
        text: Any.
    """
    return _no_markup(one_line(text)).replace("|", r"\|")


def _no_markup(text: str) -> str:
    text = re.sub(r"([\\`*\[\]]|~~|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)


def csv_cell(text: str) -> str:
    """`text` as the value of a CSV cell (the quotes are the csv module's), which no spreadsheet takes for a formula.

    What begins like one gets an apostrophe in front, and so does what begins with apostrophes and then like one;
    numbers, and "-0.1 ± 0.2", stay as they are. `from_csv` takes it away: but for control characters, which are written
    out, it gives the text again. The JSON file beside each table has the text itself.

    Args:
        text: Any.
    """
    shown = printable(text, keep="\n\t")
    return f"'{shown}" if _FORMULA.match(shown) and not _NUMBER.fullmatch(shown) else shown


def from_csv(cell: str) -> str:
    """The text that `csv_cell` was given.

    Args:
        cell: The value of a cell in a CSV file of ours.
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def tsv_field(text: str, what: str) -> str:
    """`text` as a field of a benchmark's TSV file, where nothing can be escaped: as it is, or not at all.

    Args:
        text: Any.
        what: It is, for the message.

    Raises:
        UserError: The file's readers would take a part of it for something else.
    """
    if _ANY.search(text) or '"' in text:
        raise UserError(
            f"{what} {text!r} cannot stand in a TSV file: it has a tab, a line break, another control character or a "
            "quote in it; rename it in the data"
        )
    return text


def latex(text: str) -> str:
    """`text` on one line, as LaTeX prints it letter for letter.

    Args:
        text: Any.
    """
    return "".join(_LATEX.get(character, character) for character in latex_comment(text)).replace("--", "-{}-")


def latex_comment(text: str) -> str:
    """`text` on one line, for a comment of LaTeX.

    Args:
        text: Any.
    """
    return re.sub(r"\s+", " ", one_line(text)).strip()


def label(text: str) -> str:
    """`text` for matplotlib, as it is: none of it a formula between dollar signs.

    Args:
        text: Any.
    """
    return printable(text, keep="\n").replace("$", r"\$")


def json_text(text: str, encoding: str = "utf-8") -> str:
    """JSON for a terminal or a pipe: the same values, with JSON's own escapes where the text can't have a character.

    Args:
        text: JSON, as the json module writes it.
        encoding: Of what it is written to, which may lack characters; others would act on a screen.
    """
    shown = _ANY.sub(lambda found: found[0] if found[0] in "\n\t" else f"\\u{ord(found[0]):04x}", text)
    try:
        shown.encode(encoding)
    except UnicodeEncodeError:
        return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], shown)
    return shown
