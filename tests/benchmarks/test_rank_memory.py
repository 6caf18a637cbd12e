"""The benchmark of memory by ranks: sizes that are the same in all, and one training in short."""

from __future__ import annotations

import json

import pytest

from benchmarks.rank_memory import MANY, RANK, UNIFORM, main, ranks_of


def test_many_ranks_are_as_many_in_all() -> None:
    names = [f"layer.{i}" for i in range(12)]
    many, uniform = ranks_of(MANY, names), ranks_of(UNIFORM, names)
    assert sum(many[name] for name in names) == sum(uniform[name] for name in names) == 12 * RANK
    assert len({many[name] for name in names}) > 5
    assert {uniform[name] for name in names} == {RANK}


def test_a_training_says_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "--one",
            "many",
            "--steps",
            "2",
            "--width",
            "32",
            "--layers",
            "1",
            "--longest",
            "9",
            "--batch-size",
            "2",
            "--precision",
            "float32",
        ]
    )
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["before"] <= found["peak"]
