"""The two sentences of a comparison, for each thing that may have come out."""

from __future__ import annotations

import pytest

from autolora.comparison.effects import TaskEffects, effects
from autolora.comparison.groups import scores_by_task
from autolora.comparison.summary import differences
from autolora.report.reading import lead, reading
from autolora.runs.results import Result
from tests.comparison.support import cell, cells

BASE = [0.50, 0.51, 0.49, 0.52, 0.50]
UP = [0.04, 0.05, 0.03, 0.045, 0.035]
NOISE = [0.02, -0.03, 0.01, -0.01, 0.011]


def compared(task: str, methods: dict[str, list[float]], **more: object) -> list[Result]:
    """Five seeds of a baseline, and of methods by their differences."""
    scores: dict[tuple[str, str], list[float | None]] = {(task, "base"): [*BASE]}
    for method, shift in methods.items():
        scores[task, method] = [a + b for a, b in zip(BASE, shift, strict=False)]
    return cells(scores, **more)


def found(results: list[Result]) -> list[TaskEffects]:
    return effects(differences(results, "base"), scores_by_task(results))


def sentences(results: list[Result]) -> tuple[str, str]:
    return lead(found(results), results), reading(found(results))


def test_one_method_is_better() -> None:
    head, below = sentences(compared("rte", {"good": UP, "same": NOISE}))
    assert head == "On rte, over 5 seeds, good is better than base, and 1 other is not told apart from it."
    assert below == (
        "good is better than base by +0.0400 [+0.0302, +0.0498] on rte; no other difference is told apart from chance."
    )


def test_one_method_is_worse() -> None:
    head, below = sentences(compared("rte", {"bad": [-x for x in UP]}))
    assert head == "On rte, over 5 seeds, bad is worse than base."
    assert below == "bad is worse than base by -0.0400 [-0.0498, -0.0302] on rte."


def test_better_and_worse() -> None:
    head, below = sentences(compared("rte", {"bad": [-x for x in UP], "good": UP}))
    assert head == "On rte, over 5 seeds, good is better than base, and bad is worse."
    assert below.startswith("good is better than base by +0.0400 [+0.0302, +0.0498] on rte; bad is worse by -0.0400 [")


def test_nothing_is_told_apart() -> None:
    head, below = sentences(compared("rte", {"a": NOISE, "b": [x / 2 for x in NOISE]}))
    assert head == "On rte, over 5 seeds, none of 2 methods is told apart from base."
    assert below.startswith("No difference to base is told apart from chance; the largest is a's +0.0002 [-0.0")
    assert below.endswith("] on rte.")
    alone, _ = sentences(compared("rte", {"a": NOISE}))
    assert alone == "On rte, over 5 seeds, a is not told apart from base."


def test_one_seed_has_no_interval_and_that_is_said() -> None:
    results = [cell("rte", method, 0, value) for method, value in (("base", 0.5), ("a", 0.52), ("b", 0.47))]
    head, below = sentences(results)
    assert head == "With 1 seed, too few, no method can be told apart from base on rte."
    assert below == (
        "With one seed a difference has no interval, and none is told apart from chance; "
        "the largest is b's -0.0300 on rte."
    )


def test_two_seeds_that_differ_by_the_same_have_none_either() -> None:
    results = [cell("rte", m, seed, v + seed / 10) for m, v in (("base", 0.5), ("a", 0.6)) for seed in (0, 1)]
    head, below = sentences(results)
    assert head.startswith("With 2 seeds, too few")
    assert below.startswith("With so few seeds a difference has no interval")


def test_seeds_that_all_differ_alike_are_not_called_too_few() -> None:
    results = [cell("rte", m, seed, v + seed / 10) for m, v in (("base", 0.5), ("a", 0.6)) for seed in range(4)]
    head, below = sentences(results)
    assert head == "With 4 seeds, all of which differ alike, no method can be told apart from base on rte."
    assert below.startswith("Where all seeds differ alike a difference has no interval")
    more = [cell("rte", "up", seed, 0.7 + seed / 5) for seed in range(4)]
    assert sentences([*results, *more])[0].endswith("and of 1 more there is no test.")


def test_no_seed_in_common() -> None:
    _, below = sentences([cell("rte", "base", 0, 0.5), cell("rte", "a", 1, 0.6)])
    assert below == "No method has a seed in common with base."


def test_some_methods_have_too_few_seeds() -> None:
    head, below = sentences(compared("rte", {"good": UP, "short": [0.1]}))
    assert head == "On rte, over 1 to 5 seeds, good is better than base, and of 1 more there are too few seeds to say."
    assert below.endswith("; no other difference is told apart from chance.")


def test_lower_is_better() -> None:
    results = compared("e2e", {"fewer": [-x for x in UP], "more": UP}, metric="ter", higher_is_better=False)
    head, below = sentences(results)
    assert head == "On e2e, over 5 seeds, fewer is better than base, and more is worse."
    assert below == (
        "fewer is better than base by +0.0400 [+0.0302, +0.0498] on e2e; more is worse by -0.0400 [-0.0498, -0.0302]; "
        "ter is better when lower, so + means less of it."
    )


def test_the_average_comes_first_and_single_tasks_after_it() -> None:
    results = [
        *compared("rte", {"good": UP, "same": NOISE, "also": UP}),
        *compared("cola", {"good": UP, "same": NOISE, "also": [10 * x for x in NOISE]}),
    ]
    head, below = sentences(results)
    assert head.startswith("On the average of 2 tasks, over 5 seeds, good is better than base")
    assert "good is better than base by +0.0400 [+0.0302, +0.0498] on the average of 2 tasks; " in below
    assert below.endswith("on single tasks, good is better on rte and cola, also is better on rte.")


def test_metrics_without_an_average_are_counted_and_each_task_has_its_part() -> None:
    results = [
        *compared("rte", {"good": UP, "same": NOISE}),
        *compared("e2e", {"good": UP, "same": NOISE}, metric="ter", higher_is_better=False),
    ]
    head, below = sentences(results)
    assert head == (
        "Of 4 differences to base on 2 tasks, whose metrics have no average, 1 is better, 1 worse and 2 not told "
        "apart from chance."
    )
    assert below.startswith(
        "good is better than base by +0.0400 [+0.0302, +0.0498] on rte; good is worse than base by "
    )
    assert below.endswith("on e2e; no other difference is told apart from chance; ter is better when lower, so + means "
                          "less of it.")  # fmt: skip


def test_many_are_counted_and_the_first_are_named() -> None:
    methods = {f"m{i}": [x * (1 + i / 10) for x in UP] for i in range(9)}
    head, below = sentences(compared("rte", {**methods, "bad": [-x for x in UP]}))
    assert head == "On rte, over 5 seeds, 9 of 10 methods are better than base (m8 the most), and bad is worse."
    assert "m8 is better than base by +0.0720" in below
    assert "m6 by +0.0640" in below
    assert "and 6 more (see the table); bad is worse by -0.0400" in below
    assert "m5" not in below


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (
            [cell("rte", "autolora", seed, value) for seed, value in enumerate((0.5, 0.7))],
            "autolora alone, with nothing to compare it with: accuracy 0.6000 on rte (2 seeds).",
        ),
        ([cell("rte", "autolora", 0, None)], "autolora on 1 task, not compared: the tables have the scores."),
        (
            [cell("rte", "a", 0, 0.5), cell("cola", "b", 0, 0.5)],
            "2 methods on 2 tasks, not compared: the tables have the scores.",
        ),
    ],
)
def test_without_a_comparison(results: list[Result], said: str) -> None:
    assert lead([], results) == said
