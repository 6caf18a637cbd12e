"""Where predictions go: a file of its own for each evaluation split, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.runs.predictions import prediction_files

RUN = Path("run")


@pytest.mark.parametrize(
    ("splits", "names"),
    [
        (["validation"], ["validation"]),
        (["test.jsonl"], ["test"]),
        (["test.en"], ["test"]),
        (["test.en", "test.de"], ["test.en", "test.de"]),
        (["en/test", "de/test"], ["en-test", "de-test"]),
        (["Test", "test"], ["Test-2", "test-3"]),
        (["test", "test.csv", "dev"], ["test-2", "test.csv", "dev"]),
        (["a.csv + b.csv"], ["a.csv-b"]),
        (["glob:test-*.parquet"], ["glob-test"]),
        (["глаз"], ["split"]),
        (["глаз", "нос"], ["split-2", "split-3"]),
        (["x" * 200 + "a", "x" * 200 + "b"], ["x" * 99 + "a", "x" * 99 + "b"]),
    ],
)
def test_no_two_splits_share_a_file(splits: list[str], names: list[str]) -> None:
    found = prediction_files(RUN, splits)
    assert {split: path.name for split, path in found.items()} == {
        split: f"{name}.jsonl" for split, name in zip(splits, names, strict=True)
    }
    assert {path.parent for path in found.values()} == {RUN / "predictions"}
    assert len({path.name.casefold() for path in found.values()}) == len(splits)
