"""A report as Markdown (GitHub's): ``page("title", blocks, folder)``; figures are links to files below `folder`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

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
from autolora.safe import markdown as escape
from autolora.tables import to_markdown


def page(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The whole document."""
    return "".join(pieces(title, blocks, folder))


def pieces(title: str, blocks: Sequence[Block], folder: Path) -> Iterator[str]:
    """The whole document, block by block."""
    yield f"# {escape(title)}\n"
    contents = _contents(blocks)
    for block in blocks:
        if shown := contents if isinstance(block, Contents) else _block(block, folder):
            yield f"\n{shown}"


def _contents(blocks: Sequence[Block]) -> str:
    return "".join(f"{'  ' * (h.level - 2)}- [{escape(h.text)}](#{h.anchor})\n" for h in headings(blocks))


def _block(block: Block, folder: Path) -> str:
    match block:
        case Heading(level, text, anchor):
            return f'<a id="{anchor}"></a>\n\n{"#" * level} {escape(text)}\n'
        case Lead(text):
            return f"**{escape(text)}**\n"
        case Contents():
            return ""
        case Text(text):
            return f"{escape(text)}\n"
        case Items(items):
            return "".join(f"- {escape(item)}\n" for item in items)
        case Table(caption, _, said):
            head = "" if said else f"**{escape(caption)}**\n\n"
            cut = f"\n{escape(block.cut)}\n" if block.cut else ""
            return f"{head}{to_markdown(block.shown) or 'No rows.'}\n{cut}"
        case Gallery(figures):
            return "\n".join(_figure(figure, folder) for figure in figures)
        case Details(summary, inner, opened):
            shown = "\n".join(_block(part, folder) for part in inner)
            return (
                f"<details{' open' if opened else ''}>\n<summary>{escape(summary)}</summary>\n\n{shown}\n</details>\n"
            )


def _figure(figure: Figure, folder: Path) -> str:
    link = f"![{escape(figure.alt)}]({figure.path.relative_to(folder).as_posix()})\n"
    return f"{link}\n{escape(figure.caption)}\n" if figure.caption else link
