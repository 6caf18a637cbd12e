"""The best weights, chosen by rows held out of the training split: written, noted, gone on with, by every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.context.base import Context
from autolora.context.identity import identity_of
from autolora.errors import RecipeError, UserError
from autolora.experiment.keeping import held_out
from autolora.experiment.line import run_stages, search
from autolora.experiment.preflight import load_recipe
from autolora.experiment.prepare import prepare
from autolora.experiment.retrain import retrain
from autolora.files import read_json
from autolora.methods.base import method_of
from autolora.recipe.method import parse_method
from autolora.recipe.shipped import find_recipe
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from autolora.training.log import MetricLog
from tests.experiment.test_predict import write_family
from tests.laboratory import tiny_run
from tests.methods.linked import interrupting, reopened

BEST = ("retrain.keep=best", "retrain.held_out=0.25", "retrain.evaluate_every=2", "retrain.steps=12")
OF_QUICKSTART = "f256882f8a6c46b2189b3ddb126dfb10d592df3290b1f67ae03887d687c76cfb"  # before there was anything to keep
FAST = "retrain.weights.learning_rate=0.05"  # so that the loss on rows that are not seen goes up again


def kept(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.manifest()["stages"]["retrain"]["kept"]
    return found


def values(run: Run) -> dict[int, float]:
    name = kept(run)["by"]
    return {r["step"]: r[name] for r in MetricLog(run.path / "retrain" / "log.jsonl").records() if name in r}


def value_of_adapter(run: Run) -> float | None:
    """Of what was written, measured anew."""
    context = Context(run.recipe, show=False)
    held = held_out(context)
    assert held is not None
    model = method_of(run).load(context.model(), context)
    return held._value(context, model)


def weights(run: Run) -> dict[str, torch.Tensor]:
    (file,) = (run.path / "adapter").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("method", ["lora:2", "squeeze:k=4:budget=0.5", "houlsby:4", "full"])
def test_what_is_written_is_what_did_best_on_rows_that_were_held_out(
    laboratory: Path, tmp_path: Path, method: str
) -> None:
    run, context = tiny_run(laboratory, tmp_path, method, *BEST, FAST, "ranks.examples=8")
    run_stages(run, context)
    seen = values(run)
    first = run.manifest()["stages"].get("search", {}).get("steps", 0)
    assert list(seen) == [step for step in (2, 4, 6, 8, 10, 12) if step > first]
    best = min(seen, key=lambda step: (seen[step], step))
    assert (kept(run)["step"], kept(run)["value"]) == (best, seen[best])
    assert kept(run)["held_out_examples"] == 15
    assert value_of_adapter(run) == pytest.approx(seen[best], rel=1e-5)
    (row,) = read_json(run.path / "metrics.json")
    assert (row["kept step"], row["held_out_loss"]) == (best, seen[best])


def test_adalora_keeps_none_before_its_ranks_are_final(laboratory: Path, tmp_path: Path) -> None:
    more = ("method={name: adalora, budget: {rank: 2}}", "retrain.steps=20", "retrain.evaluate_every=1")
    recipe = load_recipe(laboratory / "tiny.yaml", (*BEST[:2], *more, FAST), seed=3)
    run, context = Run.create(tmp_path, recipe), Context(recipe, show=False)
    run_stages(run, context)
    assert list(values(run)) == [14, 15, 16, 17, 18, 19, 20]  # the last 30 %
    assert value_of_adapter(run) == pytest.approx(kept(run)["value"], rel=1e-5)


@pytest.mark.parametrize(
    ("family", "by", "name"),
    [
        ("classification", "f1", "f1"),
        ("regression", "spearman", "spearman"),
        ("tagging", "entities", "f1"),
        ("generation", "chrf", "chrf++"),
        ("generation", "perplexity", "perplexity"),
        ("encoder-decoder", "bleu", "bleu"),
        ("chat", "rouge_l", "rouge_l"),
    ],
)
def test_a_metric_of_the_task_may_choose(tmp_path: Path, family: str, by: str, name: str) -> None:
    recipe = load_recipe(write_family(tmp_path, family), [*BEST[:3], "retrain.steps=4", f"retrain.by={by}"], seed=1)
    recipe = recipe.model_copy(update={"method": parse_method("lora:2")})
    run, context = Run.create(tmp_path / "runs", recipe), Context(recipe, show=False)
    search(run, context)
    retrain(run, context)
    seen = values(run)
    assert list(seen) == [2, 4]
    assert kept(run)["by"] == f"held_out_{name}"
    higher = by != "perplexity"
    assert kept(run)["higher_is_better"] is higher
    assert kept(run)["value"] == (max if higher else min)(seen.values())
    assert value_of_adapter(run) == pytest.approx(kept(run)["value"], rel=1e-4)


def test_held_out_rows_are_a_part_of_the_training_split_that_nothing_else_sees(
    laboratory: Path, tmp_path: Path
) -> None:
    _, plain = tiny_run(laboratory, tmp_path)
    _, context = tiny_run(laboratory, tmp_path, "autolora", *BEST)
    _, again = tiny_run(laboratory, tmp_path, "lora:2", *BEST)
    every = [str(row) for row in plain.splits["train"]]
    rest, held = ([str(row) for row in rows] for rows in (context.splits["train"], context.kept_out))
    assert sorted([*rest, *held]) == sorted(every)
    assert (len(rest), len(held)) == (45, 15)
    assert {row["sentence"] for row in context.splits["train"]}.isdisjoint(context.kept_out["sentence"])
    assert [str(row) for row in again.kept_out] == held  # whatever the method
    assert len(context.examples("train")) == 45
    assert plain.hashes["validation"] == context.hashes["validation"]
    _, other = tiny_run(laboratory, tmp_path, "lora:2", *BEST, seed=4)
    assert [str(row) for row in other.kept_out] != held


@pytest.mark.parametrize("family", ["generation", "chat"])
def test_the_loss_on_rows_held_out_is_that_of_training(tmp_path: Path, family: str) -> None:
    recipe = write_family(tmp_path, family)
    learned = {}
    for tokens in ("outputs", "all"):
        context = Context(load_recipe(recipe, [*BEST[:2], f"loss.tokens={tokens}"], seed=1), show=False)
        held = held_out(context)
        assert held is not None
        wanted = context.task.encode(context.kept_out, context.tokenizer, "train", "train")
        learned[tokens] = held.task.units(held.examples)
        assert learned[tokens] == context.task.units(wanted)
    assert learned["outputs"] < learned["all"]


@pytest.mark.parametrize("method", ["lora:2", "squeeze:k=4:budget=0.5"])
def test_an_interrupted_run_ends_as_one_that_was_not(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    more = (*BEST, FAST, "retrain.patience=2", "ranks.examples=8", "retrain.checkpoint_every=3")
    whole, context = tiny_run(laboratory, tmp_path / "whole", method, *more)
    run_stages(whole, context)
    run, context = tiny_run(laboratory, tmp_path / "stopped", method, *more)
    with interrupting(monkeypatch, Finetuning, "advance", 5):
        run_stages(run, context)
    run, context = reopened(run)
    run_stages(run, context)
    assert kept(run) == kept(whole)
    assert values(run) == values(whole)
    assert weights(run).keys() == weights(whole).keys()
    assert all(torch.equal(weights(run)[name], tensor) for name, tensor in weights(whole).items())


def test_a_training_that_gets_no_better_is_stopped(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(
        laboratory, tmp_path, "lora:2", "retrain.patience=2", "retrain.evaluate_every=1", "retrain.steps=60", FAST
    )
    run_stages(run, context)
    found = kept(run)
    assert found["stopped_early"]
    assert found["step"] == found["of"] == found["best_step"] + 2 < 60  # the last weights are kept
    assert run.manifest()["stages"]["retrain"]["steps"] == found["of"]
    assert "kept step" not in read_json(run.path / "metrics.json")[0]
    assert found["held_out_examples"] == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["retrain.held_out=0.2"], "held_out say how weights are chosen: write keep: best, or a patience, too"),
        (["retrain.by=f1", "retrain.evaluate_every=5"], "by and evaluate_every say how weights are chosen"),
        (["retrain.keep=best", "retrain.by=bleu"], "'bleu' is a metric of texts, and the task's outputs are classes"),
        (["retrain.keep=best", "retrain.by=nothing"], "must be one of"),
        (["retrain.keep=best", "retrain.evaluate_every=31"], "evaluate_every: 31 is more than the 30 steps there are"),
        (["retrain.patience=0"], "must be at least 1"),
        (["retrain.keep=best", "retrain.held_out=1.0"], "must be less than 1"),
        (["retrain.keep=first"], "keep"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_recipe(laboratory: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(laboratory / "tiny.yaml", overrides)


@pytest.mark.parametrize(
    ("method", "share", "message"),
    [
        ("lora:2", "0.001", r"retrain.held_out: 0.001 of 60 training rows .* holds out 0"),
        ("svd", "0.2", "retrain.keep: method svd takes no training steps"),
    ],
)
def test_what_leaves_nothing_to_choose_is_refused_before_the_search(
    laboratory: Path, tmp_path: Path, method: str, share: str, message: str
) -> None:
    _, context = tiny_run(laboratory, tmp_path, method, "retrain.keep=best", f"retrain.held_out={share}")
    with pytest.raises(UserError, match=message):
        prepare(context)


def test_a_run_cannot_be_gone_on_with_on_other_rows(laboratory: Path, tmp_path: Path) -> None:
    from autolora.runs.changes import check_unchanged

    run, context = tiny_run(laboratory, tmp_path, "squeeze:k=4:budget=0.5", *BEST, "ranks.examples=8")
    run_stages(run, context)
    other = load_recipe(run.path / "recipe.yaml", ["retrain.held_out=0.5"])
    with pytest.raises(UserError, match=r"was searched with retrain\.held_out 0\.25, not 0\.5"):
        check_unchanged(run, other)


def test_recipes_that_keep_the_last_weights_are_what_they_were(laboratory: Path) -> None:
    plain = load_recipe(laboratory / "tiny.yaml", seed=3)
    said = load_recipe(laboratory / "tiny.yaml", ["retrain.keep=last", "retrain.patience=null"], seed=3)
    assert plain.model_dump(mode="json") == said.model_dump(mode="json")
    assert not {"keep", "by", "patience", "held_out", "evaluate_every"} & set(plain.model_dump()["retrain"])
    assert identity_of(plain, {}) == identity_of(said, {})
    shipped = load_recipe(find_recipe("quickstart"))
    assert identity_of(shipped, {}, shipped.retrain.model_dump(mode="json")) == OF_QUICKSTART
    best = load_recipe(laboratory / "tiny.yaml", ["retrain.keep=best"], seed=3)
    assert identity_of(best, {}) != identity_of(plain, {})
