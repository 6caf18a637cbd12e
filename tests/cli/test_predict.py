"""``autolora predict``: files and pipes in, JSON Lines and tables out, nothing lost on the way."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.support import ENTRY_POINT, Call, environment, lines


@contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    """Inside, this process's standard input is a pipe with that in it."""
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read)


@pytest.fixture
def rows(laboratory: Path) -> Path:
    return laboratory / "data" / "validation.jsonl"


def evaluated(run: Path) -> list[str]:
    return [record["prediction_name"] for record in lines(run / "predictions" / "validation.jsonl")]


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_is_answered_as_by_eval(call: Call, finished: Path, rows: Path) -> None:
    code, out, _ = call("predict", finished, rows)
    assert code == 0
    assert records(out) == [{"prediction": name} for name in evaluated(finished)]


def test_every_format_holds_the_same_answers(call: Call, finished: Path, rows: Path, tmp_path: Path) -> None:
    given = [{"id": i, "text": None, "sentence": row["sentence"]} for i, row in enumerate(lines(rows))]
    (tmp_path / "rows.json").write_text(json.dumps(given))
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "sentence"], extrasaction="ignore", delimiter=delimiter)
            writer.writeheader()
            writer.writerows(given)
    for name in ("rows.json", "rows.csv", "rows.tsv"):
        to = tmp_path / f"{name}.out.jsonl"
        code, out, err = call("predict", finished, tmp_path / name, "-o", to, "--keep", "id", "--scores")
        assert code == 0, err
        assert f"wrote {to}: 23 answers" in out
        found = lines(to)
        assert [record["prediction"] for record in found] == evaluated(finished)
        assert [str(record["id"]) for record in found] == [str(i) for i in range(23)]
        assert all(max(r["scores"], key=r["scores"].get) == r["prediction"] for r in found)
    assert lines(tmp_path / "rows.json.out.jsonl")[3]["id"] == 3  # a number is one again


def test_tables_are_written_whole(call: Call, finished: Path, rows: Path, tmp_path: Path) -> None:
    given = [{"note": 'a\tb\nc\\d "e"', **row} for row in lines(rows)[:3]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    code, out, _ = call("predict", finished, tmp_path / "rows.jsonl", "--keep-all", "--format", "tsv")
    assert code == 0
    header, *body = [line.split("\t") for line in out.splitlines()]
    assert header == ["note", "sentence", "label", "prediction"]
    assert [cells[0] for cells in body] == ['a\\tb\\nc\\\\d "e"'] * 3
    assert [cells[3] for cells in body] == evaluated(finished)[:3]
    assert call("predict", finished, tmp_path / "rows.jsonl", "--keep", "note", "-o", tmp_path / "o.csv")[0] == 0
    with (tmp_path / "o.csv").open(newline="") as file:
        assert [row["note"] for row in csv.DictReader(file)] == ['a\tb\nc\\d "e"'] * 3


def test_a_bad_row_of_a_file_is_said_before_anything_is_written(
    call: Call, finished: Path, rows: Path, tmp_path: Path
) -> None:
    bad, to = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    bad.write_text(rows.read_text() + '{"sentence": "  "}\n')
    to.write_text("before")
    code, out, err = call("predict", finished, bad, "-o", to)
    assert (code, out) == (2, "")
    assert err.endswith(f"autolora: {bad}:24: 'sentence' is missing; fill it in, or leave the row out\n")
    assert to.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_pipe_is_answered_up_to_the_row_that_cannot_be(call: Call, finished: Path, rows: Path) -> None:
    first = rows.read_bytes().splitlines(keepends=True)[:5]
    with standard_input(b"".join(first) + b'{"sentence": \n'):
        code, out, err = call("predict", finished, "-")
    assert code == 2
    assert [record["prediction"] for record in records(out)] == evaluated(finished)[:5]
    assert "standard input:6: the line is no JSON" in err
    with standard_input(b"sentence\tn\nthe dog sees the cat\t1\n"):
        code, out, err = call("predict", finished, "-", "--input-format", "tsv", "--keep", "n")
    assert code == 0, err
    assert [list(record) for record in records(out)] == [["n", "prediction"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["{rows}", "--format", "xml"], "--format: must be one of jsonl, tsv, csv, got 'xml'"),
        (["{rows}", "-o", "{rows}"], "holds the rows, which the answers would replace"),
        (["{rows}", "-o", "a.csv.gz"], "a.csv.gz ends as a file of another format does"),
        (["{rows}", "-o", "a.csv.gz", "--format", "csv"], "answers are written as jsonl, tsv, csv as they are; name"),
        (["{rows}", "-o", "a.parquet"], "name it so, or say which by --format"),
        (["{rows}", "-o", "{run}/answers.jsonl"], "lies in the run {run}, whose files are its own; name another place"),
        (["{rows}", "--keep", "a", "--keep-all"], "leave one out"),
        (["{rows}", "--keep", "sentense"], "no column 'sentense' in {rows}:1; it has: sentence, label; did you mean"),
        (["-", "--input-format", "parquet"], "a pipe holds jsonl, tsv, csv"),
        (["{rows}", "--set", "seed=4"], "was searched with seed 3, not 4"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    call: Call, finished: Path, rows: Path, arguments: list[str], message: str
) -> None:
    code, out, err = call("predict", finished, *(each.format(rows=rows, run=finished) for each in arguments))
    assert (code, out) == (2, "")
    assert message.format(rows=rows, run=finished) in err


def test_the_rows_of_a_pipe_are_not_replaced_by_their_answers(call: Call, finished: Path, rows: Path) -> None:
    before = rows.read_bytes()
    with rows.open("rb") as file:
        kept = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            code, _, err = call("predict", finished, "-", "-o", rows)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
    assert (code, "holds the rows, which the answers would replace" in err) == (2, True)
    assert rows.read_bytes() == before


def test_answers_go_where_a_link_leads_and_endings_have_no_case(
    call: Call, finished: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "target.CSV").write_text("yesterday's")
    (tmp_path / "link.CSV").symlink_to(tmp_path / "target.CSV")
    code, _, err = call("predict", finished, rows, "-o", tmp_path / "link.CSV")
    assert code == 0, err
    assert (tmp_path / "link.CSV").is_symlink()
    assert (tmp_path / "target.CSV").read_text(encoding="utf-8").startswith("prediction")


def test_a_column_of_the_answers_name_is_not_written_over(call: Call, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"sentence": "the dog", "prediction": "x"}\n')
    code, out, err = call("predict", finished, tmp_path / "rows.jsonl", "--keep-all")
    assert (code, out) == (2, "")
    assert "has a column 'prediction' of its own" in err


def test_answers_come_as_rows_arrive_and_a_closed_pipe_ends_quietly(finished: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(ENTRY_POINT), "predict", str(finished), "-"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(2):  # who waits for an answer before the next row is not made to wait for ever
        process.stdin.write(b'{"sentence": "the dog sees the cat"}\n')
        process.stdin.flush()
        assert list(json.loads(process.stdout.readline())) == ["prediction"]
    process.stdout.close()
    process.stdin.write(b'{"sentence": "the dog sees the cat"}\n')
    process.stdin.flush()  # it is not closed: the end comes of the closed output
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert b"Error" not in (said := process.stderr.read())
    assert b"closed" not in said
