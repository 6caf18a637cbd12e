"""The sections of a recipe that say how ranks are found and how LoRA is trained at them: search, ranks, retrain."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from autolora.recipe.fields import (
    LATER,
    Accumulation,
    Alpha,
    BatchSize,
    Decay,
    Epochs,
    Epsilon,
    ExampleCount,
    Fraction,
    GradientNorm,
    InnerRate,
    ParameterCount,
    Patience,
    Probability,
    Rank,
    Rate,
    Section,
    Share,
    StepCount,
    Threshold,
    Tolerance,
    one_of,
)
from autolora.registry import ESTIMATORS, METRICS, SCORES

LOSS = "loss"  # the task's own, beside the metrics
KEPT_OUT, EVALUATIONS = 0.1, 10  # the share that is held out, and how often it is looked at, where it is not said


class Steps(Section):
    """How long a stage trains: `steps`, or `epochs` (3 where neither is given)."""

    steps: StepCount | None = None
    epochs: Epochs | None = None
    batch_size: BatchSize = 16  # examples per optimiser step, over all processes
    gradient_accumulation: Accumulation = 1  # the batch is split into so many micro-batches
    checkpoint_every: StepCount = 100  # steps
    log_every: StepCount = 10  # steps

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; leave one out")
        return self

    def total_steps(self, examples: int) -> int:
        """Optimiser steps of the stage over a set of so many examples."""
        if self.steps is not None:
            return self.steps
        batches = -(-examples // self.batch_size)
        return max(1, round((self.epochs or 3.0) * batches))


class Schedule(Section):
    """An optimiser's learning rate over a stage."""

    learning_rate: Rate
    weight_decay: Decay = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Probability = 0.06  # fraction of the steps


class Weights(Schedule):
    """The optimiser of V (LoRA factors and head): AdamW, torch's own or one of bitsandbytes'."""

    learning_rate: Rate = 1e-4
    optimizer: Annotated[Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"], LATER] = "adamw"
    # Longer gradients are shortened to this 2-norm; null: none is
    max_grad_norm: Annotated[GradientNorm | None, LATER] = None


class Selection(Schedule):
    """The optimiser of the selection logits z: Adam."""

    learning_rate: Rate = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Probability = 0.0
    # z is stepped at steps n, 2n, ...; at the others V alone is, at a plain training step's cost
    every: Annotated[StepCount, LATER] = 1


class Search(Steps):
    """The bilevel search for the selection variables; or, with ``estimator: none``, the beginning of one training.

    Without selection variables the search is the first `at` share of the retraining at rank k: its steps, batches and
    rates are the retraining's.
    """

    rank: Rank = 8  # k, components per layer before selection
    lora_alpha: Alpha = 16.0
    lora_dropout: Probability = 0.1
    validation_fraction: Share = 0.5  # share of the training split that is D_val
    validation_batch_size: BatchSize | None = None  # null: as batch_size
    meta_learning: bool = True  # false: one level, z and V learn from the same data
    estimator: Annotated[str, one_of(ESTIMATORS, "none")] = "central_difference"
    epsilon: Epsilon = 0.01  # a difference perturbs V by epsilon / ||v||
    inner_step: Literal["plain", "adam"] = "adam"  # V' = V - xi g, or V' = V - xi times Adam's step
    inner_learning_rate: InnerRate | None = None  # xi; null: the weights' learning rate at that step
    constraint: Literal["softmax", "sigmoid", "none"] = "softmax"
    threshold: Threshold | None = None  # null: 1/k (softmax), 0.5 (sigmoid), the layer's mean (none)
    weights: Weights = Weights()
    selection: Selection = Selection()
    at: Share = 0.5  # share of the retraining's steps that the search is, with estimator: none

    @property
    def selects(self) -> bool:
        """Whether there are selection variables."""
        return self.estimator != "none"


class BudgetSettings(Section):
    """How large the result may be: one of four, or none where nothing is said."""

    fraction: Fraction | None = None  # of the parameters of LoRA at rank k
    parameters: ParameterCount | None = None  # of all factors together
    rank: Rank | None = None  # as many parameters as this rank everywhere has
    tolerance: Tolerance | None = None  # rise of the loss that is accepted, as a share of what LoRA has gained

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.given) > 1:
            raise ValueError(f"{' and '.join(self.given)} exclude each other; a budget is one of {', '.join(BUDGETS)}")
        return self

    @property
    def given(self) -> dict[str, float]:
        """What it is, by the name of its kind; empty where nothing is said."""
        return {name: value for name in BUDGETS if (value := getattr(self, name)) is not None}


BUDGETS = tuple(BudgetSettings.model_fields)


OF_PAIRS = ("selection", "saliency")  # scores of pairs of columns; all others are of singular components


class RankRule(Section):
    """How ranks are read off what a search leaves: the paper's threshold, or one budget over all layers."""

    score: Annotated[str, one_of(SCORES)] = "selection"  # what a component is worth
    rule: Literal["threshold", "budget"] = "threshold"  # each layer's own λ (search.threshold), or budget
    budget: BudgetSettings = BudgetSettings()
    examples: ExampleCount = 250  # training rows that Fisher information and the rise of the loss are measured on
    held_out: Share = 0.05  # with a tolerance: share of the training rows that they are, which the search does not see


class Retrain(Steps):
    """LoRA at the found ranks, on D_tr and D_val together."""

    lora_alpha: Alpha | None = None  # null: as search.lora_alpha
    lora_dropout: Probability | None = None  # null: as search.lora_dropout
    scaling: Literal["constant", "per_rank"] = "constant"  # lora_alpha / k everywhere, or lora_alpha / rank
    start: Literal["scratch", "searched"] = "scratch"  # a fresh LoRA, or what the search has trained of the kept parts
    weights: Weights = Weights()
    # Which weights are written: those of the last step, or of the one that does best on rows that are held out.
    keep: Annotated[Literal["last", "best"], LATER] = "last"
    patience: Annotated[Patience | None, LATER] = None  # evaluations without a better one that end the training
    by: Annotated[str, one_of(METRICS, LOSS), LATER] = LOSS  # what better means: the task's loss, or a metric
    evaluate_every: Annotated[StepCount | None, LATER] = None  # steps; null: a tenth of them
    held_out: Annotated[Share | None, LATER] = None  # of the training rows, neither searched nor trained on; null: 0.1

    @model_validator(mode="after")
    def _held_out_for_something(self) -> Self:
        own = {name: type(self).model_fields[name].default for name in ("by", "evaluate_every", "held_out")}
        said = [name for name, default in own.items() if getattr(self, name) != default]
        if said and not self.evaluates:
            raise ValueError(f"{' and '.join(said)} say how weights are chosen: write keep: best, or a patience, too")
        if self.evaluate_every is not None and self.steps is not None and self.evaluate_every > self.steps:
            raise ValueError(f"evaluate_every: {self.evaluate_every} is more than the {self.steps} steps there are")
        return self

    @property
    def evaluates(self) -> bool:
        """Whether rows are held out of the training, and looked at while it goes on."""
        return self.keep == "best" or self.patience is not None

    @property
    def kept_out(self) -> float | None:
        """The share of the training rows that is held out; None where none is."""
        if not self.evaluates:
            return None
        return KEPT_OUT if self.held_out is None else self.held_out

    def every(self, total: int) -> int:
        """Steps from one evaluation to the next.

        Args:
            total: The training's.
        """
        return self.evaluate_every or -(-total // EVALUATIONS)

    @property
    def without_selection(self) -> str:
        """The method that AutoLoRA is where there are no selection variables."""
        return "squeeze" if self.start == "searched" else "fisher-scratch"
