"""The log of a stage: what a checkpoint says of it is there, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.training.log import MetricLog
from tests.laboratory import flip_bit


@pytest.fixture
def log(tmp_path: Path) -> MetricLog:
    return MetricLog(tmp_path / "log.jsonl")


def again(log: MetricLog) -> MetricLog:
    """As another process finds it."""
    return MetricLog(log.path)


def test_what_came_after_the_mark_is_forgotten(log: MetricLog, tmp_path: Path) -> None:
    log.clear()
    assert log.mark()["log_bytes"] == 0
    log.add({"step": 1})
    log.add({"step": 2})
    marked = log.mark()
    log.add({"step": 3})
    other = again(log)
    other.cut(marked, tmp_path / "checkpoint")
    assert other.records() == [{"step": 1}, {"step": 2}]
    assert other.mark() == marked
    other.add({"step": 3})
    assert other.mark() == log.mark(), "however often it is interrupted"


def test_a_log_that_is_shorter_than_it_was_is_refused_and_stays_as_it_is(log: MetricLog, tmp_path: Path) -> None:
    log.add({"step": 1})
    marked = log.mark()
    for left in (log.path.read_bytes()[:-3], b""):
        log.path.write_bytes(left)
        with pytest.raises(
            UserError, match=rf"it has {len(left)} bytes, and had 12 when its .* remove .*x to start the"
        ):
            again(log).cut(marked, tmp_path / "x")
        assert log.path.read_bytes() == left
    log.path.unlink()
    with pytest.raises(UserError, match="it has 0 bytes, and had 12"):
        again(log).cut(marked, tmp_path / "x")


def test_one_bit_is_refused(log: MetricLog, tmp_path: Path) -> None:
    log.add({"step": 1})
    marked = log.mark()
    log.add({"step": 2})
    flip_bit(log.path, 0.2)
    with pytest.raises(UserError, match=r"the SHA-256 of its first 12 bytes is \w+, and was \w+ when its checkpoint"):
        again(log).cut(marked, tmp_path / "x")
    again(log).cut({"log_bytes": 12}, tmp_path / "x")  # of an earlier version


def test_half_a_line_at_the_end_is_none(log: MetricLog) -> None:
    log.add({"step": 1})
    with log.path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert log.records() == [{"step": 1}]
