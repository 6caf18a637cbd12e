"""`autolora eval RUN --submission`: the test-set files of a benchmark."""

import json
from pathlib import Path

from tests.cli.support import Call


def test_every_test_example_gets_its_line(call: Call, copied: Path, laboratory: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "validation"):
        (data / f"{split}.jsonl").write_bytes((laboratory / "data" / f"{split}.jsonl").read_bytes())
    texts = ["the cat sees the dog", "cat the sees the dog today", "the king helps the pilot again"]
    rows = [{"sentence": text, "label": -1, "idx": 7 + i} for i, text in enumerate(texts)]
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = ("--data-root", tmp_path, "--set", "data.path=data")
    how = ("--set", "eval.submission={files: {Tiny: test}, prediction: id}")

    before = (copied / "metrics.json").read_bytes()
    code, out, err = call("eval", copied, "--submission", *where, *how)
    assert code == 0, err
    file = copied / "submission" / "Tiny.tsv"
    assert f"wrote {file}" in out
    lines = file.read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == ["7", "8", "9"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"0", "1"}
    assert (copied / "metrics.json").read_bytes() == before

    (data / "test.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts))
    assert call("eval", copied, "--submission", *where, *how)[0] == 0  # a test split may have no labels at all
    assert [line.split("\t")[0] for line in file.read_text().splitlines()[1:]] == ["0", "1", "2"]

    rows[1].pop("idx")
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = call("eval", copied, "--submission", *where, *how)
    assert code == 2
    assert "test.jsonl:2: 'idx' is missing, which other rows have" in err


def test_a_recipe_without_submission_files_says_so(call: Call, copied: Path) -> None:
    code, _, err = call("eval", copied, "--submission")
    assert code == 2
    assert "says no eval.submission" in err
