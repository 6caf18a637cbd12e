"""Answers as they are written."""

from __future__ import annotations

import io
import json

import pytest

from autolora.evaluation.answers import FORMATS, AnswerWriter


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_character_that_is_passed_on_leaves_the_file_utf_8(kind: str) -> None:
    written = io.BytesIO()
    AnswerWriter(written, kind).write("rows.jsonl:1", {"id": "a \ud83d b"}, {"prediction": "é"})
    text = written.getvalue().decode("utf-8")
    assert "\\ud83d" in text
    if kind == "jsonl":
        assert json.loads(text) == {"id": "a \ud83d b", "prediction": "é"}
