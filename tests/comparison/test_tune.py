"""Which rate is chosen, from results that are made up; which trials there are, from recipes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.choices import Choice, Tuning, tuning_table
from autolora.comparison.keys import trial_key
from autolora.comparison.outcome import Captioned, outcome
from autolora.comparison.plan import check_plan
from autolora.comparison.tune import check_tuning, reported_results, reported_trials, tuning_seed, tuning_trials
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.tuning import RateRange, parse_tune, tuned_rates
from autolora.runs.results import Result
from tests.comparison.support import cell

RATES = (1e-4, 3e-4, 1e-3)
LORA = parse_method("lora:4")


def choice(*scores: float | None, word: str = "lora:4", **more: Any) -> Choice:
    """On the task `tiny`, one score for each rate; None for a trial that failed."""
    results = {
        rate: cell("tiny", f"{word}:learning_rate={rate:g}", 9, score, **more)
        for rate, score in zip(RATES, scores, strict=True)
    }
    return Choice("tiny", parse_method(word), results)


@pytest.fixture
def recipe(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml")


@pytest.mark.parametrize(
    ("scores", "up", "rate"),
    [
        ((0.5, 0.7, 0.6), True, 3e-4),
        ((0.5, 0.7, 0.6), False, 1e-4),
        ((0.7, 0.5, 0.7), True, 1e-4),  # a tie: the smaller
        ((0.9, 0.3, 0.3), False, 3e-4),
        ((0.1, 0.2, None), True, 3e-4),  # a trial that failed is the worst, whatever the direction
        ((None, 0.9, 0.8), False, 1e-3),
        ((0.1, math.nan, math.inf), True, 1e-4),  # no score either
        ((-0.2, -0.1, None), True, 3e-4),
        ((None, None, None), True, None),
    ],
)
def test_the_best_score_is_chosen_in_the_metrics_direction(
    scores: tuple[float | None, ...], up: bool, rate: float | None
) -> None:
    assert choice(*scores, higher_is_better=up).rate == rate


def test_a_failure_says_nothing_about_the_metrics_direction() -> None:
    """A run that failed has no metric, and a default direction."""
    results = dict(choice(0.5, 0.2, None, higher_is_better=False).results)
    results[1e-3] = cell("tiny", "lora:4", 9, None, metric=None, higher_is_better=True)
    assert Choice("tiny", LORA, results).rate == 3e-4


def table(*choices: Choice) -> Captioned:
    return tuning_table(Tuning({(c.recipe, c.method): c for c in choices}).rows())


@pytest.mark.parametrize(
    ("scores", "end"),
    [((0.9, 0.2, 0.1), "smallest of the grid, 0.0001"), ((0.1, 0.2, 0.9), "largest of the grid, 0.001")],
)
def test_a_winner_at_the_edge_of_the_grid_is_said(scores: tuple[float, ...], end: str) -> None:
    assert table(choice(*scores)).notes[1:] == (f"tiny, lora:4: the best rate is the {end}: widen it.",)


def test_methods_at_the_same_edge_share_a_line() -> None:
    largest = [choice(0.1, 0.2, 0.9, word=word) for word in ("lora:1", "lora:2")]
    assert table(largest[0], choice(0.9, 0.2, 0.1), largest[1]).notes[1:] == (
        "tiny, lora:1, lora:2: the best rate is the largest of the grid, 0.001: widen it.",
        "tiny, lora:4: the best rate is the smallest of the grid, 0.0001: widen it.",
    )


@pytest.mark.parametrize("scores", [(0.1, 0.9, 0.2), (0.1, 0.9, None), (None, None, None)])
def test_nothing_is_said_where_the_winner_has_neighbours_or_there_is_none(scores: tuple[float | None, ...]) -> None:
    (about,) = table(choice(*scores, reason="step 3: the loss is nan: the training has diverged")).notes
    assert "on 10% of the training split, held out, with seed 9, which is not reported" in about


def test_a_trial_that_failed_for_another_reason_is_named_and_no_edge_is_seen_behind_it() -> None:
    found = table(choice(0.5, 0.2, None, reason="No space left on device"), choice(0.5, 0.2, None, word="lora:2"))
    assert found.notes[1:] == ("tiny, lora:4, lora:2: not chosen among, as its trial failed: 0.001.",)
    assert [row["0.001"] for row in found.rows] == ["failed", "failed"]
    (row,) = table(choice(0.5, 0.2, None, reason="the training has diverged")).rows
    assert row["0.001"] == "diverged"


def test_a_rate_is_shown_with_every_digit_that_it_was_trained_with() -> None:
    rates = (1e-4, 10**-3.5, 10**-3.5 * (1 + 1e-9))
    results = {rate: cell("tiny", "lora:4", 9, score) for rate, score in zip(rates, (0.1, 0.2, 0.3), strict=True)}
    row = Choice("tiny", LORA, results).row()
    assert float(str(row["chosen"])) == rates[2]
    assert [row[name] for name in row if name[0].isdecimal()] == [0.1, 0.2, 0.3]
    searched = Choice("tiny", LORA, results, RateRange(rates[1], rates[2]))
    assert parse_tune(f"learning_rate={searched.row()['range']}") == searched.searched


def test_the_table_has_the_scores_the_choice_and_the_cost() -> None:
    took = {"stages": {"search": {"seconds": 2.0}, "retrain": {"seconds": 8.0}, "eval": {"seconds": 99.0}}}
    found = choice(0.5, 0.7, None, manifest=took)
    brought = cell("tiny", "autolora", 9, 0.5, manifest=took)
    (row, built_on) = Tuning({("tiny", LORA): found}, (brought,)).rows()
    assert dict(row) == {
        "task": "tiny",
        "method": "lora:4",
        "metric": "accuracy",
        "seed": 9,
        "0.0001": 0.5,
        "0.0003": 0.7,
        "0.001": "failed",
        "chosen": "0.0003",
        "tuning s": 30,
    }
    assert dict(built_on) == {"task": "tiny", "method": "autolora (built on)", "tuning s": 10}
    results = [cell("tiny", "lora:4", 0, 0.5), cell("tiny", "lora:8", 0, 0.5)]
    tables = outcome(results, tuning=tuning_table([row, built_on]))
    assert [each.stem for each in tables] == ["scores", "differences", "tuning", "costs"]
    assert tables[-1].notes == ("Choosing the learning rates took 40 s of search and retraining beside this.",)
    assert "tuning s" not in tables[2].markdown, "comparison.md is the same on every machine"
    assert outcome(results)[-1].notes == ()


def test_the_seed_is_none_that_is_reported_and_stays_when_seeds_are_added() -> None:
    assert tuning_seed(range(5)) == tuning_seed(range(50)) == 2**32 - 1
    assert tuning_seed([2**32 - 1, 0, 2**32 - 3]) == 2**32 - 2


def test_trials_of_tuning_never_name_the_recipes_evaluation_splits(recipe: Recipe, tmp_path: Path) -> None:
    methods = parse_methods("lora:2,lora:4:learning_rate=1e-2,lora-matched,svd")
    trials = tuning_trials([recipe], methods, [0, 1], RATES, tmp_path)
    assert {trial.recipe.data.splits.eval for trial in trials} == {("held-out",)}
    assert {trial.recipe.data.splits.held_out for trial in trials} == {0.1}
    assert {trial.recipe.seed for trial in trials} == {2**32 - 1}
    assert {trial.tuning for trial in trials} == {True}
    at = {rate: f":learning_rate={rate:g}" for rate in RATES}
    wanted = [f"{word}{at[rate]}" for word in ("lora:2", "lora-matched", "svd") for rate in RATES]
    assert [trial.method for trial in trials if trial.wanted] == wanted, "a method with a rate keeps it"
    # AutoLoRA's ranks are the same at any rate of the retraining; svd compresses a LoRA of its own rate.
    built_on = ["autolora", *(f"lora:4{at[rate]}" for rate in RATES)]
    assert [trial.method for trial in trials if not trial.wanted] == built_on
    plain = recipe.model_copy(update={"method": trials[0].recipe.method, "seed": trials[0].recipe.seed})
    assert trial_key(plain) != trial_key(trials[0].recipe)


def settled(choices: Mapping[str, Choice]) -> Tuning:
    return Tuning({("tiny", parse_method(word)): found for word, found in choices.items()})


def test_reported_trials_have_the_rate_that_was_chosen_or_say_that_it_is_not_yet(
    recipe: Recipe, tmp_path: Path
) -> None:
    methods = parse_methods("lora:2,lora:4,autolora,lora-matched,svd,lora:1:learning_rate=1e-4")
    tuning = settled({"lora:2": choice(0.1, 0.2, 0.1, word="lora:2"), "lora:4": choice(None, None, None)})
    trials = reported_trials([recipe], methods, [0], tmp_path, tuning, RATES)
    later = "at the rate that tuning chooses"
    assert [trial.name for trial in trials] == [
        "tiny lora:2:learning_rate=0.0003 seed 0",  # of lora:4 there is none: no rate had a score
        f"tiny autolora seed 0 {later}",
        "tiny autolora seed 0",
        f"tiny lora-matched seed 0 {later}",
        f"tiny lora:4 seed 0 {later}",
        f"tiny svd seed 0 {later}",
        "tiny lora:1:learning_rate=0.0001 seed 0",
    ]
    assert [trial.wanted for trial in trials] == [True, True, False, True, False, True, True]
    check_plan([recipe], [trial.recipe.method for trial in trials])


def test_the_plan_is_the_same_in_whatever_company(recipe: Recipe, tmp_path: Path) -> None:
    """The ranks of lora-matched do not depend on whether AutoLoRA is compared, too, and at which rate."""
    matched = choice(0.1, 0.2, 0.1, word="lora-matched")
    alone = reported_trials(
        [recipe], parse_methods("lora-matched"), [0], tmp_path, settled({"lora-matched": matched}), RATES
    )
    both = settled({"autolora": choice(0.3, 0.2, 0.1, word="autolora"), "lora-matched": matched})
    together = reported_trials([recipe], parse_methods("autolora,lora-matched"), [0], tmp_path, both, RATES)
    keys = {trial_key(trial.recipe) for trial in together}
    assert {trial_key(trial.recipe) for trial in alone} < keys
    assert len(keys) == len(alone) + 1


def test_a_method_none_of_whose_rates_has_a_score_is_refused_with_the_reason(recipe: Recipe) -> None:
    tuning = settled({"lora:4": choice(None, None, None, reason="the loss is not finite")})
    found = reported_results([recipe], [LORA], [0, 1], tuning, {})
    assert [(each.method, each.seed, each.state) for each in found] == [
        ("lora:4", 0, "missing"),
        ("lora:4", 1, "missing"),
    ]
    assert found[0].reason == (
        "no learning rate of the grid (0.0001, 0.0003, 0.001) gave it a score: the loss is not finite"
    )
    assert isinstance(found[0], Result)
    searched = Choice("tiny", LORA, choice(None, None, None).results, RateRange(1e-4, 1e-3))
    (missing,) = reported_results([recipe], [LORA], [0], settled({"lora:4": searched}), {})
    assert str(missing.reason).startswith("no learning rate of the range log:0.0001..0.001 (0.0001, 0.0003, 0.001)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate", "--tune: write learning_rate=RATE,RATE,…, as in learning_rate=1e-4,3e-4,1e-3, or a range"),
        ("rank=1,2", "--tune: what is tuned is learning_rate, got 'rank'"),
        ("learning_rat=1,2", "did you mean 'learning_rate'"),
        ("learning_rate=1e-4,high", "--tune: a learning rate is a finite number above 0 and at most 100, got 'high'"),
        ("learning_rate=1e-4,-1", "got '-1'"),
        ("learning_rate=1e-4,nan", "got 'nan'"),
        ("learning_rate=1e-4,0.0001", "--tune: a grid has two different rates or more, got 1"),
        ("learning_rate=", "got 0"),
    ],
)
def test_a_grid_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_tune(text)
    assert message in str(error.value)


def test_a_grid_is_ascending_and_has_each_rate_once() -> None:
    assert parse_tune("learning_rate=1e-3, 1e-4,3e-4,0.001") == RATES
    assert tuned_rates({"learning_rate": [1e-3, 1e-4, 3e-4]}) == RATES


def test_where_there_is_nothing_to_tune_or_no_rows_to_tune_on_it_is_said(recipe: Recipe, laboratory: Path) -> None:
    with pytest.raises(UserError, match=r"every method has a learning rate in its word: lora:4:learning_rate=0\.001"):
        check_tuning([recipe], parse_methods("lora:4:learning_rate=1e-3"))
    held = load_recipe(laboratory / "tiny.yaml", ["data.splits.held_out=0.2", "data.splits.eval=[held-out]"])
    with pytest.raises(UserError, match=r"tiny holds out a part of its training split already"):
        check_tuning([held], [LORA])
