"""Metrics of what a model says of the references' tokens."""

from __future__ import annotations

import math

import pytest

from autolora.errors import RunError
from autolora.metrics.compute import score
from autolora.metrics.perplexity import METRIC, perplexity
from autolora.metrics.token_accuracy import token_accuracy


def test_a_guess_among_v_tokens_has_perplexity_v_however_long_the_references() -> None:
    for tokens in ([1], [3, 7], [100, 1, 1]):
        told = [(-n * math.log(50), 0) for n in tokens]
        assert perplexity(told, tokens)["perplexity"] == pytest.approx(50, rel=1e-12)


def test_all_tokens_weigh_alike() -> None:
    assert perplexity([(-2.0, 0), (0.0, 3)], [1, 3])["perplexity"] == pytest.approx(math.exp(0.5))
    assert token_accuracy([(-2.0, 0), (-1.0, 3)], [1, 3])["token_accuracy"] == 0.75


def test_a_perplexity_beyond_floating_point_is_a_diverged_training() -> None:
    with pytest.raises(RunError, match=r"the score perplexity is inf: .* diverged"):
        METRIC.scores([(-1e4, 0)], [1])


@pytest.mark.parametrize(
    ("told", "tokens", "message"),
    [
        ((0.1, 0), 1, "a log-likelihood is 0 or less, got 0.1"),
        ((math.nan, 0), 1, "a log-likelihood is 0 or less, got nan"),
        ((-1.0, 2), 1, "hits are a number from 0 to the 1 tokens, got 2"),
        ((-1.0, 0.5), 1, "hits are a number from 0 to the 1 tokens, got 0.5"),
        ((-1.0, 0), 0, "a reference is a number of tokens, 1 or more, got 0"),
        ((-1.0,), 1, "a prediction is a log-likelihood and a number of hits"),
    ],
)
@pytest.mark.parametrize("name", ["perplexity", "token_accuracy"])
def test_what_no_model_can_say_is_refused(name: str, told: tuple[float, ...], tokens: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"example 1: {message}"):
        score([name], [told], [tokens])
