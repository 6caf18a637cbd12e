"""What holds for each metric of the registry."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest

from autolora.metrics.base import Metric, Score
from autolora.metrics.compute import headline, score
from autolora.registry import METRICS

# (higher is better, low, high) of each output, in the table's order; the headline's name in front.
OUTPUTS: dict[str, tuple[str, dict[str, tuple[bool, float | None, float | None]]]] = {
    "accuracy": ("accuracy", {"accuracy": (True, 0, 1)}),
    "bleu": ("bleu", {"bleu": (True, 0, 1)}),
    "chrf": ("chrf++", {"chrf++": (True, 0, 1)}),
    "cider": ("cider", {"cider": (True, 0, 10)}),
    "entities": ("f1", dict.fromkeys(("precision", "recall", "f1", "accuracy"), (True, 0, 1))),
    "exact_match": ("exact_match", {"exact_match": (True, 0, 1)}),
    "f1": ("f1", {"f1": (True, 0, 1)}),
    "last_number": ("last_number", {"last_number": (True, 0, 1)}),
    "matthews": ("matthews_correlation", {"matthews_correlation": (True, -1, 1)}),
    "meteor": ("meteor", {"meteor": (True, 0, 1)}),
    "nist": ("nist", {"nist": (True, 0, None)}),
    "pearson": ("pearson", {"pearson": (True, -1, 1)}),
    "perplexity": ("perplexity", {"perplexity": (False, 1, None)}),
    "relative_error": ("relative_error", {"relative_error": (False, 0, None)}),
    "rouge_l": ("rouge_l", {"rouge_l": (True, 0, 1)}),
    "spearman": ("spearman", {"spearman": (True, -1, 1)}),
    "ter": ("ter", {"ter": (False, 0, None)}),
    "token_accuracy": ("token_accuracy", {"token_accuracy": (True, 0, 1)}),
}
JAVA = ("cider", "meteor", "rouge_l")
EVERY = [
    pytest.param(name, marks=pytest.mark.skipif(name in JAVA and shutil.which("java") is None, reason="needs Java"))
    for name in METRICS
]

NUMBERS = [1, 0, 1, 1, 0, 0, 1, 0]
TAGS = [["B-x", "I-x", "O"], ["O", "B-y"], ["B-x", "O", "B-y", "I-y"]]
VECTORS = [[[[1.0, 0.5]], [[0.0, 0.0]]], [[[-2.0, 0.0]], [[1.0, 0.0]]]]
ANSWERS = [["6 * 7 = 42\n#### 42"], ["#### 1,080", "1080.0"], ["-3/4"]]
TOKENS = [5, 3, 1]
TEXTS = [
    "the quick brown fox jumps over a lazy dog",
    "there are seven small houses near our river",
    "nobody had ever asked him about his work",
]


def truth(name: str) -> tuple[list[Any], list[Any], list[Any]]:
    """References, perfect predictions, and predictions that are partly wrong, for a metric."""
    if name == "entities":
        return TAGS, TAGS, [["B-x", "O", "O"], ["O", "B-y"], ["B-y", "O", "B-y", "I-y"]]
    if name in ("accuracy", "f1", "matthews", "pearson", "spearman"):
        return NUMBERS, NUMBERS, [1, 0, 0, 1, 1, 0, 1, 0]
    if name == "last_number":
        return ANSWERS, ["So 42.", "$1,080", "it is -0.75"], ["So 42.", "#### 42", "no idea"]
    if name in ("perplexity", "token_accuracy"):  # of a log-likelihood and hits
        return TOKENS, [(0.0, 5), (0.0, 3), (0.0, 1)], [(-9.5, 2), (-0.25, 3), (-7.0, 0)]
    if name == "relative_error":
        return VECTORS, [right for right, _ in VECTORS], [before for _, before in VECTORS]
    return [[text] for text in TEXTS], TEXTS, [TEXTS[0], "there are many small houses here", "somebody asked"]


def best(given: Score) -> float | None:
    return given.high if given.higher_is_better else given.low


def test_every_registered_metric_is_looked_at_here() -> None:
    assert sorted(OUTPUTS) == sorted(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_it_is_a_metric_of_that_name_with_this_direction_and_range(name: str) -> None:
    metric = METRICS.load(name)
    compared_by, outputs = OUTPUTS[name]
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert [(each.name, (each.higher_is_better, each.low, each.high)) for each in metric.outputs] == list(
        outputs.items()
    )
    assert headline(name) is metric.headline
    assert metric.headline.name == compared_by


@pytest.mark.usefixtures("one_begun")
@pytest.mark.parametrize("name", EVERY)
def test_a_perfect_prediction_is_at_the_best_end_and_a_worse_one_is_not(name: str) -> None:
    references, perfect, worse = truth(name)
    for right, wrong in zip(score([name], perfect, references), score([name], worse, references), strict=True):
        assert right.value is not None
        assert wrong.value is not None
        if best(right) is not None:
            assert right.value == pytest.approx(best(right))
        gain = right.value - wrong.value if right.higher_is_better else wrong.value - right.value
        assert gain > 0.01


@pytest.mark.usefixtures("one_begun")
@pytest.mark.parametrize("name", EVERY)
def test_no_prediction_leaves_the_range(name: str) -> None:
    references, perfect, worse = truth(name)
    chance = random.Random(7)
    for _ in range(3 if name in JAVA else 20):
        pool = [*perfect, *worse]
        if name == "entities":  # as many tags as the sentence has
            predictions = [chance.sample([*tags, "O", "I-y"], len(tags)) for tags in references]
        else:
            predictions = [chance.choice(pool) for _ in references]
        if name in ("perplexity", "token_accuracy"):
            predictions = [(-chance.expovariate(0.1), chance.randint(0, tokens)) for tokens in references]
        for given in score([name], predictions, references):
            if given.value is None:
                assert name in ("pearson", "spearman")  # of a constant
                continue
            assert given.low is None or given.low - 1e-9 <= given.value
            assert given.high is None or given.value <= given.high + 1e-9


@pytest.mark.parametrize("name", METRICS)
def test_unequal_lengths_and_no_examples_are_value_errors(name: str) -> None:
    references, perfect, _ = truth(name)
    count = len(references)
    with pytest.raises(ValueError, match=f"{count} predictions but {count - 1} references"):
        score([name], perfect, references[:-1])
    with pytest.raises(ValueError, match="no predictions to score: the metric got no examples"):
        score([name], [], [])
