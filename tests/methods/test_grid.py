"""The grid of uniform ranks: what each is trained and scored on, which is chosen, what it costs, how it is resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autolora.context.base import Context
from autolora.data.split import split_train
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.lora.ranks import Ranks
from autolora.methods import grid
from autolora.methods.base import method_class, method_of
from autolora.methods.grid import best_rank, steps_of_a_rank
from autolora.recipe.method import parse_method
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run
from autolora.training.batches import IGNORED
from autolora.training.finetune import Finetuning
from tests.laboratory import tiny_run
from tests.methods.linked import LAYERS, interrupting, reopened, spent
from tests.methods.support import write_generation_laboratory

# Every rank takes 15 of these steps: half of the examples are D_tr. They are enough for the ranks to be told apart.
SETTINGS = ("retrain.weights.learning_rate=8e-2", "retrain.steps=30", "eval.batch_size=4")
STEPS, D_TR, D_VAL = 15, 30, 30


class Made(NamedTuple):
    """A run that has been searched, and the models that were scored, with what they were scored on."""

    run: Run
    context: Context
    ranks: Ranks
    scored: list[tuple[nn.Module, list[Any]]]


@pytest.fixture(scope="module")
def made(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    run, context = tiny_run(laboratory, tmp_path_factory.mktemp("grid"), "lora-grid:4", *SETTINGS)
    scored, score = [], grid._score

    def spied(context: Context, model: nn.Module, examples: Any, title: str) -> Any:
        scored.append((model, list(examples)))
        return score(context, model, examples, title)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "_score", spied)
        ranks = search(run, context)
    return Made(run, context, ranks, scored)


def divided(context: Context) -> tuple[list[Any], list[Any]]:
    examples = context.examples("train")
    train, validation = split_train(len(examples), 0.5, context.recipe.seed)
    return [examples[i] for i in train], [examples[i] for i in validation]


def files_of(run: Run) -> dict[str, bytes]:
    return {p.relative_to(run.path).as_posix(): p.read_bytes() for p in (run.path / "search").rglob("*") if p.is_file()}


def counts_of(run: Run) -> list[int]:
    return [spent(run, "search")[count] for count in ("steps", "forward_passes", "backward_passes")]


@pytest.mark.parametrize(
    ("scores", "lower", "best"),
    [
        ([0.1, 0.3, 0.2], False, 2),
        ([0.1, 0.3, 0.2], True, 1),
        ([0.1, 0.3, 0.3], False, 2),  # of equals the smaller
        ([0.2, 0.1, 0.1], True, 2),
        ([None, -0.5, None], False, 2),  # without a value is worse than any
        ([None, 7.0], True, 2),
        ([None, None], False, 1),
        ([0.0] * 9 + [0.5], False, 10),  # 10 is not between 1 and 2
        ([0.1, 0.5, *[0.1] * 7, 0.5], False, 2),
    ],
)
def test_the_best_rank_is_chosen_and_the_smaller_one_of_equals(scores: list[Any], lower: bool, best: int) -> None:
    named = {str(rank): score for rank, score in enumerate(scores, 1)}
    assert best_rank(named, lower=lower) == best
    assert best_rank(dict(reversed(named.items())), lower=lower) == best


def test_a_rank_is_trained_for_as_many_epochs_as_the_retraining(laboratory: Path, tmp_path: Path) -> None:
    def recipe(*overrides: str) -> Recipe:
        return tiny_run(laboratory, tmp_path, "lora-grid", *overrides)[0].recipe

    assert steps_of_a_rank(recipe("retrain.steps=30"), 30, 60) == 15
    assert steps_of_a_rank(recipe("retrain.steps=30"), 40, 60) == 20
    assert steps_of_a_rank(recipe("retrain.steps=1"), 20, 60) == 1
    in_epochs = recipe("retrain.steps=null", "retrain.epochs=2", "retrain.batch_size=8")
    assert steps_of_a_rank(in_epochs, 30, 60) == 2 * 4


def test_ranks_up_to_sixteen_are_tried_unless_a_size_says_otherwise(
    made: Made, laboratory: Path, tmp_path: Path
) -> None:
    assert method_of(tiny_run(laboratory, tmp_path, "lora-grid")[0]).size == 16
    assert method_of(made.run).size == len(made.scored) == 4


def test_the_table_of_scores_and_the_best_rank_are_written(made: Made) -> None:
    written = Ranks.load(made.run.path / "search" / "ranks.json")
    assert written == made.ranks
    scores = written.rule["grid"]
    assert list(scores) == ["1", "2", "3", "4"]
    assert (written.initial_rank, written.lora_alpha, written.rule["metric"]) == (4, 16.0, "accuracy")
    assert len(set(scores.values())) > 1  # else nothing is chosen here
    best = min(int(rank) for rank, score in scores.items() if score == max(scores.values()))
    assert dict(written) == dict.fromkeys(LAYERS, best)


def test_the_scores_are_those_of_the_trained_models_on_d_val(made: Made) -> None:
    _, validation = divided(made.context)
    for rank, (model, examples) in enumerate(made.scored, 1):
        assert examples == validation
        model.eval()
        right = 0
        for example in validation:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0]
            right += int(logits.argmax()) == example["label"]
        assert made.ranks.rule["grid"][str(rank)] == pytest.approx(right / D_VAL)


def test_every_rank_has_its_rank_and_scaling(made: Made) -> None:
    for rank, (model, _) in enumerate(made.scored, 1):
        for name in LAYERS:
            layer: Any = model.get_submodule(f"base_model.model.{name}")
            assert layer.lora_A["default"].weight.shape[0] == rank
            assert layer.scaling["default"] == 16.0 / 4
            assert layer.lora_B["default"].weight.any()


def test_training_sees_d_tr_alone_in_one_order_and_from_one_head(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora-grid:2", *SETTINGS, "search.validation_fraction=0.3")
    train, _ = split_train(60, 0.3, context.recipe.seed)
    wanted = [context.examples("train")[i] for i in train]
    fed, heads, advance = list[list[int]](), [], Finetuning.advance

    def spied(stage: Finetuning, step: int) -> Any:
        assert list(stage.train.examples) == wanted
        fed.append(stage.train.indices(step))
        if step == 0:
            heads.append([p.clone() for n, p in stage.weights.named.items() if "classifier" in n])
        return advance(stage, step)

    monkeypatch.setattr(Finetuning, "advance", spied)
    search(run, context)
    steps = 21  # 30 of 60 examples, for the 42 of D_tr
    assert len(fed) == 2 * steps
    assert fed[:steps] == fed[steps:]
    assert sorted(i for batch in fed[:7] for i in batch) == list(range(42))
    assert all(torch.equal(*pair) for pair in zip(*heads, strict=True))


def test_all_ranks_are_on_the_bill(made: Made) -> None:
    scoring = -(-D_VAL // 4)
    assert counts_of(made.run) == [4 * STEPS, 4 * (STEPS + scoring), 4 * STEPS]
    assert spent(made.run, "search")["seconds"] > 0
    assert not list(made.run.path.rglob("checkpoint.safetensors"))
    for rank in range(1, 5):
        log = (made.run.path / "search" / "grid" / str(rank) / "log.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["step"] == STEPS


def test_the_seconds_of_scoring_are_on_the_bill_too(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora-grid:2", "retrain.steps=1")
    score = grid._score
    monkeypatch.setattr(grid, "_score", lambda *given: (time.sleep(1), score(*given))[1])
    search(run, context)
    assert spent(run, "search")["seconds"] > 2


def test_the_best_rank_is_retrained_as_uniform_lora_of_that_rank(made: Made, laboratory: Path, tmp_path: Path) -> None:
    best = made.ranks[LAYERS[0]]
    retrain(made.run, made.context)
    run, context = tiny_run(laboratory, tmp_path, f"lora:{best}", *SETTINGS)
    search(run, context)
    retrain(run, context)
    for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "retrain/log.jsonl"):
        assert (run.path / name).read_bytes() == (made.run.path / name).read_bytes()
    (row,) = evaluate(made.run, made.context)
    assert row["total rank"] == 4 * best


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Finetuning, "advance", 3),  # in the first rank, before its first checkpoint
        (Finetuning, "advance", 2 * STEPS + 7),  # in the third, between two
        (grid, "_score", 2),  # the second is trained but has no score yet
        (grid, "write_state", 2),  # ... and its score is not written
        (Ranks, "save", 1),  # all are done but the result is not written
    ],
)
def test_an_interrupted_search_ends_in_the_bytes_of_an_uninterrupted_one(
    made: Made, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora-grid:4", *SETTINGS)
    with interrupting(monkeypatch, owner, name, call):
        search(run, context)
    assert not (run.path / "search" / "ranks.json").exists()
    table = run.path / "search" / "grid.json"
    done = json.loads(table.read_text())["ranks"] if table.exists() else {}
    steps, advance = [], Finetuning.advance
    monkeypatch.setattr(Finetuning, "advance", lambda stage, step: (steps.append(step), advance(stage, step))[1])
    search(*reopened(run))
    assert len(steps) <= (4 - len(done)) * STEPS
    assert files_of(run) == files_of(made.run)
    assert counts_of(run) == counts_of(made.run)


def test_ranks_of_other_settings_are_not_mixed_in(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora-grid:2", "retrain.steps=2")
    with interrupting(monkeypatch, grid, "_score", 2):
        search(run, context)
    again, _ = reopened(run)
    weights = again.recipe.retrain.weights.model_copy(update={"learning_rate": 1e-4})
    retraining = again.recipe.retrain.model_copy(update={"weights": weights})
    again.recipe = again.recipe.model_copy(update={"retrain": retraining})
    with pytest.raises(UserError, match=r"search/grid\.json belongs to other settings, data or model than those of"):
        search(again, Context(again.recipe, show=False))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_generation_is_scored_by_the_loss_on_d_val_and_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    laboratory = write_generation_laboratory(tmp_path / "context", kind)
    run, context = tiny_run(
        laboratory, tmp_path / "runs", "lora-grid:3", "search.lora_dropout=0.5", "eval.batch_size=2"
    )
    monkeypatch.setattr(context.family, "predict", lambda *_: pytest.fail("it was decoded"))
    models, score = [], grid._score
    monkeypatch.setattr(
        grid, "_score", lambda context, model, *more: (models.append(model), score(context, model, *more))[1]
    )
    ranks = search(run, context)
    scores = ranks.rule["grid"]
    assert ranks.rule["metric"] == "loss"
    _, validation = divided(context)
    for rank, model in enumerate(models, 1):
        assert scores[str(rank)] == pytest.approx(loss_by_hand(model, validation), rel=1e-5)
    lowest = min(scores.values())
    assert set(ranks.values()) == {next(int(r) for r, loss in scores.items() if loss == lowest)}
    assert len(set(scores.values())) == 3


def loss_by_hand(model: nn.Module, examples: list[Any]) -> float:
    """The mean loss of the outputs' tokens, one example at a time."""
    losses = []
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        labels = ids.clone()
        labels[:, : example["prompt"]] = IGNORED
        with torch.no_grad():
            logits = model.eval()(input_ids=ids).logits[0, :-1]
        losses += F.cross_entropy(logits, labels[0, 1:], ignore_index=IGNORED, reduction="none").tolist()
    return sum(losses) / sum(len(example["input_ids"]) - example["prompt"] for example in examples)


def test_its_work_is_all_ranks_and_the_retraining(laboratory: Path, tmp_path: Path) -> None:
    recipe = tiny_run(laboratory, tmp_path, "lora-grid:4", *SETTINGS)[0].recipe
    assert method_class("lora-grid").workload(recipe, 60) == (0, 4 * STEPS + 30)
    sixteen = recipe.model_copy(update={"method": parse_method("lora-grid")})
    assert method_class("lora-grid").workload(sixteen, 60) == (0, 16 * STEPS + 30)
