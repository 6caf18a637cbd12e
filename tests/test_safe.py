"""What each medium is spared, that plain text comes through as it is, and that nothing writes past the functions."""

from __future__ import annotations

import ast
import csv
import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table

import autolora
from autolora import safe
from autolora.cli.ending import end
from autolora.console import StageProgress, document, json_document, line, say, screen, warn
from autolora.errors import FAULT, UserError
from autolora.tables import Row, render, to_markdown, write_table

ACTING = [
    "\x00", "\x07", "\x08", "\x1b[31m", "\x1b]0;title\x07", "\r", "\x7f", "\x85", "\x9b31m", "\u2028", "\u202e",
    "\u2066", "\ud83d",
]  # fmt: skip
PLAIN = ["plain", "naïve – 数据　全角", "שלום‏ سلام", "👩‍👩‍👧 é", "a\u00a0b", "C:\\dir", ""]


@pytest.mark.parametrize("text", ACTING)
def test_what_acts_on_a_screen_is_written_out_in_every_medium(text: str) -> None:
    for function in (
        *(safe.terminal, safe.one_line, safe.html, safe.markdown, safe.markdown_cell, safe.csv_cell),
        *(safe.latex, safe.latex_comment, safe.label, safe.json_text),
    ):
        shown = function(f"a{text}b")
        assert safe.printable(shown, keep="\n\t") == shown, function
        assert shown.startswith("a")
        assert shown.endswith("b")


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_comes_back_as_it_is(text: str) -> None:
    for function in (safe.terminal, safe.one_line, safe.csv_cell, safe.label, safe.json_text, safe.html):
        assert function(text) == text
    assert safe.tsv_field(text, "the label") == text
    assert safe.terminal("two\nlines\tand a tab") == "two\nlines\tand a tab"


def test_markdown_is_read_as_the_text() -> None:
    renderer = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    texts = [
        "# a",
        "- a",
        "1. a",
        "2) a",
        "+ a",
        "=== a",
        "<img src=x>",
        "&lt;",
        "`a`",
        "*a* _b_ __c__",
        "[a](b)",
        "a_b_c",
    ]
    for text in [*texts, "a \\* b", "> a", "| a | b |", "---", "***", "\\", "a ~~b~~", "!\\[x](y)"]:
        for shown in (safe.markdown(text), safe.markdown_cell(text)):
            page = renderer.render(f"x {shown}").strip()
            assert page == f"<p>x {_entities(text)}</p>", shown
        assert renderer.render(safe.markdown(text)).strip() == f"<p>{_entities(text)}</p>"
        table = renderer.render(to_markdown([{text: text, "b": 1}]))
        assert table.count(f">{_entities(text)}</t") == 2, (text, table)
    assert len(to_markdown([{"a\nb": "c\r\nd"}]).splitlines()) == 3


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _Data(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def test_html_is_read_as_the_text() -> None:
    text = "<script>alert(1)</script> \" ' & \n &amp;"
    page = _Data()
    page.feed(f'<p title="{safe.html(text)}">{safe.html(text)}')
    page.close()
    assert page.tags == ["p"]
    assert page.words == text


@pytest.mark.parametrize(
    "text", ["=1+1", "+a", "-a", "@SUM(A1)", "\t=1", "\n=1", "＝1", "'=1", "''@a", "- 5", "-1+cmd|'x'!A0"]
)
def test_no_cell_is_a_formula_and_reading_back_gives_the_text(text: str) -> None:
    shown = safe.csv_cell(text)
    assert shown == f"'{text}"
    assert safe.from_csv(shown) == text


@pytest.mark.parametrize("text", ["-1", "+0.5", "-1e-05", "-0.1000 ± 0.2000", "'", "'a", "a=b", "it's"])
def test_numbers_stay_numbers_and_apostrophes_stay_alone(text: str) -> None:
    assert safe.csv_cell(text) == text
    assert safe.from_csv(text) == text


@settings(derandomize=True, database=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("'=+-@\t\n")))
def test_any_text_without_control_characters_is_read_back(text: str) -> None:
    if safe.printable(text, keep="\n\t") == text:
        assert safe.from_csv(safe.csv_cell(text)) == text


def test_the_tables_files_have_safe_cells_and_json_the_text_itself(tmp_path: Path) -> None:
    rows: list[Row] = [{"=name": "=HYPERLINK(1)", "n": -2, "x": -0.5, "c": "\x1b[31m<b>|", "t": "-0.5 ± 0.1"}]
    markdown, comma, plain = write_table(rows, tmp_path, "t")
    with comma.open(encoding="utf-8", newline="") as file:
        header, cells = csv.reader(file)
    assert header == ["'=name", "n", "x", "c", "t"]
    assert cells == ["'=HYPERLINK(1)", "-2", "-0.5", "\\x1b[31m<b>|", "-0.5 ± 0.1"]
    assert json.loads(plain.read_text(encoding="utf-8")) == rows
    assert "&lt;b&gt;\\|" in markdown.read_text(encoding="utf-8")
    assert not any(b"\x1b" in path.read_bytes() for path in (markdown, comma, plain))


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb", 'a"b', "\x1b"])
def test_what_a_benchmarks_file_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"the label .* cannot stand in a TSV file: .*; rename it in the data"):
        safe.tsv_field(text, "the label")


