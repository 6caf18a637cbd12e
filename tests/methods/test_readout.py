"""Ranks read off a search: AutoLoRA's by threshold or budget, a squeeze's by its spectrum; training on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.allocation.budget import choose
from autolora.allocation.components import Components
from autolora.allocation.evidence import Evidence
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from autolora.methods.bilevel import bilevel_search
from autolora.methods.readout import by_threshold
from autolora.recipe.load import read_recipe
from autolora.registry import SCORES
from autolora.runs.store import Run
from autolora.training.checkpoint import load_checkpoint
from tests.laboratory import of_an_earlier_version
from tests.methods.linked import reopened, spent
from tests.methods.squeezed import FULL, done, evidence_of, searched, squeezed
from tests.methods.support import logits

SEARCH = ("search.steps=12", "search.weights.learning_rate=1e-2", "search.selection.learning_rate=5e-2")
# What tiny.yaml says of a search, taken back.
OWN = (
    "search.estimator=none",
    *(f"search.{name}=null" for name in ("steps", "threshold")),
    *("search.batch_size=16", "search.log_every=10", "search.checkpoint_every=100"),
    *("search.weights={}", "search.selection={}"),
    *("ranks.rule=budget", "ranks.budget={fraction: 0.25}", "retrain.start=searched"),
)


def test_a_recipe_may_say_what_the_method_does(learner: Path, tmp_path: Path) -> None:
    word, _ = done(learner, tmp_path / "word", "squeeze:budget=0.25")
    recipe, _ = done(learner, tmp_path / "recipe", "squeeze", *OWN, "ranks.score=fisher")
    assert recipe.ranks() == word.ranks()
    for name in ("adapter/adapter_model.safetensors", "retrain/log.jsonl", "search/evidence.safetensors"):
        assert (recipe.path / name).read_bytes() == (word.path / name).read_bytes()


def test_a_recipe_without_selection_variables_is_named_a_squeeze(learner: Path, tmp_path: Path) -> None:
    from autolora.experiment.preflight import load_recipe

    recipe = load_recipe(learner / "tiny.yaml", [*OWN, "ranks.score=fisher"])
    assert recipe.method.name == "squeeze"
    run = Run.create(tmp_path, recipe)
    assert Run.open(run.path).recipe == recipe


def test_by_its_spectrum(learner: Path, tmp_path: Path) -> None:
    run, context = done(learner, tmp_path, "squeeze", *OWN, "ranks.score=spectrum")
    ranks, evidence = run.ranks(), evidence_of(run)
    costs = {name: each.cost for name, each in evidence.components.items()}
    wanted = choose({name: each.sigma**2 for name, each in evidence.components.items()}, costs, FULL // 4)
    assert ranks.kept == wanted
    assert ranks.rule["score"] == "spectrum"
    fisher = choose(SCORES.load("fisher")(evidence), costs, FULL // 4)
    assert fisher != wanted
    assert spent(run, "retrain")["steps"] == 10
    assert context.main


def test_a_budget_for_autolora_is_spent_by_saliency_on_the_same_search(learner: Path, tmp_path: Path) -> None:
    paper, ranks = searched(learner, tmp_path / "paper", "autolora", *SEARCH)
    for budget, limit in {"rank=1": FULL // 4, "0.3": int(0.3 * FULL), "parameters=400": 400}.items():
        run, found = searched(learner, tmp_path / "budget", f"autolora:budget={budget}", *SEARCH)
        files = [(each.path / "search" / "evidence.safetensors").read_bytes() for each in (paper, run)]
        assert files[0] == files[1]
        evidence = evidence_of(run)
        costs = {name: each.cost for name, each in evidence.pairs.items()}
        assert found.kept == choose(SCORES.load("saliency")(evidence), costs, limit)
        assert limit - max(costs.values()) < found.parameters <= limit
    assert ranks.rule["selection"] == evidence.selection
    assert "score" not in ranks.rule


def searched_logits(run: Run, context: Context, kept: Any = None) -> Tensor:
    """Of the model that was searched, without the pairs of columns that were dropped."""
    model = context.model()
    stage, _ = bilevel_search(context, model, context.head(model), run.recipe.search)
    tensors, _ = load_checkpoint(run.path / "search" / "checkpoint.safetensors")
    stage.load(tensors)
    with torch.no_grad():
        for name, layer in stage.layers.items():
            dropped = [j for j in range(4) if kept is not None and j not in kept[name]]
            layer.lora_B[:, dropped] = 0
    return logits(model.eval(), context)


def begun(run: Run, context: Context) -> Tensor:
    """Of the model as its retraining begins."""
    model = context.model()
    return logits(method_of(run).adapt(model, context.head(model), context, 20).model.eval(), context)


@pytest.mark.parametrize(
    ("word", "overrides"),
    [
        ("autolora", []),
        ("autolora", ["retrain.lora_alpha=3"]),
        ("autolora", ["search.constraint=none", "retrain.lora_alpha=40"]),
        ("no-constraint", []),
        ("sigmoid", ["search.selection.learning_rate=0.3"]),
        ("no-meta", []),
        ("autolora:budget=rank=1", []),
        ("autolora:budget=0.6", ["retrain.lora_alpha=3"]),
        ("autolora:budget=0.6", ["search.constraint=none"]),
    ],
)
def test_training_goes_on_from_what_was_searched(
    learner: Path, tmp_path: Path, word: str, overrides: list[str]
) -> None:
    run, context = squeezed(learner, tmp_path, word, *SEARCH, "retrain.start=searched", *overrides)
    ranks = search(run, context)
    run, context = reopened(run)
    run.recipe = method_of(run).recipe  # as the method searched
    wanted = searched_logits(run, context, ranks.kept)
    found = begun(*reopened(run))
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert 0 < ranks.total < 24
    whole = searched_logits(run, context)
    assert (whole - wanted).abs().max() > 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("start", ["searched", "scratch"])
def test_fisher_after_autoloras_search(learner: Path, tmp_path: Path, start: str) -> None:
    rule = ["ranks.score=fisher", "ranks.rule=budget", f"retrain.start={start}"]
    run, context = done(learner, tmp_path, "autolora", *SEARCH, *rule, "ranks.budget={fraction: 0.25}")
    ranks, evidence = run.ranks(), evidence_of(run)
    assert 0 < ranks.parameters <= FULL // 4
    assert ranks.kept == choose(
        SCORES.load("fisher")(evidence), {n: sum(s) for n, s in ranks.shapes.items()}, FULL // 4
    )
    assert len(evidence.gates.derivatives) == 30  # type: ignore[union-attr]  # all of D_val
    assert spent(run, "retrain")["steps"] == 20
    whole, context = squeezed(learner, tmp_path / "whole", "autolora", *SEARCH, *rule, "ranks.budget={fraction: 1.0}")
    search(whole, context)
    if start == "searched":
        wanted = searched_logits(whole, context)
        assert (begun(*reopened(whole)) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_run_that_goes_on_from_a_search_is_resumed(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autolora.training.finetune import Finetuning
    from tests.cli.support import contents
    from tests.methods.linked import interrupting

    settings = (*SEARCH, "retrain.start=searched")
    whole, _ = done(learner, tmp_path / "whole", "autolora:budget=0.5", *settings)
    run, context = squeezed(learner, tmp_path / "parts", "autolora:budget=0.5", *settings)
    search(run, context)
    with interrupting(monkeypatch, Finetuning, "advance", 7):
        retrain(run, context)
    run, context = reopened(run)
    retrain(run, context)
    evaluate(run, context)
    found, wanted = contents(run.path), contents(whole.path)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name] and not name.endswith(".png")] == []


def test_another_search_with_the_same_ranks_is_not_gone_on_with(learner: Path, tmp_path: Path) -> None:
    """The checkpoint of a retraining belongs to the search that it began with, and not to its ranks alone."""
    settings = (*SEARCH, "retrain.start=searched")
    run, context = squeezed(learner, tmp_path / "one", "autolora", *settings)
    search(run, context)
    other, context = squeezed(learner, tmp_path / "other", "autolora", *settings, "search.epsilon=0.02")
    search(other, context)
    found: Ranks = run.ranks()
    found.save(other.path / "search" / "ranks.json")
    of_an_earlier_version(other.path)
    assert other.ranks() == found
    assert method_of(other).identity() != method_of(run).identity()


def test_a_layer_that_the_loss_never_reached_gets_no_rank(learner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    even = dict.fromkeys(("used", "pooler"), (1 / 3, 1 / 3, 1 / 3))  # on the threshold: all would be kept
    sizes = {"used": torch.ones(3), "pooler": torch.zeros(3)}
    pairs = {name: Components(torch.ones(4, 3), sigma, torch.ones(5, 3), 1.0, 3) for name, sigma in sizes.items()}
    recipe = read_recipe(learner / "tiny.yaml", ["search.rank=3", "search.threshold=null"])
    found = by_threshold(Evidence(selection=even, pairs=pairs), recipe)
    assert dict(found) == {"used": 3, "pooler": 0}
    assert found.rule["idle"] == ["pooler"]
    assert "1 of 2 layers get no rank, since the loss does not depend on them: pooler" in capsys.readouterr().err
    nothing = Evidence(selection={"pooler": even["pooler"]}, pairs={"pooler": pairs["pooler"]})
    with pytest.raises(UserError, match="the loss depends on none of the 1 layers, the first of which is pooler"):
        by_threshold(nothing, recipe)
