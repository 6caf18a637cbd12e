"""The search: one bilevel iteration a step, until the selection variables have been learned (paper, algorithm 1).

An iteration, with batches of D_tr and D_val:
1. the estimator gives g = ∇_V L_tr and the hypergradient of z;
2. z takes an Adam step on the hypergradient;
3. V takes an AdamW step on g.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from autolora import registry
from autolora.model.selection import SelectionLoRA, selection_logits
from autolora.recipe.schema import Search
from autolora.search.estimators import ESTIMATORS
from autolora.search.inner import AdamStep, InnerStep, PlainStep, Tensors
from autolora.search.ranks import RankMap, select
from autolora.training.batches import Batch, BatchStream
from autolora.training.gradients import Gradients
from autolora.training.optimizers import ScheduledOptimizer
from autolora.training.seeds import derive


class BatchProblem:
    """The bilevel problem of one iteration (`autolora.search.bilevel.Problem`) on a batch of D_tr and one of D_val."""

    def __init__(
        self, gradients: Gradients, train: Batch, validation: Batch, weights: Tensors, selection: Tensors, seed: int
    ) -> None:
        self.gradients, self.train_batch, self.validation_batch = gradients, train, validation
        self.weights, self.selection = weights, selection
        self.train_seed, self.validation_seed = derive(seed, "train"), derive(seed, "validation")

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, Tensors]:
        # In bfloat16 a perturbation of e v is below the rounding of the weights: differences are taken in float32.
        return self.gradients.of(self.train_batch, wrt, self.train_seed, full_precision=difference)

    def validation(self, wrt: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
        return self.gradients.of(self.validation_batch, wrt, self.validation_seed)

    def train_mixed_product(self, vector: Sequence[Tensor]) -> Tensors:
        return self.gradients.mixed_product(self.train_batch, self.weights, vector, self.selection, self.train_seed)


class SearchStage:
    """The state of a search, and its step; a `autolora.training.loop.Stage`.

    model: with selection layers in place and the head trainable; layers: those layers by full module name.
    train, validation: batches of D_tr and D_val.
    total: number of steps. identity: see `Stage`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, SelectionLoRA],
        gradients: Gradients,
        train: BatchStream,
        validation: BatchStream,
        settings: Search,
        *,
        total: int,
        seed: int,
        identity: str = "",
    ) -> None:
        self.layers, self.gradients, self.train, self.validation = layers, gradients, train, validation
        self.settings, self.seed, self.identity = settings, derive(seed, "search"), identity
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        selection = {name: p for name, p in trainable.items() if name.endswith(".selection_logits")}
        weights = {name: p for name, p in trainable.items() if name not in selection}
        self.weights = ScheduledOptimizer(weights, settings.weights, total)
        self.selection = ScheduledOptimizer(selection, settings.selection, total, decoupled=False)
        self.estimate = registry.load(ESTIMATORS, settings.estimator) if settings.meta_learning else one_level()

    def advance(self, step: int) -> dict[str, Tensor]:
        problem = self.problem(step)
        result = self.estimate(problem, self.inner_step(step), self.settings.epsilon)
        self.selection.apply(result.selection, step)
        self.weights.apply(result.weights, step)
        return {"train_loss": result.train_loss, "validation_loss": result.validation_loss}

    def problem(self, step: int) -> BatchProblem:
        """The bilevel problem of a step, at the present V and z."""
        weights, selection = list(self.weights.named.values()), list(self.selection.named.values())
        train = self.train.at(step)
        validation = self.validation.at(step) if self.settings.meta_learning else train
        return BatchProblem(self.gradients, train, validation, weights, selection, derive(self.seed, step))

    def inner_step(self, step: int) -> InnerStep:
        """The inner step of a step: ξ is the recipe's, or the weights' learning rate at that step."""
        xi = self.settings.inner_learning_rate
        xi = self.weights.learning_rate(step) if xi is None else xi
        return PlainStep(xi) if self.settings.inner_step == "plain" else AdamStep(xi, self.weights.moments, step + 1)

    def record(self, step: int) -> Mapping[str, Any]:
        found = self.ranks()
        return {
            "weights_learning_rate": self.weights.learning_rate(step - 1),
            "selection_learning_rate": self.selection.learning_rate(step - 1),
            "ranks": found.ranks,
            "selection": {name: [round(a, 6) for a in values] for name, values in found.selection.items()},
        }

    def ranks(self) -> RankMap:
        """The ranks that the present selection variables give."""
        return select(selection_logits(self.layers), self.settings.constraint, self.settings.threshold)

    def state(self) -> dict[str, Tensor]:
        return {**self.weights.state(), **self.selection.state(), **self.gradients.state()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.weights.load(tensors)
        self.selection.load(tensors)
        self.gradients.load(tensors)


def one_level() -> Any:
    """The ablation without meta-learning."""
    from autolora.search.estimators.one_level import estimate

    return estimate
