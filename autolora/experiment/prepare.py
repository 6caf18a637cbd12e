"""What a run needs of its data, made before anything is trained or written: ``prepare(context)``.

Every split is read, its labels mapped by name, and it is encoded; so whatever is wrong with one of them is said at
once. The names of the classes are settled on the way: a run's own, where it has been trained with some already.
"""

from __future__ import annotations

from autolora.context.base import Context
from autolora.context.device import check_device
from autolora.context.fit import check_skeleton
from autolora.data.labels import listed
from autolora.errors import UserError
from autolora.evaluation.references import check_references
from autolora.experiment.keeping import held_out
from autolora.model.fit import unknown_faults
from autolora.registry import METHODS
from autolora.runs.base import read_base
from autolora.runs.labels import read_labels, write_labels
from autolora.runs.store import Run


def prepare(context: Context, run: Run | None = None, *, training: bool = True) -> None:
    """Read and encode the splits, and check them.

    Args:
        context: Of the recipe; what is made is kept in it.
        run: The run, where there is one already, whose class names hold.
        training: Whether the training split is used, too.

    Raises:
        UserError: The method cannot do the recipe; a row cannot be used; the recipe names other classes than the run
            was trained with; no word of the training split reaches the model; all its targets are the same; a metric
            has no use for a reference; or the examples, or what is to be trained, do not fit the model.
    """
    METHODS.load(context.recipe.method.name).check_recipe(context.recipe)
    check_device(context)
    if run is not None:
        read_base(run.path)  # a damaged one is said before the stage begins
        _take_labels(run, context)
    train = context.recipe.data.splits.train
    splits = dict.fromkeys([*([train] if training else []), *context.recipe.data.splits.eval])
    if training and not context.task.sees_words(context.examples(train), context.tokenizer):
        missing = next(unknown_faults(context.tokenizer, context.examples(train)), None)
        raise UserError(missing or _no_word(context))
    if training and (same := context.task.sameness(context.examples(train))) is not None:
        raise UserError(_nothing_to_learn(context, same))
    for split in context.recipe.data.splits.eval:
        check_references(context.task, context.splits, split)
    if training:
        held_out(context)
    check_skeleton(context, splits, lora=training and METHODS.load(context.recipe.method.name).adapts_layers)


def _nothing_to_learn(context: Context, same: str) -> str:
    data = context.recipe.data
    split, report = data.splits.train, context.splits.reports[data.splits.train]
    used = len(context.splits[split])
    limited = f" that data.limits leaves of {report.rows}" if used < report.rows else ""
    return (
        f"data.label: all {used} rows{limited} of split {split!r} {same} in column {data.label!r} (first "
        f"{report.places(0)}): there is nothing to learn; look at the column, or "
        f"{'raise data.limits' if limited else 'take other rows'}"
    )


def _no_word(context: Context) -> str:
    data = context.recipe.data
    if context.task.cut_off.get(data.splits.train):
        return (
            f"data.max_length: {data.max_length} leaves no word of any text of split {data.splits.train!r} "
            f"({', '.join(data.columns)}) to the model; raise it"
        )
    return (
        f"split {data.splits.train!r}: the tokenizer of {context.recipe.model.name} makes nothing of any of its texts "
        f"({', '.join(data.columns)}): no word would reach the model; look at the texts, or take a model of their "
        "language"
    )


def keep_labels(run: Run, context: Context) -> None:
    """Write the names of the classes into the run, where it has none yet.

    Args:
        run: The run.
        context: Of its recipe.
    """
    if context.main and context.task.names and read_labels(run.path) is None:
        write_labels(run.path, context.task.names)
    context.compute.wait()


def _take_labels(run: Run, context: Context) -> None:
    """The run's names for the task, which is made with them."""
    kept = read_labels(run.path)
    given = run.recipe.data.labels
    if kept is not None and given is not None and list(given) != kept:
        raise UserError(
            f"data.labels: {run.path} was trained with the classes {listed(kept)}, and the recipe names "
            f"{listed(given)}; take that back, or start a new run"
        )
    context.kept_labels = kept
