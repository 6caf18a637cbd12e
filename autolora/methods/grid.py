"""LoRA at the best of all uniform ranks (``lora-grid``): every rank from 1 to `size` (16) is trained and scored.

A rank is trained on D_tr, AutoLoRA's, by the retraining's settings. Over D_tr it takes as many epochs as the retraining
takes over all examples: where the recipe gives `steps`, |D_tr| / (|D_tr| + |D_val|) of them. Its score on D_val is the
metric that methods are compared by, or the mean loss where the family's training examples cannot be predicted
(`Task.predicts_training`). The best rank, the smallest of equals, is then trained on D_tr and D_val as any other.

All of it is the search's cost: its seconds, and its passes over batches, those that score included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from typing_extensions import override

from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.context.predictions import predictions_of
from autolora.context.steps import add_seconds, run_in
from autolora.data.split import split_train
from autolora.errors import UserError
from autolora.evaluation.loss import mean_loss
from autolora.files import read_state, write_state
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_shapes
from autolora.methods.peft import RankedLora
from autolora.metrics.base import Output, Score
from autolora.model.load import weights_hash
from autolora.recipe.schema import Recipe
from autolora.runs.manifest import device_record
from autolora.training.batches import Example
from autolora.training.finetune import Finetuning
from autolora.training.seeds import derive, seed_torch

FORMAT = 2  # of grid.json; the first has no number, and no SHA-256
LOSS = Output("loss", higher_is_better=False, high=None)


@dataclass(frozen=True)
class Plan:
    """What is the same for every rank.

    Args:
        shapes: (input, output) features of the layers by full name.
        train: D_tr.
        validation: D_val.
        total: Steps of a rank's training.
        identity: A hash of the settings, the data and the model.
    """

    shapes: Mapping[str, tuple[int, int]]
    train: Sequence[Example]
    validation: Sequence[Example]
    total: int
    identity: str


class LoraGrid(RankedLora):
    """What is known so far is in ``search/grid.json``, the log of a rank's training in ``search/grid/<rank>/``."""

    default_size = 16

    @classmethod
    @override
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        train = examples - round(examples * recipe.search.validation_fraction)
        of_all_ranks = cls.size_in(recipe.method) * steps_of_a_rank(recipe, train, examples)
        return 0, of_all_ranks + recipe.retrain.total_steps(examples)

    @override
    def search(self, context: Context) -> Ranks:
        run = self.run
        examples = context.examples(self.recipe.data.splits.train)
        model = context.model()
        check_fit(context, model, examples)
        device = device_record(context.compute.device, context.compute.precision)
        hashed, targets = weights_hash(model, context.head(model)), context.targets(model)
        run.note("search", data=context.hashes, model=hashed, device=device, target_modules=targets)
        shapes = target_shapes(model, context.targets(model))
        del model
        found = self._all_ranks(context, self._plan(context, examples, shapes))
        counts = ("steps", "forward_passes", "backward_passes")
        run.note("search", **{count: sum(entry[count] for entry in found.values()) for count in counts})
        scores = {rank: entry["score"] for rank, entry in found.items()}
        metric = found["1"]["metric"]
        best = best_rank(scores, lower=not found["1"].get("higher_is_better", metric != LOSS.name))
        ranks = self.given(dict.fromkeys(shapes, best), shapes, metric=metric, grid=scores)
        if context.main:
            ranks.save(run.path / "search" / "ranks.json")
        return ranks

    def _plan(self, context: Context, examples: Sequence[Example], shapes: Mapping[str, tuple[int, int]]) -> Plan:
        search, retrain = self.recipe.search, self.recipe.retrain
        divided = split_train(len(examples), search.validation_fraction, self.recipe.seed)
        train, validation = ([examples[i] for i in part] for part in divided)
        total = steps_of_a_rank(self.recipe, len(train), len(examples))
        settings = [self.settings.model_dump(mode="json"), retrain.model_dump(mode="json"), self.recipe.retrain_dropout]
        scale = [search.rank, search.lora_alpha, search.validation_fraction]
        return Plan(shapes, train, validation, total, context.identity("grid", settings, scale, total))

    def _all_ranks(self, context: Context, plan: Plan) -> dict[str, dict[str, Any]]:
        """By rank, as text: metric, score, steps and passes. What an interrupted search has done is read."""
        path = self.run.path / "search" / "grid.json"
        found = _done(path, plan.identity)
        for rank in range(1, self.size + 1):
            folder = f"search/grid/{rank}"
            if str(rank) not in found:
                found[str(rank)] = self._one_rank(context, plan, rank, folder)
                if context.main:
                    write_state(path, {"format": FORMAT, "identity": plan.identity, "ranks": found})
            if context.main:
                (self.run.path / folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return found

    def _one_rank(self, context: Context, plan: Plan, rank: int, folder: str) -> dict[str, Any]:
        """Train at a rank on D_tr, and score on D_val."""
        model, settings = context.model(), self.recipe.retrain
        head = context.head(model)
        seed_torch(derive(self.recipe.seed, "adapter"))
        ranks = self.given(dict.fromkeys(plan.shapes, rank), plan.shapes)
        ranks = ranks.scaled(self.recipe.retrain_alpha, self.recipe.retrain.scaling)
        trained = self.at_ranks(ranks, model, head, context).train()
        stage = Finetuning(
            trained,
            context.gradients(trained),
            context.stream(plan.train, settings, "grid"),
            self.weights(),
            total=plan.total,
            seed=self.recipe.seed,
            identity=f"{plan.identity} {rank}",
        )
        run_in(self.run, context, folder, stage, settings, plan.total, title=f"rank {rank}")
        begun = time.monotonic()
        score = _score(context, trained, plan.validation, f"rank {rank}")
        add_seconds(self.run, "search", time.monotonic() - begun)
        counted = stage.gradients.counted()
        scoring = -(-len(plan.validation) // self.recipe.eval.batch_size)
        counted["forward_passes"] += scoring
        return {
            "metric": score.name,
            "score": score.value,
            "higher_is_better": score.higher_is_better,
            "steps": plan.total,
            **counted,
        }


def steps_of_a_rank(recipe: Recipe, train: int, examples: int) -> int:
    """Steps over D_tr for as many epochs as the retraining takes over all examples.

    Args:
        recipe: Whose retrain section gives the epochs or steps.
        train: Examples of D_tr.
        examples: Of D_tr and D_val together.
    """
    if recipe.retrain.steps is None:
        return recipe.retrain.total_steps(train)
    return max(1, round(recipe.retrain.steps * train / examples))


def best_rank(scores: Mapping[str, float | None], *, lower: bool) -> int:
    """The rank of the best score, the smallest of equals; one without a score is worse than all others.

    Args:
        scores: By rank, as text.
        lower: Whether lower is better.
    """

    def order(rank: int) -> tuple[float, int]:
        score = scores[str(rank)]
        return (math.inf if score is None else score if lower else -score), rank

    return min((int(rank) for rank in scores), key=order)


def _done(path: Path, identity: str) -> dict[str, dict[str, Any]]:
    """The ranks that an interrupted search has done."""
    if not path.exists():
        return {}
    try:
        content = read_state(path, since=FORMAT)
    except UserError as error:
        raise UserError(f"{error}; put it back, or remove it to search anew") from error
    if content["identity"] != identity:
        raise UserError(
            f"{path} belongs to other settings, data or model than those of this run; "
            "start a new run, or take back what was changed"
        )
    found: dict[str, dict[str, Any]] = content["ranks"]
    return found


def _score(context: Context, model: nn.Module, examples: Sequence[Example], title: str) -> Score:
    """The score that methods are compared by, or the loss; its value is None where it is undefined."""
    if context.task.predicts_training:
        predictions = predictions_of(context, model, list(examples), f"{title}: D_val")
        return context.task.headline(context.task.metrics(predictions, examples))
    collate, size = partial(context.task.collate, tokenizer=context.tokenizer), context.recipe.eval.batch_size
    loss = mean_loss(model, context.task, examples, collate, batch_size=size, compute=context.compute)
    return LOSS.score(loss)
