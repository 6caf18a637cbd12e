"""The controls of squeeze: even ranks, permuted ranks, its ranks from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autolora.experiment.line import retrain
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_class, method_of
from autolora.methods.budgets import nearest_uniform
from autolora.methods.squeeze import best_of_each
from autolora.methods.uniform import Uniform
from autolora.recipe.schema import MethodSettings
from autolora.registry import SCORES
from autolora.runs.store import Run
from tests.laboratory import tiny_run
from tests.methods.linked import layer_of, reopened, spent
from tests.methods.squeezed import STEPS, checkpoint, done, evidence_of, same, squeezed

Search = Callable[..., tuple[Run, Ranks]]
BUDGETS = ["0.25", "0.6", "rank=2"]
CONTROLS = ["squeeze-uniform", "squeeze-shuffled", "fisher-scratch"]


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_has_squeezes_first_share_and_evidence(kept_search: Search, name: str) -> None:
    run, _ = kept_search("squeeze:budget=0.25")
    control, _ = kept_search(f"{name}:budget=0.25")
    assert same(checkpoint(run, "search"), checkpoint(control, "search"))
    files = [(each.path / "search" / "evidence.safetensors").read_bytes() for each in (run, control)]
    assert files[0] == files[1]  # the identity of the search is in it


@pytest.mark.parametrize("budget", BUDGETS)
def test_uniform_ranks_are_as_even_as_squeezes_size_goes(kept_search: Search, budget: str) -> None:
    _, squeezed_to = kept_search(f"squeeze:budget={budget}")
    run, ranks = kept_search(f"squeeze-uniform:budget={budget}")
    costs = {name: each.cost for name, each in evidence_of(run).components.items()}
    assert ranks == nearest_uniform(costs, squeezed_to.parameters)
    assert max(ranks.values()) - min(ranks.values()) <= 1
    assert squeezed_to.parameters - min(costs.values()) < ranks.parameters <= squeezed_to.parameters
    assert dict(ranks) != dict(squeezed_to)


@pytest.mark.parametrize("budget", BUDGETS)
def test_shuffled_ranks_are_a_permutation_within_shapes(kept_search: Search, budget: str) -> None:
    _, squeezed_to = kept_search(f"squeeze:budget={budget}")
    _, ranks = kept_search(f"squeeze-shuffled:budget={budget}")
    assert list(ranks) == list(squeezed_to)
    for shape in set(ranks.shapes.values()):
        names = [name for name in ranks if ranks.shapes[name] == shape]
        assert Counter(ranks[name] for name in names) == Counter(squeezed_to[name] for name in names)
    assert ranks.parameters == squeezed_to.parameters


@pytest.mark.parametrize("name", CONTROLS)
def test_each_layer_keeps_its_best_by_fisher(kept_search: Search, name: str) -> None:
    run, ranks = kept_search(f"{name}:budget=0.6")
    fisher = SCORES.load("fisher")(evidence_of(run))
    for layer, kept in ranks.kept.items():
        best = sorted(range(4), key=lambda i: -float(fisher[layer][i]))[: ranks[layer]]
        assert kept == tuple(sorted(best))
    assert any(kept != tuple(range(len(kept))) for kept in ranks.kept.values())  # the largest are not always the best


def test_the_best_of_a_layer_that_has_fewer_are_all_of_them() -> None:
    values = {"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.tensor([5.0])}
    assert best_of_each({"a": 2, "b": 3}, values) == {"a": (1, 2), "b": (0,)}


def test_from_scratch_is_a_fresh_lora_at_squeezes_ranks(learner: Path, tmp_path: Path, kept_search: Search) -> None:
    _, squeezed_to = kept_search("squeeze:budget=0.25")
    run, context = done(learner, tmp_path, "fisher-scratch:budget=0.25")
    assert run.ranks() == dict(squeezed_to)
    model = context.model()
    torch.manual_seed(5)
    mine = method_of(run).adapt(model, context.head(model), context, STEPS)
    assert (mine.begin, mine.prepare) == (0, None)
    given, other = tiny_run(learner, tmp_path / "given", "lora:4", f"model.target_modules={sorted(squeezed_to)}")
    squeezed_to.scaled(16.0, "constant").save(given.path / "search" / "ranks.json")
    method = method_of(given)
    assert isinstance(method, Uniform)
    base = other.model()
    torch.manual_seed(5)
    theirs = method.adapt(base, other.head(base), other, STEPS)
    one, two = dict(mine.model.named_parameters()), dict(theirs.model.named_parameters())
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    name = squeezed_to.targets[0]
    assert layer_of(mine.model, name).lora_B["default"].weight.count_nonzero() == 0
    assert spent(run, "search")["steps"] == STEPS // 2
    assert spent(run, "retrain")["steps"] == STEPS


@pytest.mark.parametrize(("at", "steps"), [("", STEPS * 3 // 2), (":at=0.25", STEPS * 5 // 4)])
def test_from_scratch_costs_the_first_share_too(learner: Path, tmp_path: Path, at: str, steps: int) -> None:
    run, context = squeezed(learner, tmp_path, f"fisher-scratch{at}:budget=0.25")
    examples = len(context.examples("train"))
    measuring = -(-min(examples, run.recipe.ranks.examples) // run.recipe.retrain.batch_size)
    assert method_class("fisher-scratch").workload(run.recipe, examples) == (0, steps + measuring)
    for name in ("squeeze", "squeeze-uniform", "squeeze-shuffled"):
        recipe = run.recipe.model_copy(update={"method": MethodSettings(name=name, at=run.recipe.method.at)})
        assert method_class(name).workload(recipe, examples) == (0, STEPS + measuring)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_ends_with_its_ranks(learner: Path, tmp_path: Path, name: str) -> None:
    run, _ = done(learner, tmp_path, f"{name}:budget=0.25")
    ranks = reopened(run)[0].ranks()
    assert spent(run, "retrain")["trainable_parameters"] - spent(run, "retrain")["head_parameters"] == ranks.parameters
    again, context = reopened(run)
    files = (run.path / "adapter" / "adapter_model.safetensors").read_bytes()
    retrain(again, context)
    assert (run.path / "adapter" / "adapter_model.safetensors").read_bytes() == files
