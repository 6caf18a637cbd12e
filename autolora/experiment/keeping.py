"""What a training's weights are chosen by: rows of the training split that neither search nor training sees.

    held = held_out(context)                       # faults are raised here, before anything is trained
    keeping = held.keeping(context, training, named, total)

The evaluation splits have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from autolora.context.base import Context
from autolora.context.fit import check_inputs
from autolora.errors import RunError, UserError
from autolora.evaluation.loss import mean_loss
from autolora.evaluation.predict import predict
from autolora.metrics.compute import headline
from autolora.recipe.stages import LOSS
from autolora.registry import METHODS, METRICS
from autolora.tasks.base import Task, TeacherForced
from autolora.training.batches import Example
from autolora.training.finetune import Training
from autolora.training.keeping import Keeping

FIELD = "retrain.held_out"
SPLIT = "held out of training"  # what the rows are called in messages


@dataclass(frozen=True)
class HeldOut:
    """The rows, as they are looked at.

    Args:
        task: The recipe's task, with the metric as its only one.
        by: The metric's name, or `LOSS`.
        examples: To be predicted; for the loss, as they would be trained on.
        forced: The references to score the tokens of, where the metric is about these.
    """

    task: Task
    by: str
    examples: Sequence[Example]
    forced: TeacherForced | None = None

    def keeping(self, context: Context, training: Training, named: Mapping[str, Tensor], total: int) -> Keeping:
        """What looks at the weights while they are trained.

        Args:
            context: Of the run.
            training: What the method trains.
            named: Its trained parameters.
            total: Steps.

        Raises:
            UserError: There is no step after which weights may be kept.
        """
        settings = context.recipe.retrain
        name, higher = LOSS, False
        if self.by != LOSS:
            score = headline(self.by)
            name, higher = score.name, score.higher_is_better
        return Keeping(
            named,
            partial(self._measure, context, training.model),
            name,
            every=settings.every(total),
            best=settings.keep == "best",
            patience=settings.patience,
            higher_is_better=higher,
            first=max(training.begin + 1, training.whole_from),
        )

    def passes(self, context: Context) -> int:
        """Passes over batches that one evaluation takes; of decoding, one for each batch."""
        count = len(self.forced[0]) if self.forced else 0
        return -(-(len(self.examples) + count) // context.recipe.eval.batch_size)

    def _measure(self, context: Context, model: nn.Module) -> float | None:
        """The value of the weights as they are; the model is left in training mode, as it was."""
        try:
            return self._value(context, model)
        except RunError as error:
            raise RunError(f"retrain, rows held out: {error}") from error
        finally:
            model.train()

    def _value(self, context: Context, model: nn.Module) -> float | None:
        size, compute = context.recipe.eval.batch_size, context.compute
        collate = partial(self.task.padded, tokenizer=context.tokenizer)
        if self.by == LOSS:
            return mean_loss(model, self.task, self.examples, collate, batch_size=size, compute=compute)
        more: dict[str, Any] = {"tokenizer": context.tokenizer, "batch_size": size, "compute": compute}
        records: list[dict[str, Any]] = [{} for _ in self.examples]
        if self.task.predicts:
            records = predict(model, self.task, self.examples, collate, **more)
        if self.forced is not None:
            sequences, owners = self.forced
            scores = predict(model, self.task, sequences, collate, say=self.task.score_tokens, **more)
            for owner, found in zip(owners, scores, strict=True):
                for name, value in found.items():
                    records[owner][name] = records[owner].get(name, 0) + value
        return self.task.headline(self.task.metrics(records, self.examples)).value


def held_out(context: Context) -> HeldOut | None:
    """The rows that a recipe holds out of its training; None where it holds out none.

    Args:
        context: Of the recipe.

    Raises:
        UserError: The method takes no steps, or the rows cannot be used for what they are held out for.
    """
    if context.recipe.retrain.evaluates and context.chosen_by is None:
        context.chosen_by = _made(context)
    return context.chosen_by


def _made(context: Context) -> HeldOut:
    recipe = context.recipe
    if not METHODS.load(recipe.method.name).trains:
        raise UserError(
            f"retrain.keep: method {recipe.method.name} takes no training steps whose weights could be chosen among; "
            "leave keep and patience out"
        )
    by, rows = recipe.retrain.by, context.kept_out
    if by == LOSS:
        return HeldOut(context.task, by, context.task.encode(rows, context.tokenizer, SPLIT, "train"))
    evaluation = recipe.eval.model_copy(update={"metrics": (by,), "positive": _positive(context, by)})
    task = context.family(recipe.data, evaluation, context.splits, recipe.loss, context.task.names or None)
    for row, fault in task.reference_faults(rows):
        raise UserError(f"retrain.by: {fault} (row {row + 1} of those held out); mend the row, or choose by {LOSS}")
    examples = task.encode(rows, context.tokenizer, SPLIT, "eval")
    forced = task.teacher_forced(rows, context.tokenizer, SPLIT) if task.tokens_scored else None
    check_inputs(context, context.skeleton, examples)
    return HeldOut(task, by, examples, forced)


def _positive(context: Context, by: str) -> str | None:
    """The class that a metric is about, where it is about one."""
    return context.recipe.eval.positive if METRICS.load(by).of_classes else None
