"""One training at rank k that is cut down to a budget on its way (``squeeze``), and its controls.

The search is the first `at` share of a uniform LoRA's training: bit for bit that of ``lora:k``. Its singular
components are valued by the Fisher information of their gates (`autolora.allocation.gates`), the best within the budget
are kept, and the training goes on to its end: the optimiser forgets the factors' state, the head keeps its own, and
ten steps of warm-up lie on top of the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.allocation.budget import Kept, size
from autolora.allocation.components import components_of
from autolora.allocation.evidence import Evidence
from autolora.context.base import Context
from autolora.context.steps import run_in, timed
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers
from autolora.lora.exact import counted_parameters
from autolora.lora.targets import target_shapes
from autolora.methods.autolora import AutoLora
from autolora.methods.budgets import nearest_uniform
from autolora.methods.chance import shuffled
from autolora.methods.measure import (
    held_out,
    measured_gates,
    sample,
    say_if_early,
    steps_to_measure,
    with_measuring,
)
from autolora.methods.searched import head_state, restore
from autolora.recipe.method import beginning_share, budget_of
from autolora.recipe.schema import Recipe, Search
from autolora.recipe.stages import RankRule
from autolora.training.batches import Example
from autolora.training.finetune import Finetuning, Training
from autolora.training.seeds import derive, seed_torch


class Squeeze(AutoLora):
    """Fisher's choice, and on from there."""

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        own = not recipe.search.selects  # the recipe itself says how
        method, search, rule = recipe.method, recipe.search, recipe.ranks
        kept = {name: getattr(search, name) for name in ("rank", "lora_alpha", "lora_dropout")}
        halved = Search(estimator="none", at=beginning_share(search, method), **kept)
        if not own:
            rule = RankRule(score="fisher", rule="budget", examples=rule.examples, held_out=rule.held_out)
        rule = rule.model_copy(update={"budget": budget_of(recipe)})
        retrain = recipe.retrain.model_copy(update={"start": "searched"})
        return recipe.model_copy(update={"search": halved, "ranks": rule, "retrain": retrain})

    @classmethod
    @override
    def search_workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        measured = cls.measured_examples(recipe, examples)
        return 0, cls._begun_steps(recipe, examples) + steps_to_measure(measured, recipe)

    @classmethod
    @override
    def measured_examples(cls, recipe: Recipe, examples: int) -> int:
        rule = recipe.ranks
        return (
            round(rule.held_out * examples) if budget_of(recipe).tolerance is not None else min(examples, rule.examples)
        )

    @classmethod
    @override
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        total, (_, searched) = recipe.retrain.total_steps(examples), cls.search_workload(recipe, examples)
        going_on = cls.effective(recipe).retrain.start == "searched"
        return 0, searched + total - (cls._begun_steps(recipe, examples) if going_on else 0)

    @classmethod
    def _begun_steps(cls, recipe: Recipe, examples: int) -> int:
        return round(cls.effective(recipe).search.at * recipe.retrain.total_steps(examples))

    @classmethod
    def rank_in(cls, recipe: Recipe) -> int:
        """k, the rank that the training begins with; the scaling is `lora_alpha` / `search.rank` whatever it is.

        Args:
            recipe: With this method in it.
        """
        return recipe.method.size or recipe.search.rank

    @property
    def rank(self) -> int:
        """See `rank_in`."""
        return self.rank_in(self.recipe)

    def shared(self, context: Context) -> tuple[list[Example], list[Example]]:
        """The examples that the beginning is trained on, and those that are measured on.

        Args:
            context: Of the run.
        """
        examples = context.examples(self.recipe.data.splits.train)
        if budget_of(self.recipe).tolerance is None:
            return examples, sample(examples, self.recipe)
        return held_out(examples, self.recipe)

    @override
    def measured(self, context: Context) -> list[Example]:
        return self.shared(context)[1]

    @classmethod
    @override
    def search_parts(cls, recipe: Recipe) -> list[object] | None:
        recipe = cls.effective(recipe)
        rule, tolerant = recipe.ranks, budget_of(recipe).tolerance is not None
        return [
            "squeeze",
            [cls.rank_in(recipe), recipe.search.rank, recipe.search.at, recipe.retrain_alpha, recipe.retrain_dropout],
            {"held_out": rule.held_out} if tolerant else {"examples": rule.examples},
            recipe.retrain.model_dump(mode="json", exclude={"start", "scaling"}),
            cls.weights_in(recipe).model_dump(mode="json"),
        ]

    @override
    def find(self, context: Context) -> tuple[Evidence, Mapping[str, Tensor]]:
        """Train the beginning; the singular components with their gates' derivatives, and the head with its optimiser.

        Args:
            context: Of the run.
        """
        total = self._total(context)
        model, head = self._begun(context)
        shapes = target_shapes(model, context.targets(model))
        ranks = self.given(dict.fromkeys(shapes, self.rank), shapes)
        ranks = ranks.scaled(self.recipe.retrain_alpha, "constant")
        seed_torch(derive(self.recipe.seed, "adapter"))
        adapted = self.at_ranks(ranks, model, head, context).train()
        examples, measured = self.shared(context)
        stage = Finetuning(
            adapted,
            context.gradients(adapted),
            context.stream(examples, self.recipe.retrain, "retrain"),
            self.weights(),
            total=total,
            seed=self.recipe.seed,
            identity=self.search_identity(context),
        )
        begun = self._begun_steps(self.run.recipe, len(context.examples(self.recipe.data.splits.train)))
        run_in(self.run, context, "search", stage, self.recipe.retrain, begun)
        counted = with_measuring(stage.gradients.counted(), len(measured), self.recipe)
        self.run.note("search", **counted_parameters(adapted, ranks, head), steps=begun, **counted)
        layers: dict[str, Any] = dict(lora_layers(adapted))
        components = components_of(layers)
        if not any(len(each) for each in components.values()):
            raise UserError("every update is zero after the first steps: nothing has been trained that could be kept")
        with timed(self.run, "search"):
            gates = measured_gates(context, adapted, layers, components, measured, self.recipe)
            early = say_if_early(context, adapted, measured, self.recipe, begun, total)
        self.run.note("search", **early)
        return Evidence(components, gates), head_state(adapted, head, stage.weights)

    def _total(self, context: Context) -> int:
        """Steps of the whole training."""
        examples = context.examples(self.recipe.data.splits.train)
        total, begun = self.recipe.retrain.total_steps(len(examples)), self._begun_steps(self.run.recipe, len(examples))
        if not 0 < begun < total:
            raise UserError(
                f"search.at: {self.recipe.search.at} of {total} steps is {begun}, and both the beginning and what goes "
                "on from it need at least one; raise retrain.steps or retrain.epochs"
            )
        return total

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        if self.recipe.retrain.start == "scratch":
            return super().adapt(model, head, context, total)
        adapted, state = self.filled(self.run.ranks(), model, context, self.evidence(context))
        begun = self._begun_steps(self.run.recipe, len(context.examples(self.recipe.data.splits.train)))
        return Training(adapted, begin=begun, prepare=lambda optimizer: restore(optimizer, state, head, begun))


