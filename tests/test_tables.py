"""Tables as Markdown, CSV and JSON, and in the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from autolora.tables import Row, render, to_markdown, write_table

ROWS: list[Row] = [
    {"task": "cola", "rank": 8, "matthews": 0.1 + 0.2, "note": None},
    {"task": "sst-2, dev", "rank": 12, "matthews": 2 / 3, "note": 'said "fine"'},
]


def test_three_files_are_written_and_named(tmp_path: Path) -> None:
    paths = write_table(ROWS, tmp_path / "tables", "glue")
    assert [path.name for path in paths] == ["glue.md", "glue.csv", "glue.json"]
    assert sorted(path for path in (tmp_path / "tables").iterdir()) == sorted(paths)


def test_json_read_back_is_the_input(tmp_path: Path) -> None:
    _, _, path = write_table(ROWS, tmp_path, "glue")
    assert json.loads(path.read_text(encoding="utf-8")) == ROWS
    assert list(json.loads(path.read_text(encoding="utf-8"))[0]) == ["task", "rank", "matthews", "note"]


def test_csv_read_back_is_the_input_to_the_last_digit(tmp_path: Path) -> None:
    _, path, _ = write_table(ROWS, tmp_path, "glue")
    with path.open(encoding="utf-8", newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["task"] for row in back] == ["cola", "sst-2, dev"]
    assert [int(row["rank"]) for row in back] == [8, 12]
    assert [float(row["matthews"]) for row in back] == [0.1 + 0.2, 2 / 3]
    assert [row["note"] for row in back] == ["", 'said "fine"']


def test_markdown_is_aligned_with_numbers_to_the_right_and_four_decimals() -> None:
    assert to_markdown(ROWS) == (
        "| task       | rank | matthews | note        |\n"
        "| ---------- | ---: | -------: | ----------- |\n"
        "| cola       |    8 |   0.3000 |             |\n"
        '| sst-2, dev |   12 |   0.6667 | said "fine" |\n'
    )


def test_markdown_lines_are_as_wide_as_each_other_with_wide_letters_too() -> None:
    lines = to_markdown([{"a": "数据", "b": 1}, {"a": "x", "b": 22.5}]).splitlines()
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1


def test_markdown_cells_are_escaped_and_stay_on_one_line() -> None:
    text = to_markdown([{"a|b": "x|y", "c": "one\ntwo"}, {"a|b": "p\\|q", "c": ""}])
    assert len(text.splitlines()) == 4
    assert "| a\\|b " in text
    assert "| x\\|y " in text
    assert "| one two " in text
    assert "| p\\\\\\|q " in text  # the backslash and the pipe, each escaped


def test_columns_come_from_the_first_row_and_missing_cells_are_empty(tmp_path: Path) -> None:
    rows: list[Row] = [{"b": 1, "a": 2.0}, {"a": 0.5}, {"b": 3, "late": "x"}]
    markdown, comma, _ = write_table(rows, tmp_path, "t")
    assert comma.read_text() == "b,a,late\n1,2.0,\n,0.5,\n3,,x\n"
    assert [cell.strip() for cell in markdown.read_text().splitlines()[0].strip("|").split("|")] == ["b", "a", "late"]


def test_a_number_that_is_none_is_in_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[0\]\.x is nan"):
        write_table([{"x": math.nan}], tmp_path, "t")
    assert not list(tmp_path.iterdir())


def test_no_rows_are_empty_files_and_an_empty_list(tmp_path: Path) -> None:
    assert [path.read_text() for path in write_table([], tmp_path, "t")] == ["", "", "[]\n"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_table(ROWS, tmp_path, "t")]
    assert first == [path.read_bytes() for path in write_table(ROWS, tmp_path, "t")]


def test_the_terminal_shows_title_and_cells_and_takes_no_markup_from_them() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(render([{"task": "[red]cola[/red]", "f1": 0.25, "n": 3, "none": None}], "Results [of] it"))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for word in ("Results [of] it", "[red]cola[/red]", "0.2500", " 3 "):
        assert word in shown
    assert "None" not in shown


def test_a_table_too_wide_for_the_terminal_has_a_column_for_each_row() -> None:
    rows = [{"type": "all", "precision": 0.125, "words that were cut off": 3}, {"type": "Disease", "precision": 0.25}]
    for width in (48, 80):
        console = Console(width=width, file=io.StringIO())
        console.print(render(rows, "NER", width))
        text = console.file.getvalue()
        assert "…" not in text
        assert all(part in text for part in ("0.1250", "0.2500", "Disease", "precision", "words that were cut off"))
        heading = next(line for line in text.splitlines() if "type" in line)
        assert ("precision" in heading) == (width == 80)


METHODS = [
    "lora:8",
    "lora-matched:budget=parameters=41472:targets=query+value",
    *(f"squeeze:k={k}" for k in range(2, 20)),
]


def shown(rows: list[Row], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(render(rows, "Scores", width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_many_wide_rows_are_shared_out_over_tables_that_all_name_the_rows(width: int) -> None:
    rows: list[Row] = [
        {
            "task": "tiny",
            "method": method,
            **{f"metric {i}": f"0.{number:02}{i}0 ± 0.0100" for i in range(9)},
            "seeds": 5,
        }
        for number, method in enumerate(METHODS)
    ]
    lines = shown(rows, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    for number, _ in enumerate(METHODS):
        for i in range(9):  # whole, however the method beside it is folded
            assert sum(f"0.{number:02}{i}0 ± 0.0100" in line for line in lines) == 1
    headings = [line for line in lines if "metric" in line]
    assert len(headings) > 1
    assert all("method" in line and "task" not in line for line in headings)
    assert lines[-1].strip() == "in all rows: task tiny; seeds 5"


def test_rows_that_are_alike_are_all_shown() -> None:
    row: Row = {f"a long name of a column {i}": "x" * 30 for i in range(9)} | {"n": 1}
    lines = shown([row] * 20 + [{**row, "n": 2}], 60)
    assert sum("1" in line and "│" in line for line in lines) == 20
    assert max(map(len, lines)) <= 60


def test_a_long_cell_of_a_single_row_is_folded() -> None:
    lines = shown([{"metric": "f1", "note": "words " * 40}], 60)
    assert max(map(len, lines)) <= 60
    assert sum(line.count("words") for line in lines) == 40
