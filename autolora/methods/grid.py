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

from autolora.data.split import split_train
from autolora.errors import UserError
from autolora.evaluation.loss import mean_loss
from autolora.files import read_json, write_json
from autolora.lab import Lab
from autolora.methods.base import RankedLora, lora_dropout
from autolora.model.load import check_length, weights_hash
from autolora.model.targets import target_modules
from autolora.recipe.schema import Recipe
from autolora.retrain.stage import RetrainStage
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.stages.steps import add_seconds, run_in
from autolora.training.batches import Example
from autolora.training.seeds import derive, seed_torch

LOSS = "loss"


@dataclass(frozen=True)
class Plan:
    """What is the same for every rank. total: steps; identity: of the settings, the data and the model."""

    names: Sequence[str]
    train: Sequence[Example]
    validation: Sequence[Example]
    total: int
    identity: str


class Grid(RankedLora):
    """What is known so far is in ``search/grid.json``, the log of a rank's training in ``search/grid/<rank>/``."""

    default_size = 16

    @classmethod
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        train = examples - round(examples * recipe.search.validation_fraction)
        of_all_ranks = cls.size_in(recipe.method) * steps_of_a_rank(recipe, train, examples)
        return 0, of_all_ranks + recipe.retrain.total_steps(examples)

    def search(self, run: Run, lab: Lab) -> dict[str, Any]:
        examples = lab.examples(self.recipe.data.splits.train)
        model = lab.model()
        check_length(model, lab.task.longest(examples))
        device = device_record(lab.accelerator.device)
        run.note("search", data=lab.hashes, model=weights_hash(model, lab.head(model)), device=device)
        names = list(target_modules(model, self.recipe.model.target_modules))
        del model
        found = self._all_ranks(lab, self._plan(lab, examples, names))
        counts = ("steps", "forward_passes", "backward_passes")
        run.note("search", **{count: sum(entry[count] for entry in found.values()) for count in counts})
        scores = {rank: entry["score"] for rank, entry in found.items()}
        metric = found["1"]["metric"]
        best = best_rank(scores, lower=metric == LOSS)
        alpha = self.recipe.search.lora_alpha
        record = {**self._ranks(names, best), "lora_alpha": alpha, "metric": metric, "grid": scores}
        if lab.main:
            write_json(run.path / "search" / "ranks.json", record)
        return record

    def _ranks(self, names: Sequence[str], rank: int) -> dict[str, Any]:
        return {"initial_rank": self.recipe.search.rank, "ranks": dict.fromkeys(names, rank)}

    def _plan(self, lab: Lab, examples: Sequence[Example], names: Sequence[str]) -> Plan:
        search, retrain = self.recipe.search, self.recipe.retrain
        divided = split_train(len(examples), search.validation_fraction, self.recipe.seed)
        train, validation = ([examples[i] for i in part] for part in divided)
        total = steps_of_a_rank(self.recipe, len(train), len(examples))
        settings = [self.settings.model_dump(mode="json"), retrain.model_dump(mode="json"), lora_dropout(self.recipe)]
        scale = [search.rank, search.lora_alpha, search.validation_fraction]
        return Plan(names, train, validation, total, lab.identity("grid", settings, scale, total))

    def _all_ranks(self, lab: Lab, plan: Plan) -> dict[str, dict[str, Any]]:
        """By rank, as text: metric, score, steps and passes. What an interrupted search has done is read."""
        path = self.run.path / "search" / "grid.json"
        found = _done(path, plan.identity)
        for rank in range(1, self.size + 1):
            folder = f"search/grid/{rank}"
            if str(rank) not in found:
                found[str(rank)] = self._one_rank(lab, plan, rank, folder)
                if lab.main:
                    write_json(path, {"identity": plan.identity, "ranks": found})
            if lab.main:
                (self.run.path / folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return found

    def _one_rank(self, lab: Lab, plan: Plan, rank: int, folder: str) -> dict[str, Any]:
        """Train at a rank on D_tr, and score on D_val."""
        model, settings = lab.model(), self.recipe.retrain
        head = lab.head(model)
        seed_torch(derive(self.recipe.seed, "adapter"))
        trained = self.at_ranks(self._ranks(plan.names, rank), model, head, lab).train()
        stage = RetrainStage(
            trained,
            lab.gradients(trained),
            lab.stream(plan.train, settings, "grid"),
            self.weights(),
            total=plan.total,
            seed=self.recipe.seed,
            identity=f"{plan.identity} {rank}",
        )
        run_in(self.run, lab, folder, stage, settings, plan.total, title=f"rank {rank}")
        begun = time.monotonic()
        metric, score = _score(lab, trained, plan.validation, f"rank {rank}")
        add_seconds(self.run, "search", time.monotonic() - begun)
        counted = stage.gradients.counted()
        scoring = -(-len(plan.validation) // self.recipe.eval.batch_size)
        counted["forward_passes"] += scoring
        return {"metric": metric, "score": score, "steps": plan.total, **counted}


def steps_of_a_rank(recipe: Recipe, train: int, examples: int) -> int:
    """Steps over D_tr, of so many examples, for as many epochs as the retraining takes over all examples."""
    if recipe.retrain.steps is None:
        return recipe.retrain.total_steps(train)
    return max(1, round(recipe.retrain.steps * train / examples))


def best_rank(scores: Mapping[str, float | None], *, lower: bool) -> int:
    """The rank of the best score, the smallest of equals; one without a score is worse than all others.

    lower: whether lower is better.
    """

    def order(rank: int) -> tuple[float, int]:
        score = scores[str(rank)]
        return (math.inf if score is None else score if lower else -score), rank

    return min((int(rank) for rank in scores), key=order)


def _done(path: Path, identity: str) -> dict[str, dict[str, Any]]:
    """The ranks that an interrupted search has done."""
    if not path.exists():
        return {}
    content = read_json(path)
    if content["identity"] != identity:
        raise UserError(
            f"{path} belongs to other settings, data or model than those of this run; "
            "start a new run, or take back what was changed"
        )
    found: dict[str, dict[str, Any]] = content["ranks"]
    return found


def _score(lab: Lab, model: nn.Module, examples: Sequence[Example], title: str) -> tuple[str, float | None]:
    """The name of the score, and its value; None where it has none."""
    from autolora.stages.evaluate import predictions_of  # which itself needs the methods

    if lab.task.predicts_training:
        predictions = predictions_of(lab, model, list(examples), f"{title}: D_val")
        return lab.task.headline(lab.task.metrics(predictions, examples))
    collate, size = partial(lab.task.collate, tokenizer=lab.tokenizer), lab.recipe.eval.batch_size
    loss = mean_loss(model, lab.task, examples, collate, batch_size=size, accelerator=lab.accelerator)
    return LOSS, loss if math.isfinite(loss) else None
