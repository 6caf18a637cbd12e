"""What a comparison is estimated to take: shared steps counted once, and only what is needed timed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autolora.comparison import estimate
from autolora.comparison.estimate import Estimate, estimates
from autolora.comparison.plan import plan
from autolora.comparison.probe import Probe, probe
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.methods.base import method_class
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run

TIMED = ("plain", "search", "loading", "model", "measuring", "evaluation")
EXAMPLES = 60  # of the laboratory's training split
SQUEEZING = (
    "search={estimator: none, rank: 4}",
    "ranks={score: fisher, rule: budget, budget: {rank: 1}}",
    "retrain.start=searched",
)
MEASURED = 10  # steps of 6 examples, in which all of them are measured on


@pytest.fixture
def recipe(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", ("search.steps=7", "retrain.steps=20"))


@pytest.fixture
def squeezing(laboratory: Path) -> Recipe:
    """Of a recipe whose search is the beginning of its training."""
    return load_recipe(laboratory / "tiny.yaml", (*SQUEEZING, "retrain.steps=20"))


def counted(
    recipe: Recipe, methods: str, root: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...] = (0,)
) -> Estimate:
    """The estimate, where a plain step takes a second, a search step a hundred, and loading a thousandth."""
    measured = Probe(EXAMPLES, 1.0, 100.0, 0.001, adapter_bytes=2**20, model_bytes=2**24)
    monkeypatch.setattr(estimate, "run_probe", lambda recipes, jobs: measured)
    (found,) = estimates(plan([recipe], parse_methods(methods), seeds, root))
    return found


def steps(found: Estimate) -> tuple[int | None, int | None]:
    return found.search_steps, found.retrain_steps


HALF = 10 + MEASURED  # of a squeeze: the beginning, and measuring


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("lora:2", (0, 20)),
        ("squeeze:budget=rank=1", (0, HALF + 10)),
        ("squeeze:budget=rank=1,squeeze-uniform:budget=rank=1,squeeze:budget=rank=2", (0, HALF + 3 * 10)),
        ("squeeze:budget=rank=1,fisher-scratch:budget=rank=1", (0, HALF + 10 + 20)),
        ("squeeze:budget=rank=1,squeeze:k=2:budget=rank=1", (0, 2 * (HALF + 10))),
        ("squeeze:at=0.25:budget=rank=1", (0, 5 + MEASURED + 15)),
        # a tolerance measures on 5 % of the rows, three of them, and brings the squeeze that finds the size
        ("lora-matched:budget=tolerance=0.1", (0, 20 + 20 + 1)),
        ("squeeze-uniform:budget=tolerance=0.1,lora-matched:budget=tolerance=0.1", (0, 11 + 10 + 10 + 20)),
        ("autolora", (7, 20)),
        ("autolora,autolora:budget=rank=1,sigmoid", (14, 60)),
        ("lora-matched", (7, 40)),
        ("lora-matched:budget=rank=1,lora:4", (0, 40)),
    ],
)
def test_what_is_shared_counts_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: str, expected: tuple[int, int]
) -> None:
    found = counted(recipe, methods, tmp_path, monkeypatch)
    assert steps(found) == expected
    assert found.seconds == pytest.approx(100 * expected[0] + expected[1] + 0.001 * found.trials)
    twice = counted(recipe, methods, tmp_path, monkeypatch, seeds=(0, 1))
    assert steps(twice) == (2 * expected[0], 2 * expected[1])


def test_a_search_that_is_there_counts_nothing(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeeze = recipe.model_copy(update={"method": parse_method("squeeze:budget=rank=1")})
    run = Run.create(tmp_path, squeeze)
    (run.path / "search").mkdir()
    for name in ("head", "evidence"):
        (run.path / "search" / f"{name}.safetensors").touch()
    methods = "squeeze:budget=rank=1,squeeze-shuffled:budget=rank=1"
    assert steps(counted(recipe, methods, tmp_path, monkeypatch)) == (0, 10 + 10)
    assert steps(counted(recipe, methods, tmp_path, monkeypatch, seeds=(0, 1))) == (0, 10 + 10 + HALF + 10 + 10)
    shutil.rmtree(run.path / "search")
    assert steps(counted(recipe, methods, tmp_path, monkeypatch)) == (0, HALF + 10 + 10)


def test_the_evidence_of_a_search_is_on_the_disk_with_each_that_shares_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniform = counted(recipe, "lora:4,lora:2", tmp_path, monkeypatch).size
    shared = counted(recipe, "squeeze:budget=rank=1,squeeze-uniform:budget=rank=1", tmp_path, monkeypatch).size
    assert uniform is not None
    assert shared is not None
    assert shared - uniform == 2 * (estimate.LEFT_BY_SEARCH - 1) * 2**20


@pytest.mark.parametrize("method", ["squeeze:budget=rank=1", "squeeze:budget=tolerance=0.1", "autolora", "no-meta"])
def test_the_search_is_a_part_of_the_whole(recipe: Recipe, method: str) -> None:
    one = recipe.model_copy(update={"method": parse_method(method)})
    cls = method_class(one.method.name)
    part, whole = cls.search_workload(one, EXAMPLES), cls.workload(one, EXAMPLES)
    assert sum(part) > 0
    assert all(p <= w for p, w in zip(part, whole, strict=True))
    assert sum(whole) > sum(part)


def test_no_search_is_timed_where_none_is_made(recipe: Recipe, squeezing: Recipe) -> None:
    def of(one: Recipe, *methods: str) -> Probe:
        return probe([one.model_copy(update={"method": parse_method(method)}) for method in methods])

    plain = of(recipe, "lora:4", "squeeze:budget=rank=1", "lora-matched:budget=rank=1")
    both = of(recipe, "lora:4", "autolora")
    without = of(squeezing, "squeeze", "lora:4")
    assert (plain.search, without.search) == (0.0, 0.0)
    assert both.search > 0.0
    assert all(found.plain > 0.0 for found in (plain, both, without))
    assert (plain.measuring > 0.0, both.measuring, without.measuring > 0.0) == (True, 0.0, True)
    assert all(found.evaluation > 0.0 for found in (plain, both, without))
    assert len({replace(found, **dict.fromkeys(TIMED, 0.0)) for found in (plain, both, without)}) == 1


def test_a_recipe_that_squeezes_is_estimated(
    squeezing: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "squeeze,squeeze-uniform,lora-matched,lora:4"
    assert steps(counted(squeezing, methods, tmp_path, monkeypatch)) == (0, HALF + 10 + 10 + 20 + 20)


@pytest.mark.parametrize("method", ["autolora", "shuffled", "no-meta"])
def test_what_searches_is_refused_on_a_recipe_that_squeezes(squeezing: Recipe, method: str) -> None:
    from autolora.comparison.plan import check_plan

    with pytest.raises(
        UserError, match=rf"tiny, method {method}: search.estimator: none learns no selection variables"
    ):
        check_plan([squeezing], parse_methods(method))
