"""Trainings that take turns: in which order, how long, and what comes of errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.turns import Training, in_turns, steps_in_all


def recorded(name: str, seen: list[str], steps: int) -> Training:
    def train(step: Callable[[], None]) -> None:
        for _ in range(steps):
            seen.append(name)
            step()

    return train


def test_blocks_alternate_and_nobody_always_goes_first() -> None:
    seen: list[str] = []
    total = steps_in_all(2, 1, 2)
    found = in_turns({name: recorded(name, seen, total) for name in "ab"}, block=2, warmup=1, blocks=2)
    assert "".join(seen) == "aabb" + "bbaa" + "aabb"
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}
    assert all(second >= 0 for seconds in found.values() for second in seconds)


def test_what_a_device_has_to_do_is_waited_for_at_every_block_end() -> None:
    seen: list[str] = []
    in_turns({"a": recorded("a", seen, 4)}, block=2, warmup=0, blocks=2, settle=lambda: seen.append("."))
    assert "".join(seen) == "aa.aa."


def test_an_error_is_raised_where_the_turns_are_given() -> None:
    def fails(step: Callable[[], None]) -> None:
        step()
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        in_turns({"a": fails}, block=1, warmup=0, blocks=2)


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_training_of_another_length_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="b did not take 2 steps"):
        in_turns({"a": recorded("a", [], 2), "b": recorded("b", [], steps)}, block=1, warmup=0, blocks=2)
