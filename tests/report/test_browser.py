"""The page in a real browser, where there is one: it sorts, prints its folds, fits a telephone, asks for nothing.

A driver page of the same server holds the report, as it is, in a frame of 360 pixels, presses its buttons and writes
down what it finds.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.outcome import Captioned
from autolora.report.document import write_report
from autolora.report.script import SCRIPT
from tests.report.test_document import result

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NODE = shutil.which("node")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", "--dump-dom")
ROWS = [
    {"method": "b", "score": 10.5, "spread": "0.5 ± 0.1", "size": 9, "note": "<i>x</i>"},
    {"method": "a", "score": -2.0, "spread": "-1.0 ± 2.0", "size": None, "note": "y"},
    {"method": "a", "score": 9.25, "spread": "", "size": 100, "note": "z"},
]
DRIVER = """<!DOCTYPE html><html lang="en"><title>driver</title><pre id="found"></pre>
<iframe src="report.html" width="360" height="740"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", function () {
  const page = frame.contentDocument, table = page.querySelector("table"), found = {};
  const heads = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0];
  const rows = () => Array.from(body.rows).map((row) => row.cells[4].textContent);
  const states = () => heads.map((head) => head.getAttribute("aria-sort"));
  found.orders = {};
  heads.forEach(function (head) {
    const button = head.querySelector("button");
    found.orders[button.textContent] = [1, 2, 3].map(() => { button.click(); return [rows(), states()]; });
  });
  const closed = () => page.querySelectorAll("details:not([open])").length;
  found.folds = [closed()];
  ["beforeprint", "afterprint"].forEach(function (name) {
    frame.contentWindow.dispatchEvent(new Event(name)); found.folds.push(closed());
  });
  found.width = page.documentElement.scrollWidth;
  found.pictures = Array.from(page.images).map((image) => [image.complete, image.naturalWidth > 0, image.alt !== ""]);
  const first = page.querySelector("a"); first.focus();
  found.skip = [page.activeElement === first, first.getBoundingClientRect().left >= 0, first.getAttribute("href")];
  found.levels = Array.from(page.querySelectorAll("h1, h2, h3")).map((each) => Number(each.tagName[1]));
  found.loaded = frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name)
    .filter((name) => !name.startsWith("data:"));
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script></html>
"""


class Server(SimpleHTTPRequestHandler):
    """Serves a folder and remembers what was asked for."""

    asked: list[str] = []  # noqa: RUF012  # of the one server that there is

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_GET(self) -> None:
        Server.asked.append(self.path)
        super().do_GET()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the driver found, "asked" and "console"."""
    if BROWSER is None:
        pytest.skip("there is no browser")
    folder = tmp_path_factory.mktemp("browser")
    runs = [result(folder / "runs", method, seed) for method in ("autolora", "svd") for seed in (0, 1)]
    write_report(runs, folder, [Captioned("x", "Scores", ROWS), Captioned("y", "More", ROWS)], "A page " + "x" * 90)
    (folder / "driver.html").write_text(DRIVER, encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/driver.html"
        flags = (*FLAGS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", address)
        done = subprocess.run([BROWSER, *flags], capture_output=True, text=True, timeout=240, check=True)
    finally:
        server.shutdown()
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(html.unescape(text)), "asked": Server.asked, "console": console}


def test_nothing_is_asked_for_and_nothing_is_refused(found: dict[str, Any]) -> None:
    assert [path for path in found["asked"] if path != "/favicon.ico"] == ["/driver.html", "/report.html"]
    assert found["loaded"] == []
    assert found["console"] == []  # neither an error nor a breach of the page's policy


def test_a_press_sorts_a_second_turns_and_a_third_restores(found: dict[str, Any]) -> None:
    orders = {name: ["".join(row[:1] for row in rows) for rows, _ in seen] for name, seen in found["orders"].items()}
    assert orders == {
        "method": ["yz<", "<yz", "<yz"],  # what is equal keeps its order
        "score": ["yz<", "<zy", "<yz"],  # as numbers
        "spread": ["y<z", "<yz", "<yz"],  # by the mean; what is empty is last
        "size": ["<zy", "z<y", "<yz"],
        "note": ["<yz", "zy<", "<yz"],
    }
    states = [states for _, states in found["orders"]["score"]]
    assert states == [[None, "ascending", *[None] * 3], [None, "descending", *[None] * 3], [None] * 5]


def test_folds_are_open_on_paper_and_as_they_were_afterwards(found: dict[str, Any]) -> None:
    before, printed, after = found["folds"]
    assert before == after > 0
    assert printed == 0


def test_a_telephone_need_not_scroll_sideways(found: dict[str, Any]) -> None:
    assert found["width"] <= 360


def test_pictures_are_shown_and_described_and_headings_in_order(found: dict[str, Any]) -> None:
    assert found["pictures"]
    assert all(all(each) for each in found["pictures"])
    levels = found["levels"]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_first_stop_of_the_keyboard_skips_to_the_content(found: dict[str, Any]) -> None:
    assert found["skip"] == [True, True, "#content"]


@pytest.mark.skipif(NODE is None, reason="there is no node")
@pytest.mark.parametrize(
    ("cells", "ascending"),
    [
        (["10", "9", "-1.5", "", "1e-3"], ["-1.5", "1e-3", "9", "10", ""]),
        (["0.52 ± 0.1", "0.5 ± 0.2"], ["0.5 ± 0.2", "0.52 ± 0.1"]),
        (["2026-11-28 12:00", "2026-11-03 13:00"], ["2026-11-03 13:00", "2026-11-28 12:00"]),  # no numbers
        (["lora:10", "lora:9", "adalora"], ["adalora", "lora:9", "lora:10"]),
        (["2.0×", "10×"], ["2.0×", "10×"]),
    ],
)
def test_cells_are_ordered_as_they_are_meant(cells: list[str], ascending: list[str], tmp_path: Path) -> None:
    assert NODE is not None
    (tmp_path / "script.js").write_text(SCRIPT, encoding="utf-8")
    code = (
        "const sorted = require(process.argv[1]), cells = JSON.parse(process.argv[2]);"
        "const rows = cells.map((text) => ({ cells: [{ textContent: text }] }));"
        "const shown = (rows) => rows.map((row) => row.cells[0].textContent);"
        "console.log(JSON.stringify([1, -1, 0].map((way) => shown(sorted(rows, 0, way)))));"
    )
    arguments = [NODE, "-e", code, str(tmp_path / "script.js"), json.dumps(cells)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    up, down, same = json.loads(done.stdout)
    filled = [text for text in ascending if text]
    assert up == ascending
    assert down == [*filled[::-1], *[""] * (len(cells) - len(filled))]
    assert same == cells
