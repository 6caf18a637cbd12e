"""Predictions in the making: what was written is gone on with, what was not is refused or made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.evaluation.part import Part

IDENTITY = "ab" * 32
BATCHES = [[(0, {"prediction": "ü"}), (3, {"prediction": ""})], [(1, {"prediction": "b"})], [(2, {"prediction": None})]]
RECORDS = [record for batch in BATCHES for record in batch]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with some batches in it."""
    part = Part(tmp_path / "new" / ".test-0.part", IDENTITY)
    assert list(part.records()) == []
    for batch in BATCHES:
        part.add(batch)
    return part.path


def found(path: Path, identity: str = IDENTITY) -> list[tuple[int, dict[str, object]]]:
    return [(index, record) for index, record in Part(path, identity).records()]


def test_every_bit_is_refused_or_belongs_to_a_batch_that_is_predicted_anew(path: Path) -> None:
    kept = path.read_bytes()
    last = len(kept) - 1
    for place in range(len(kept)):
        for bit in range(7):
            data = bytearray(kept)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            if place == last:  # the line break itself: half a line
                assert found(path) == RECORDS[:-1]
                continue
            with pytest.raises(
                UserError, match=rf"{path.name}, line \d, is not what was written: .*; remove the file to"
            ):
                found(path)


def test_whatever_is_cut_off_is_predicted_anew_and_the_file_ends_as_if_nothing_had_been(path: Path) -> None:
    kept = path.read_bytes()
    for size in range(len(kept)):
        for tail in (b"", b"\0" * 9):
            path.write_bytes(kept[:size] + tail)
            part = Part(path, IDENTITY)
            there = [(index, record) for index, record in part.records()]
            assert there == RECORDS[: len(there)]
            for batch in BATCHES:
                if batch[0] not in there:
                    part.add(batch)
            assert path.read_bytes() == kept


def test_a_line_that_is_missing_is_refused(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(UserError, match="line 3, is not what was written"):
        found(path)


def test_another_identity_and_an_earlier_version_are_made_anew(path: Path) -> None:
    assert found(path, "other settings") == []
    assert found(path, "other settings") == []
    path.write_text(f'{IDENTITY}\n[[0, {{"prediction": "a"}}]]\n')
    assert found(path) == []
