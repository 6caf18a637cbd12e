"""What encoding keeps of an example, and how seldom it lets Python look for garbage meanwhile."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

import pytest

from autolora.tasks.encoding import SELDOM, Packer, seldom_collecting

EXAMPLES: list[dict[str, Any]] = [
    {"input_ids": [101, 65_535, 7], "attention_mask": [1, 1, 1], "label": "a"},
    {"input_ids": [101, 65_536], "attention_mask": [1, 1], "label": "b"},
    {"input_ids": [], "attention_mask": [], "label": None},
]


def test_a_packed_example_is_what_it_was() -> None:
    pack = Packer()
    assert [dict(pack(example)) for example in EXAMPLES] == EXAMPLES


def test_examples_packed_together_are_what_they_are_packed_one_by_one() -> None:
    columns = {name: [example[name] for example in EXAMPLES] for name in EXAMPLES[0]}
    together, alone = Packer().all(columns), [Packer()(example) for example in EXAMPLES]
    assert [dict(example) for example in together] == [dict(example) for example in alone] == EXAMPLES


def test_columns_of_different_lengths_are_no_examples() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Packer().all({"input_ids": [[1], [2]], "label": ["a"]})


def test_a_name_that_an_example_lacks_is_missing_in_every_way() -> None:
    example = Packer()(EXAMPLES[0])
    assert "label" in example
    assert "output_ids" not in example
    assert example.get("output_ids") is None
    with pytest.raises(KeyError, match="output_ids"):
        example["output_ids"]


@pytest.mark.parametrize(("given", "meanwhile"), [((700, 10, 10), SELDOM), ((0, 10, 10), 0), ((90_000, 5, 5), 90_000)])
def test_garbage_is_looked_for_seldom_and_then_as_before(given: tuple[int, int, int], meanwhile: int) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(*given)
        with suppress(RuntimeError), seldom_collecting():
            assert gc.get_threshold()[0] == meanwhile
            raise RuntimeError("ended early")
        assert gc.get_threshold() == given
    finally:
        gc.set_threshold(*before)
