"""What MkDocs is told beyond mkdocs.yml: pages made from other files, links between them, mathematics, and notes.

Nothing that the site says stands twice: the README's sections, the changelog and other files of the repository become
pages when the site is built, and the Python API is read from its docstrings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from html import unescape
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from markdown.extensions.toc import slugify
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
README = "README.md"

# Which of the README's sections is a page of its own. The others, and those to come, are the index.
SECTIONS = {
    "Quickstart": "quickstart.md",
    "Commands": "commands.md",
    "Recipes": "recipe-overview.md",
    "Is it worth it?": "results.md",
    "Measured": "measured.md",
}
# Files of the repository that are a page as they stand.
FILES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "runs/README.md": "run-folder.md",
}

POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'self' file: data: blob: 'unsafe-inline'; form-action 'none'\">"
)
FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})[^\n]*\n.*?^(?P=mark)[^\S\n]*$", re.M | re.S)
LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")
NAMED = re.compile(r"(?<!\[)`(?P<path>[\w./-]+\.md)`(?!\])")
NEEDS = re.compile(r"^<!-- needs: (?P<what>.*?) -->$", re.M)
RUN = re.compile(r"^<!-- run (in|by): .*? -->\n", re.M)
# A prime is raised by its glyph in fonts that are not for mathematics: raised once more it would float.
PRIME = re.compile(r"<msup>(?P<what><mi>[^<]*</mi>)<mi>&#x02032;</mi></msup>")
MATHS = re.compile(r'<(?P<tag>span|div) class="arithmatex">(?P<tex>.*?)</(?P=tag)>', re.S)


# --- the pages ---------------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that no file of docs/ has."""
    for page, text in {**readme_pages(), **other_pages(), "api.md": api_page()}.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=text))
    return files


def readme_pages() -> dict[str, str]:
    """The README by page; a section that is one begins with its heading."""
    pages: dict[str, str] = {}
    for title, text in sections(read(README)):
        page = SECTIONS.get(title, "index.md")
        if page != "index.md":
            text = outside_fences(lambda part: re.sub(r"^#(#+ )", r"\1", part, flags=re.M), text)
        pages[page] = pages.get(page, "") + relinked(text, README)
    return pages


def other_pages() -> dict[str, str]:
    """Files outside of docs/, their links made to hold."""
    return {page: relinked(read(name), name) for name, page in FILES.items()}


def sections(text: str) -> list[tuple[str, str]]:
    """A document cut at its headings of the second level; what stands before the first has no title."""
    hidden = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    starts = [0, *(match.start() for match in re.finditer(r"^## ", hidden, re.M)), len(text)]
    cut = [text[start:end] for start, end in pairwise(starts)]
    return [("", cut[0]), *((part.partition("\n")[0].removeprefix("## ").strip(), part) for part in cut[1:])]


def api_page() -> str:
    """The public names, as autolora/__init__.py lists them, functions before classes; none is imported."""
    tree = ast.parse(read("autolora/__init__.py"))
    places = next(ast.literal_eval(node.value) for node in tree.body if assigns(node, "_PLACES"))
    names = sorted(places, key=lambda name: (name[0].isupper(), name.lower()))
    more = "".join(f"\n::: autolora.integrations.{each}\n    options: {{heading_level: 3}}\n" for each in INTEGRATIONS)
    return (
        "# API reference\n\nWhat `import autolora` offers; how they go together is in `docs/python-api.md`.\n"
        + "".join(f"\n::: {places[name]}.{name}\n" for name in names)
        + "\n## Inside other trainers\n\nHow they are used is in `docs/integrations.md`.\n"
        + more
    )


INTEGRATIONS = ("transformers.SqueezeCallback", "lightning.SqueezeCallback", "accelerate.squeeze")


def assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


# --- what is changed in every page -------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Files that are named become links to their pages, and what a command needs becomes a note."""
    source = page.file.src_uri
    own = source in {*SECTIONS.values(), *FILES.values(), "index.md", "api.md"}
    text = markdown if own else relinked(markdown, f"docs/{source}")
    text = outside_fences(lambda part: NAMED.sub(lambda match: linked(match, source), part), text)
    text = RUN.sub("", text)
    return NEEDS.sub(r'<p class="needs">Needs \g<what></p>\n', text)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Formulas as MathML, which browsers set themselves."""
    return MATHS.sub(mathml, html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Forbids the browser to load anything from elsewhere; links may lead there."""
    return output.replace("<head>", f"<head>{POLICY}", 1)


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """The same of pages that are of no document: 404.html."""
    return output.replace("<head>", f"<head>{POLICY}", 1)


def mathml(match: re.Match[str]) -> str:
    tex = unescape(match["tex"]).strip()
    display = "block" if match["tag"] == "div" else "inline"
    text: str = convert(tex[2:-2].strip(), display=display)  # without \( \) or \[ \]
    return PRIME.sub(r"<mrow>\g<what><mo>′</mo></mrow>", text)


def linked(match: re.Match[str], source: str) -> str:
    """`docs/memory.md` → [Memory](memory.md), where the site has it and it is another page than this."""
    page = page_of(match["path"])
    if page is None or page == source:
        return match[0]
    return f"[{title(match['path'])}]({page})"


def relinked(text: str, source: str) -> str:
    """The links of a file of the repository as links between pages; those to no page become plain text."""
    here = PurePosixPath(source).parent

    def new(match: re.Match[str]) -> str:
        path, mark, anchor = match["to"].partition("#")
        if "://" in path or path.startswith("mailto:"):
            return match[0]
        if not path:
            page = anchors().get(anchor) if source == README else ""
            return match[0] if page is None else f"]({page}#{anchor})"
        name = normal(here / path)
        if name == README and anchor:
            return f"]({anchors().get(anchor, 'index.md')}{mark}{anchor})"
        page = page_of(name)
        return match[0] if page is None else f"]({page}{mark}{anchor})"

    return outside_fences(lambda part: LINK.sub(new, part), text)


def page_of(name: str) -> str | None:
    """The page that a file of the repository is on."""
    if name == README:
        return "index.md"
    if name in FILES:
        return FILES[name]
    if name.startswith("docs/") and (ROOT / name).is_file():
        return name.removeprefix("docs/")
    return None


@cache
def anchors() -> dict[str, str]:
    """The page of every heading of the README, by its anchor."""
    return {
        slugify(heading.strip(), "-"): SECTIONS.get(name, "index.md")
        for name, text in sections(read(README))
        for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    }


@cache
def title(name: str) -> str:
    found = re.search(r"^# (.*)$", read(name), re.M)
    return found[1].strip() if found else name


def normal(path: PurePosixPath) -> str:
    """A path without its dots."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def outside_fences(change: Callable[[str], str], text: str) -> str:
    """The text with everything but its fenced blocks changed."""
    end, parts = 0, []
    for match in FENCE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
