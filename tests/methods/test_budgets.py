"""What methods may spend: a budget of their own, the recipe's, or what a squeeze finds; no AutoLoRA is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.comparison.plan import plan
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.experiment.preflight import load_recipe
from autolora.methods.base import method_class, method_of
from autolora.methods.budgets import nearest_uniform
from autolora.recipe.method import label, parse_method, parse_methods
from tests.methods.linked import built_on, spent
from tests.methods.squeezed import FULL, SETTINGS, TOLERANT, K, evidence_of, searched, squeezed

SHAPES = (64, 64, 96, 64, 64, 96)  # parameters of a component
LIMITS = {
    "0.05": int(0.05 * FULL),
    "0.25": FULL // 4,
    "0.37": int(0.37 * FULL),
    "0.99": int(0.99 * FULL),
    "parameters=70": 70,
    "parameters=333": 333,
    f"parameters={10 * FULL}": FULL,
    "rank=1": FULL // K,
    "rank=3": 3 * FULL // K,
}
METHODS = ["lora-matched", "random", "adalora", "eva", "svd"]


@pytest.mark.parametrize("name", ["squeeze", "squeeze-uniform", "squeeze-shuffled", "fisher-scratch"])
def test_a_squeeze_never_exceeds_its_budget_and_leaves_less_than_a_component(
    learner: Path, tmp_path: Path, name: str
) -> None:
    assert sum(SHAPES) * K == FULL
    found = {}
    for budget, limit in LIMITS.items():
        _, ranks = searched(learner, tmp_path, f"{name}:budget={budget}", "retrain.steps=12")
        found[budget] = ranks.parameters
        assert limit - max(SHAPES) < ranks.parameters <= limit
        assert ranks.parameters == sum(rank * cost for rank, cost in zip(ranks.values(), SHAPES, strict=True))
        assert ranks == {layer: len(kept) for layer, kept in ranks.kept.items()}
    assert len(set(found.values())) == len(LIMITS) - 2  # two pairs of them buy the same


@pytest.mark.parametrize("name", ["squeeze", "autolora"])
def test_a_budget_that_buys_nothing_says_what_the_least_is(learner: Path, tmp_path: Path, name: str) -> None:
    run, context = squeezed(learner, tmp_path, f"{name}:budget=parameters=63", "search.steps=4", "retrain.steps=12")
    with pytest.raises(
        UserError, match=r"the budget \(parameters 63\) is smaller than one component of any layer, the "
    ):
        search(run, context)
    assert not (run.path / "search" / "ranks.json").exists()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("budget", ["rank=1", "0.4"])
def test_no_autolora_is_needed_for_a_budget(learner: Path, tmp_path: Path, name: str, budget: str) -> None:
    word = f"{name}:budget={budget}"
    run, context = squeezed(learner, tmp_path, word)
    needed = method_class(name).needs(run.recipe)
    assert [label(each) for each in needed] == (["lora:4"] if name == "svd" else [])
    if name == "svd":
        uniform, _ = squeezed(learner, tmp_path, "lora:4")
        search(uniform, context)
        retrain(uniform, context)
        run, context = built_on(learner, tmp_path, word, uniform, overrides=SETTINGS)
    if method_of(run).searches:
        search(run, context)
    retrain(run, context)
    evaluate(run, context)
    ranks = run.ranks()
    parameters = sum(rank * cost for rank, cost in zip(ranks.values(), SHAPES, strict=True))
    even = nearest_uniform(dict(zip(ranks, SHAPES, strict=True)), LIMITS.get(budget, int(0.4 * FULL)))
    if name in ("adalora", "eva"):  # which move ranks between layers, whatever their shapes
        assert ranks.total == sum(even.values())
    else:
        assert LIMITS.get(budget, int(0.4 * FULL)) - min(SHAPES) < parameters <= LIMITS.get(budget, int(0.4 * FULL))
    if name == "lora-matched":
        assert ranks == even
    own = spent(run, "retrain")
    more = ranks.total if name == "adalora" else 0  # its singular values
    assert own["trainable_parameters"] - own["head_parameters"] == parameters + more


@pytest.mark.parametrize("name", METHODS)
def test_a_tolerance_has_the_size_that_the_squeeze_finds(learner: Path, tmp_path: Path, name: str) -> None:
    more = TOLERANT
    source, found = searched(learner, tmp_path, "squeeze:budget=tolerance=0.2", *more)
    word = f"{name}:budget=tolerance=0.2"
    run, context = squeezed(learner, tmp_path, word, *more)
    needed = [label(each) for each in method_class(name).needs(run.recipe)]
    assert needed == ["squeeze:budget=tolerance=0.2", *(["lora:4"] if name == "svd" else [])]
    with pytest.raises(
        UserError, match=f"method '{name}' builds on a run of squeeze:budget=tolerance=0.2 with the sam"
    ):
        (search if method_of(run).searches else retrain)(run, context)
    runs = [source]
    if name == "svd":
        uniform, _ = squeezed(learner, tmp_path, "lora:4", *more)
        search(uniform, context)
        retrain(uniform, context)
        runs.append(uniform)
    run, context = built_on(learner, tmp_path, word, *runs, overrides=(*SETTINGS, *more))
    if method_of(run).searches:
        search(run, context)
    retrain(run, context)
    ranks = run.ranks()
    parameters = sum(rank * cost for rank, cost in zip(ranks.values(), SHAPES, strict=True))
    if name in ("adalora", "eva"):
        assert ranks.total == found.total
    else:
        assert found.parameters - min(SHAPES) < parameters <= found.parameters


def test_without_a_budget_they_build_on_autolora(learner: Path) -> None:
    recipe = load_recipe(learner / "tiny.yaml")
    for name in METHODS:
        needed = method_class(name).needs(recipe.model_copy(update={"method": parse_method(name)}))
        assert label(needed[0]) == "autolora"


@pytest.mark.parametrize(
    ("words", "overrides", "planned"),
    [
        ("lora-matched:budget=rank=1,random:budget=rank=1", [], []),
        ("lora-matched:budget=tolerance=0.1", [], ["squeeze:budget=tolerance=0.1"]),
        ("svd:budget=0.25", [], ["lora:4"]),
        ("lora-matched", [], ["autolora"]),
        # What the recipe says is the squeeze's own budget: there is one of it, and not another of another name.
        ("squeeze,lora-matched,eva", ["ranks.budget={tolerance: 0.1}", "method.name=squeeze"], []),
        ("lora-matched,eva", ["ranks.budget={tolerance: 0.1}", "method.name=squeeze"], ["squeeze"]),
        ("lora-matched,eva", ["ranks.budget={rank: 1}", "method.name=squeeze"], []),
    ],
)
def test_a_comparison_brings_what_is_built_on_and_nothing_else(
    learner: Path, tmp_path: Path, words: str, overrides: list[str], planned: list[str]
) -> None:
    recipe = load_recipe(learner / "tiny.yaml", overrides)
    trials = plan([recipe], parse_methods(words), [0], tmp_path)
    assert [trial.method for trial in trials if not trial.wanted] == planned
    assert [trial.method for trial in trials if trial.wanted] == [label(each) for each in parse_methods(words)]


@pytest.mark.parametrize("budget", ["0.25", "rank=1", "parameters=500"])
def test_a_budget_of_the_recipes_is_the_methods_own_where_it_says_none(
    learner: Path, tmp_path: Path, budget: str
) -> None:
    kind, _, value = budget.rpartition("=")
    more = ("method.name=squeeze", f"ranks.budget={{{kind or 'fraction'}: {value}}}")
    one, _ = squeezed(learner, tmp_path, "lora-matched", *more)
    other, _ = squeezed(learner, tmp_path, f"lora-matched:budget={budget}")
    contexts = [search(run, squeezed(learner, tmp_path, "lora-matched")[1]) for run in (one, other)]
    assert dict(contexts[0]) == dict(contexts[1])
    run, ranks = searched(learner, tmp_path, "squeeze", *more)
    assert ranks.parameters <= contexts[0].parameters + min(SHAPES)
    assert evidence_of(run).gates is not None
