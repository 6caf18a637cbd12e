"""A report as one HTML file: ``page("title", blocks)`` and ``to_html(rows)``.

Nothing is loaded: styles, figures (data: URLs) and the one script are in the page, whose policy forbids every request.
The page is whole without the script, which sorts tables and opens folds for printing. Every text is escaped.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence

from autolora import tables
from autolora.plots.figures import DPI
from autolora.report.blocks import (
    Block,
    Contents,
    Details,
    Figure,
    Gallery,
    Heading,
    Items,
    Lead,
    Table,
    Text,
    headings,
)
from autolora.report.script import HASH, SCRIPT
from autolora.report.style import CSS
from autolora.safe import html as escape
from autolora.tables import Row

_CSS_DPI = 96
_WIDE = 560  # pixels of a figure from which on a narrow screen scrolls instead of shrinking it
_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{HASH}'; base-uri 'none'; "
    "form-action 'none'"
)


def page(title: str, blocks: Sequence[Block]) -> str:
    """The whole page."""
    return "".join(pieces(title, blocks))


def pieces(title: str, blocks: Sequence[Block]) -> Iterator[str]:
    """The whole page, block by block: its figures are not held together."""
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">Skip to the content</a>\n'
        f'<header>\n<h1>{escape(title)}</h1>\n</header>\n<main id="content" tabindex="-1">\n'
    )
    contents = _contents(blocks)
    for block in blocks:
        if isinstance(block, Contents):
            yield contents
        elif isinstance(block, Gallery):
            yield '<div class="gallery">\n'
            yield from map(_figure, block.figures)
            yield "</div>\n"
        else:
            yield _block(block)
    yield f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"


def to_html(rows: Sequence[Row], caption: str = "") -> str:
    """The table, with the columns and number formats of `autolora.tables`; "" for no rows.

    Args:
        rows: From top to bottom.
        caption: For those who do not see what stands above it; "" for none.
    """
    if not rows:
        return ""
    columns = tables.column_names(rows)
    kinds = [' class="number"' if tables.is_numeric(rows, column) else "" for column in columns]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    lines = []
    for row in rows:
        shown = [escape(tables.show(row.get(column))) for column in columns]
        lines.append("".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(shown, kinds, strict=True)))
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    said = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    return f"<table>\n{said}<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _contents(blocks: Sequence[Block]) -> str:
    """The headings as a list of links, those of level 3 below their level 2."""
    found = headings(blocks)
    if not found:
        return ""
    lines, open_level = ['<nav aria-label="Contents">\n<h2>Contents</h2>\n<ul>\n'], 0
    for heading in found:
        if open_level:
            step = {(2, 3): "\n<ul>\n", (3, 2): "</li>\n</ul>\n</li>\n"}
            lines.append(step.get((open_level, heading.level), "</li>\n"))
        lines.append(f'<li><a href="#{heading.anchor}">{escape(heading.text)}</a>')
        open_level = heading.level
    lines.append("</li>\n</ul>\n</li>\n" if open_level == 3 else "</li>\n")
    return "".join(lines) + "</ul>\n</nav>\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text, anchor):
            return f'<h{level} id="{anchor}">{escape(text)}</h{level}>\n'
        case Lead(text):
            return f'<p class="lead">{escape(text)}</p>\n'
        case Contents():
            return ""
        case Text(text):
            return f"<p>{escape(text)}</p>\n"
        case Items(items):
            return "<ul>\n" + "".join(f"<li>{escape(item)}</li>\n" for item in items) + "</ul>\n"
        case Table():
            return _table(block)
        case Gallery(figures):
            return '<div class="gallery">\n' + "".join(map(_figure, figures)) + "</div>\n"
        case Details(summary, inner, opened):
            tag = "details open" if opened else "details"
            return f"<{tag}>\n<summary>{escape(summary)}</summary>\n{''.join(map(_block, inner))}</details>\n"


def _table(table: Table) -> str:
    """In a box that scrolls sideways, which the keyboard can do too; the caption that is seen stays where it is."""
    label = f'role="region" tabindex="0" aria-label="{escape(table.caption)}"'
    shown = to_html(table.shown, table.caption)
    body = f'<div class="scroll" {label}>\n{shown}</div>\n' if shown else "<p>No rows.</p>\n"
    head = "" if table.said else f'<p class="caption" aria-hidden="true">{escape(table.caption)}</p>\n'
    cut = f"<p>{escape(table.cut)}</p>\n" if table.cut else ""
    return f'<div class="table">\n{head}{body}{cut}</div>\n'


def _figure(figure: Figure) -> str:
    data = figure.path.read_bytes()
    width, height = (round(pixels * _CSS_DPI / DPI) for pixels in struct.unpack(">II", data[16:24]))  # of the PNG
    source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
    image = f'<img src="{source}" width="{width}" height="{height}" alt="{escape(figure.alt)}">'
    if width > _WIDE:
        label = f'role="region" tabindex="0" aria-label="{escape(figure.caption or figure.alt)}"'
        image = f'<div class="wide" {label}>{image}</div>'
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f'<figure style="width: {width}px">\n{image}\n{caption}</figure>\n'