def test_latex_prints_letter_for_letter_on_one_line() -> None:
    assert safe.latex("a\nb % _c_ --\x1b") == "a b \\% \\_c\\_ -{}-\\textbackslash{}x1b"
    assert "\n" not in safe.latex_comment("a\u2028b\nc\x0bd")


def test_a_label_is_no_formula() -> None:
    from matplotlib.text import Text

    for text in ("$\\frac$", "a $x$ b", "5$", "\\$", "\\$a$"):
        shown = Text(0, 0, safe.label(text))._preprocess_math(safe.label(text))  # type: ignore[attr-defined]
        assert shown == (text, False)


def test_json_is_the_same_value() -> None:
    value = {"a\x9b": ["\u202e", "\n\t", "\u2028", "é"]}
    shown = safe.json_text(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(shown) == value
    assert safe.printable(shown, keep="\n\t") == shown
    assert "é" in shown


HOSTILE = "\x1b[31mred\x1b[0m [bold]b[/bold] [/] \x9b2J\u202eabc\x07"
SHOWN = "\\x1b[31mred\\x1b[0m [bold]b[/bold] [/] \\x9b2J\\u202eabc\\x07"


def test_whatever_is_printed_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    warn(HOSTILE)
    screen().print(render([{HOSTILE: HOSTILE}], HOSTILE, 300), soft_wrap=True)
    table = Table(escape(HOSTILE))
    table.add_row(escape(HOSTILE))  # texts that somebody forgot
    screen(stderr=True).print(table, soft_wrap=True)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == err.splitlines()[0] == SHOWN
    assert out.count(SHOWN) == 4
    for text in (out, err):
        assert safe.printable(text, keep="\n\t") == text


def test_colours_of_ours_are_kept_and_those_of_texts_are_not() -> None:
    console = screen()
    console.file, console._force_terminal, console._color_system = io.StringIO(), True, None
    table = Table(title=HOSTILE)
    console.print(table, style="bold")
    line(console, HOSTILE)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[31m" not in console.file.getvalue()


def test_the_title_of_a_stage_is_no_markup() -> None:
    console = screen(stderr=True)
    console.file, console._force_terminal = io.StringIO(), True
    with StageProgress(HOSTILE, console=console) as progress:
        assert progress.bar is not None
        progress.start(0, 2)
        progress.step(1)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "[bold]b[/bold]" in shown
    assert "\x1b[31mred" not in shown
    assert "\x9b" not in shown


def test_a_document_is_byte_for_byte_but_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document(HOSTILE)
    assert capsys.readouterr().out == HOSTILE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    document(HOSTILE)
    assert capsys.readouterr().out == SHOWN


def test_a_traceback_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(UserError(HOSTILE), debug=True) == FAULT
    err = capsys.readouterr().err
    assert f"UserError: {SHOWN}\n" in err
    assert err.endswith(f"autolora: {SHOWN}\n")


def test_nothing_is_printed_past_the_console() -> None:
    package = Path(autolora.__file__).parent
    found = [
        f"{file.relative_to(package)}:{node.lineno}: {said}"
        for file in sorted(package.rglob("*.py"))
        if file != package / "console.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (said := ast.unparse(node.func)) in {
            "print", "typer.echo", "typer.secho", "click.echo", "Console", "rich.print", "sys.stdout.write",
            "sys.stderr.write", "csv.writer", "csv.DictWriter", "html.escape",
        }
        and not (file.name in ("tables.py", "answers.py") and said == "csv.writer")
    ]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("train.jsonl:100: no JSON", None),
        ("[red]a\tb", "[red]a  b"),
        (f"{'x' * 300}   ", None),
        ("a\n\tb", "a\n        b"),
    ],
)
def test_a_line_is_the_same_with_and_without_a_screen(
    text: str, shown: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    line(screen(), text)
    warn(text)
    line(screen(stderr=True), text)
    out, err = capsys.readouterr()
    assert out == err == f"{shown or text}\n" * 2


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
def test_json_is_json_in_whatever_encoding_the_output_has(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, raw = {"é": ["→ 😀\x1b", "\udcff", None]}, io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace"))
    json_document(value)
    assert json.loads(raw.getvalue().decode(encoding)) == value
    assert ("é" in raw.getvalue().decode(encoding)) == (encoding == "utf-8")
