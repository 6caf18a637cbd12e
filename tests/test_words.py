"""Hints for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from autolora.words import did_you_mean

CHOICES = ("quickstart", "glue/cola", "glue/rte")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quickstrat", "did you mean 'quickstart'?"),
        ("glue/coal", "did you mean 'glue/cola'?"),
        ("glue/rte", "did you mean 'glue/rte'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_meant_and_none_where_nothing_is_near(name: str, hint: str) -> None:
    assert did_you_mean(name, CHOICES) == hint


@pytest.mark.parametrize(
    "choices", [iter(CHOICES), dict.fromkeys(CHOICES), set(CHOICES)], ids=["iterator", "dict", "set"]
)
def test_choices_may_be_anything_that_is_gone_through_once(choices: Iterable[str]) -> None:
    assert did_you_mean("quickstrat", choices) == "did you mean 'quickstart'?"


def test_without_choices_there_is_no_hint() -> None:
    assert did_you_mean("quickstart", []) == ""
