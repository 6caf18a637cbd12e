"""A recipe's lengths against its model's positions, and what has no bearing on the model or the task that is named."""

from __future__ import annotations

from autolora.errors import Fault, Found, UserError, faults_of
from autolora.experiment.model_faults import DECODING, config_of
from autolora.experiment.model_sizes import positions
from autolora.model.config import is_encoder
from autolora.model.folder import model_folder
from autolora.recipe.load import Limit, Where
from autolora.recipe.schema import Data, Decoding, Eval, Loss, MethodSettings, Model
from autolora.registry import TASKS


def check_sizes(
    data: Data,
    model: Model,
    method: MethodSettings,
    evaluation: Eval,
    where: Where,
    task: str | None = None,
    limit: Limit = None,
) -> list[Fault]:
    """Whether the lengths that a recipe says fit the model, as far as its configuration is here.

    Args:
        data: The recipe's data section.
        model: Its model section.
        method: Its method section.
        evaluation: Its eval section.
        where: Gives the place of a dotted field.
        task: The recipe's task family.
        limit: Of ranks; it has no bearing on this check.
    """
    try:
        config = config_of(model_folder(model.name, model.revision))
    except UserError:  # a fault of model.name
        return []
    if not config:
        return []
    found = [*_encoder(data, is_encoder(config)), *_positions(data, method, evaluation, positions(config), task)]
    return faults_of(found, where)


def _encoder(data: Data, encodes: bool) -> Found:
    needed = 2 * len(data.columns) + 1  # one before, one after each, and a token of each
    if encodes and data.max_length < needed:
        said = f"{data.max_length} tokens leave nothing of a text between the special tokens of an encoder"
        yield "data.max_length", said, f"raise it to {needed} at least; 64 and 128 are usual"


def _positions(data: Data, method: MethodSettings, evaluation: Eval, most: int | None, task: str | None) -> Found:
    """What is said; a default that is longer than the model may do for the data, which shows when it is encoded."""
    if most is None:
        return
    if data.max_length != Data.model_fields["max_length"].default and data.max_length > most:
        yield "data.max_length", f"{data.max_length} is above the model's {most} positions", f"lower it to {most}"
    new = evaluation.generation.max_new_tokens
    if task in DECODING and new != Decoding().max_new_tokens and new >= most:
        said = f"{new} leave no room for the input in the model's {most} positions"
        yield "eval.generation.max_new_tokens", said, "lower it"
    if method.name == "prefix" and method.size is not None and method.size >= most:
        said = f"a prefix of {method.size} tokens leaves no room for the input in the model's {most} positions"
        yield "method.size", said, "lower it"


def check_bearing(
    data: Data, evaluation: Eval, loss: Loss, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """What the sections say that the task's family makes no use of.

    Args:
        data: The recipe's data section.
        evaluation: Its eval section.
        loss: Its loss section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; those of other packages may make use of what they like.
        limit: Of ranks; it has no bearing on this check.
    """
    if task is None or task not in TASKS.ours:
        return []
    family = TASKS.load(task)
    found = [*_of_generation(data, evaluation, loss, family.decodes, task), *_of_classes(data, evaluation, loss, task)]
    found += [] if family.converses else _of_conversations(data, task)
    if evaluation.submission is not None and not family.submits:
        found.append(("eval.submission", f"no benchmark takes submission files of {task}", "leave it out"))
    return faults_of(found, where)


def _of_generation(data: Data, evaluation: Eval, loss: Loss, decodes: bool, task: str) -> Found:
    if decodes:
        return
    if loss.tokens != "outputs":
        yield "loss.tokens", f"has no bearing: {task} learns no tokens", "leave it out"
    if evaluation.generation != Decoding():
        yield "eval.generation", f"has no bearing: {task} generates no text", "leave it out"
    if data.linearise != "none":
        yield "data.linearise", f"has no bearing: {task} takes its inputs as they are", "leave it out"


def _of_conversations(data: Data, task: str) -> Found:
    if data.template is not None:
        yield "data.template", f"has no bearing: {task} has no conversations", "leave it out, or take task: chat"
    if data.packing:
        yield "data.packing", f"has no bearing: {task} has an example in each row", "leave it out, or take task: chat"


def _of_classes(data: Data, evaluation: Eval, loss: Loss, task: str) -> Found:
    """The names of classes, and what is done with them."""
    if data.labels is not None and not TASKS.load(task).named_labels:
        yield "data.labels", f"has no bearing: {task} has no classes", "leave it out"
    if evaluation.positive is not None and task != "classification":
        yield "eval.positive", f"has no bearing: {task} has no class that F1 is about", "leave it out"
    if loss.label_smoothing and task in ("regression", "imitation"):
        yield "loss.label_smoothing", f"has no bearing: the loss of {task} is of numbers", "leave it out"
