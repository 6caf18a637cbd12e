"""Rows have one fingerprint where, and only where, their inputs are the same; likewise with their labels."""

from __future__ import annotations

from typing import Any

import pytest

from autolora.experiment.fingerprints import Fingerprints, contradictions, fingerprints, shared


def prints(*rows: tuple[Any, ...]) -> Fingerprints:
    """Of rows with two columns of input and a label."""
    columns = dict(zip(("a", "b", "label"), map(list, zip(*rows, strict=True)), strict=True))
    return fingerprints(columns, ["a", "b"], "label")


DIFFERENT = [
    ("ab", "", "c"),
    ("a", "b", "c"),
    ("a', 'b", "", "c"),
    ("a", "b')'c'", "c"),
    ("a\x00b", "c", "c"),
    ("a", "\x00b", "c"),
    (["a", "b"], "c", "c"),
    ("['a', 'b']", "c", "c"),
    (["a", None], "c", "c"),
    (["a", "None"], "c", "c"),
    (None, "c", "c"),
    ("None", "c", "c"),
    ("é", "c", "c"),
    ("e\u0301", "c", "c"),
    ("\\xe9", "c", "c"),
]


def test_different_inputs_have_different_fingerprints() -> None:
    found = prints(*DIFFERENT)
    assert found.distinct == len(DIFFERENT)
    assert contradictions(found) is None


@pytest.mark.parametrize("row", DIFFERENT)
def test_the_same_input_is_found_wherever_it_stands(row: tuple[Any, ...]) -> None:
    alone, all_of_them = prints(row), prints(*DIFFERENT)
    found = shared(alone, all_of_them)
    assert found is not None
    assert (found.rows, found.other_label, found.first) == (1, 0, (0, DIFFERENT.index(row)))


def test_labels_that_differ_are_told_and_two_writings_of_one_are_not() -> None:
    rows = [("x", "y", "1"), ("x", "y", "1.0"), ("z", "y", "2"), ("z", "y", "3"), ("z", "y", "2")]
    columns = dict(zip(("a", "b", "label"), map(list, zip(*rows, strict=True)), strict=True))
    found = contradictions(fingerprints(columns, ["a", "b"], "label", float))
    assert found is not None
    assert (found.rows, found.inputs, found.first) == (3, 1, (2, 3))


def test_no_rows_have_no_fingerprints() -> None:
    found = fingerprints({"a": [], "label": []}, ["a"], "label")
    assert (found.distinct, len(found.inputs)) == (0, 0)