class SqueezeUniform(Squeeze):
    """Control: squeezed to ranks as even as squeeze's size goes, of each layer what Fisher values most.

    What a layer with fewer components cannot have goes to the others: the size stays squeeze's, up to less than one
    component of any layer that has more.
    """

    @override
    def rearrange(self, kept: Kept, values: Mapping[str, Tensor], evidence: Evidence) -> Kept:
        costs = {name: each.cost for name, each in evidence.of(self.recipe.ranks.score).items()}
        return best_of_each(nearest_uniform(costs, size(kept, costs), _counts(values)), values)


class SqueezeShuffled(Squeeze):
    """Control: squeezed to squeeze's ranks, permuted over the modules of a shape; of each layer what Fisher values.

    No layer gets more than it has components: the size is squeeze's.
    """

    @override
    def rearrange(self, kept: Kept, values: Mapping[str, Tensor], evidence: Evidence) -> Kept:
        shapes = {name: each.shape for name, each in evidence.of(self.recipe.ranks.score).items()}
        ranks = {name: len(each) for name, each in kept.items()}
        seed = derive(self.recipe.seed, "shuffled")
        return best_of_each(shuffled(ranks, shapes, seed, _counts(values)), values)


class FisherScratch(Squeeze):
    """Control: squeeze's ranks, trained from scratch."""

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        squeezed = super().effective(recipe)
        return squeezed.model_copy(update={"retrain": recipe.retrain.model_copy(update={"start": "scratch"})})


def _counts(values: Mapping[str, Tensor]) -> dict[str, int]:
    """How many components each layer has; none where it has learned nothing."""
    return {name: len(each) for name, each in values.items()}


def best_of_each(ranks: Mapping[str, int], values: Mapping[str, Tensor]) -> Kept:
    """Of each layer as many components as its rank says, those of the highest value.

    Args:
        ranks: By full module name.
        values: (components,) by the same names; where there are fewer than the rank, all of them.
    """
    return {
        name: tuple(sorted(values[name].argsort(descending=True, stable=True)[:rank].tolist()))
        for name, rank in ranks.items()
    }
