"""The documentation site is built strictly, and its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import autolora

ROOT = Path(__file__).resolve().parents[1]
for package in ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml"):
    pytest.importorskip(package, reason="pip install 'autolora[docs]' brings it")


def build(*options: str, path: Path) -> subprocess.CompletedProcess[str]:
    """MkDocs on the repository, where `path` comes before all packages."""
    found = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": found, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; torch cannot be imported while it is built."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "torch.py").write_text("raise ImportError('the site is built without torch')", encoding="utf-8")
    done = build("--site-dir", str(folder / "built"), path=folder)
    assert done.returncode == 0, done.stderr
    return folder / "built"


@dataclass
class Page(HTMLParser):
    """What a page loads, where it leads, and its anchors."""

    loads: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    policy: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        loaded = [values[name] for name in ("src", "srcset", "poster", "data") if name in values]
        if "href" in values:
            (self.leads if tag == "a" else loaded).append(values["href"])
        self.loads += loaded
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {}
    for path in site.rglob("*.html"):
        found[path] = Page()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_page_of_the_documents_is_there(pages: dict[Path, Page], site: Path) -> None:
    names = {str(path.relative_to(site)) for path in pages}
    assert {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} <= names
    assert {"index.html", "quickstart.html", "commands.html", "changelog.html", "api.html"} <= names


def test_pages_load_nothing_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    assert not [load for page in pages.values() for load in page.loads if urlsplit(load).netloc]
    # Scripts could load something all the same: browsers are told not to.
    policies = {page.policy for page in pages.values()}
    assert policies == {"default-src 'self' file: data: blob: 'unsafe-inline'; form-action 'none'"}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert ".needs" in styles
    assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", styles)


def test_links_lead_to_pages_and_anchors_that_are_there(pages: dict[Path, Page], site: Path) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.leads + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":  # whose links begin at the server's root
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            anchor = unquote(parts.fragment)
            if not there.is_file() or (anchor and there in pages and anchor not in pages[there].anchors | {"__skip"}):
                dead.append((path.name, link))
    assert sum(len(page.leads) for page in pages.values()) > 1000
    assert not dead


def test_formulas_are_set_without_a_script(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", text, re.S)
    assert len(formulas) > 40
    assert not [formula for formula in formulas if "\\" in formula]
    assert "arithmatex" not in text
    assert not re.search(r"\$\$|\\\(|\\frac", text)


def test_the_api_has_every_public_name(pages: dict[Path, Page], site: Path) -> None:
    anchors = {
        anchor.rpartition(".")[2] for anchor in pages[site / "api.html"].anchors if anchor.startswith("autolora.")
    }
    assert set(autolora.__all__) <= anchors


def test_files_that_are_named_become_links(pages: dict[Path, Page], site: Path) -> None:
    assert "reliability.html" in pages[site / "index.html"].leads  # `docs/reliability.md` in the README
    assert (
        "results.html#is-it-worth-it" in pages[site / "index.html"].leads
    )  # (#is-it-worth-it), a page of its own here


@pytest.mark.parametrize(
    ("link", "said"),
    [("missing.md", "'missing.md', but the target is not found"), ("index.md#no", "there is no such anchor")],
)
def test_a_dead_link_fails_the_build(link: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Home\n\n[there]({link})\n", encoding="utf-8")
    settings = f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nnav: [index.md]\nhooks: []\nplugins: []\n"
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = build("--config-file", str(tmp_path / "mkdocs.yml"), path=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
