"""The search: one bilevel iteration a step, until the selection variables have been learned (paper, algorithm 1).

An iteration, with batches of D_tr and D_val:
1. the estimator gives g = ∇_V L_tr and the hypergradient of z;
2. z takes an Adam step on the hypergradient;
3. V takes an AdamW step on g.

With `search.selection.every: n` that is every n-th step. At the others z is fixed and V takes its step on g alone, one
pass over the training batch, which is what a plain LoRA step costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from autolora.bilevel.estimators import one_level
from autolora.bilevel.inner import AdamStep, InnerStep, PlainStep, Tensors
from autolora.bilevel.saliency import Saliency
from autolora.errors import UserError
from autolora.lora.ranks import Ranks
from autolora.lora.selection import SelectionLoRA, learned_ranks
from autolora.recipe.schema import Search
from autolora.registry import ESTIMATORS
from autolora.training.batches import Batch, Batches
from autolora.training.gradients import Gradients
from autolora.training.optimizers import ScheduledOptimizer, norms_of
from autolora.training.seeds import derive


class BatchProblem:
    """The bilevel problem of one iteration (`autolora.bilevel.problem.Problem`) on a batch of D_tr and one of D_val.

    Args:
        gradients: What computes losses and gradients.
        train: The batch of D_tr.
        validation: The batch of D_val.
        weights: V.
        selection: z.
        seed: Of this iteration's dropout masks, which are the same in every pass over a batch.
        saliency: Is told of every pass over the validation batch.
    """

    def __init__(
        self,
        gradients: Gradients,
        train: Batch,
        validation: Batch,
        weights: Tensors,
        selection: Tensors,
        seed: int,
        saliency: Saliency | None = None,
    ) -> None:
        self.gradients, self.train_batch, self.validation_batch = gradients, train, validation
        self.weights, self.selection, self.saliency = weights, selection, saliency
        self.train_seed, self.validation_seed = derive(seed, "train"), derive(seed, "validation")

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, Tensors]:
        """The training loss L_tr and its gradients, shaped like `wrt`; see `Problem`."""
        # In bfloat16 a perturbation of e v is below the rounding of the weights: differences are taken in float32.
        return self.gradients.of(self.train_batch, wrt, self.train_seed, full_precision=difference)

    def validation(self, wrt: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
        """The validation loss L_val and its gradients, shaped like `wrt`."""
        factors = list(self.saliency.factors.values()) if self.saliency else []
        more = [tensor for tensor in factors if id(tensor) not in {id(each) for each in wrt}]
        loss, found = self.gradients.of(self.validation_batch, [*wrt, *more], self.validation_seed)
        if self.saliency:
            by_id = {id(tensor): gradient for tensor, gradient in zip([*wrt, *more], found, strict=True)}
            self.saliency.add([by_id[id(tensor)] for tensor in factors])
        return loss, found[: len(wrt)]

    def train_mixed_product(self, vector: Sequence[Tensor]) -> Tensors:
        """The product ∇_z (∇_V L_tr · vector) by double backward, shaped like z."""
        return self.gradients.mixed_product(self.train_batch, self.weights, vector, self.selection, self.train_seed)


class BilevelSearch:
    """The state of a search, and its step; a `autolora.training.loop.Trainable`.

    Args:
        model: With selection layers in place and the head trainable.
        layers: Those layers by full module name.
        gradients: What computes losses and gradients of the model.
        train: Batches of D_tr.
        validation: Batches of D_val.
        settings: Of the search.
        total: Number of steps.
        seed: The recipe's.
        identity: See `Trainable`.

    Raises:
        UserError: z would not be stepped once in so many steps.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, SelectionLoRA],
        gradients: Gradients,
        train: Batches,
        validation: Batches,
        settings: Search,
        *,
        total: int,
        seed: int,
        identity: str = "",
    ) -> None:
        self.layers, self.gradients, self.train, self.validation = layers, gradients, train, validation
        if (every := settings.selection.every) > total:
            raise UserError(
                f"search.selection.every: {every} is more than the {total} steps there are: the selection variables "
                "would not be stepped; lower it, or raise search.steps or search.epochs"
            )
        self.settings, self.seed, self.identity = settings, derive(seed, "search"), identity
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        selection = {name: p for name, p in trainable.items() if name.endswith(".selection_logits")}
        weights = {name: p for name, p in trainable.items() if name not in selection}
        self.weights = ScheduledOptimizer(weights, settings.weights, total)
        self.selection = ScheduledOptimizer(selection, settings.selection, total, decoupled=False)
        self.saliency = Saliency(layers) if settings.meta_learning else None
        self.estimate = ESTIMATORS.load(settings.estimator) if settings.meta_learning else one_level.estimate

    def advance(self, step: int) -> dict[str, Tensor]:
        """One iteration: the estimate, then a step of z and one of V; or a step of V alone.

        Args:
            step: From 0.

        Returns:
            "train_loss", and where z is stepped "validation_loss", scalars on the device.
        """
        if not self.selects_at(step):
            return self._advance_weights(step)
        problem = self.problem(step)
        result = self.estimate(problem, self.inner_step(step), self.settings.epsilon)
        self.selection.apply(result.selection, step)
        self.weights.apply(result.weights, step)
        return {"train_loss": result.train_loss, "validation_loss": result.validation_loss}

    def selects_at(self, step: int) -> bool:
        """Whether z is stepped.

        Args:
            step: From 0.
        """
        return (step + 1) % self.settings.selection.every == 0

    def _advance_weights(self, step: int) -> dict[str, Tensor]:
        """A plain training step at the present z."""
        seed = derive(derive(self.seed, step), "train")  # the masks that a step of z would have
        loss, g = self.gradients.of(self.train.at(step), list(self.weights.named.values()), seed)
        self.weights.apply(g, step)
        return {"train_loss": loss}

    def watched(self) -> Mapping[str, Tensor]:
        """Norms of the last step's gradients, and of V and z after it; those of z once it has been stepped."""
        return {
            **norms_of(self.weights, "gradient", "weights"),
            **norms_of(self.selection, "hypergradient", "selection variables"),
        }

    def problem(self, step: int) -> BatchProblem:
        """The bilevel problem of a step, at the present V and z.

        Args:
            step: From 0.
        """
        weights, selection = list(self.weights.named.values()), list(self.selection.named.values())
        train = self.train.at(step)
        # By the steps of z: all of D_val is seen in turn, however many steps of V lie between them.
        turn = step // self.settings.selection.every
        validation = self.validation.at(turn) if self.settings.meta_learning else train
        return BatchProblem(
            self.gradients, train, validation, weights, selection, derive(self.seed, step), self.saliency
        )

    def inner_step(self, step: int) -> InnerStep:
        """The inner step of a step: ξ is the recipe's, or the weights' learning rate at that step.

        Args:
            step: From 0.
        """
        xi = self.settings.inner_learning_rate
        xi = self.weights.learning_rate(step) if xi is None else xi
        return PlainStep(xi) if self.settings.inner_step == "plain" else AdamStep(xi, self.weights.moments, step + 1)

    def record(self, step: int) -> Mapping[str, object]:
        """Learning rates, ranks and selection variables (to six decimals), as the log has them.

        Args:
            step: Steps done, from 1.
        """
        found = self.ranks()
        return {
            "weights_learning_rate": self.weights.learning_rate(step - 1),
            "selection_learning_rate": self.selection.learning_rate(step - 1),
            "ranks": dict(found),
            "selection": {name: [round(a, 6) for a in values] for name, values in found.rule["selection"].items()},
        }

    def ranks(self) -> Ranks:
        """The ranks that the present selection variables give; with the saliencies so far in their `rule`."""
        found = learned_ranks(self.layers, self.settings.threshold)
        read = {"saliency": self.saliency.read()} if self.saliency else {}
        return replace(found, rule={**found.rule, **read})

    def state(self) -> dict[str, Tensor]:
        """V, z, both optimisers' moments and the passes so far, by name."""
        sums = self.saliency.state() if self.saliency else {}
        return {**self.weights.state(), **self.selection.state(), **self.gradients.state(), **sums}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on any device.
        """
        self.weights.load(tensors)
        self.selection.load(tensors)
        self.gradients.load(tensors)
        if self.saliency:
            self.saliency.load(tensors)
