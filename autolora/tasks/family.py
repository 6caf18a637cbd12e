"""What a task family says of itself and of raw rows, before there is a tokenizer or a model: declarations and checks.

It is the part of the contract that a recipe and a file are checked by; the other part is `autolora.tasks.base.Task`,
which a family implements.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autolora.data.cells import Cell, Kind
from autolora.data.splits import Place
from autolora.metrics.base import Takes
from autolora.recipe.schema import Data, Eval
from autolora.registry import METRICS

if TYPE_CHECKING:
    from autolora.tasks.usage import About, Usage

Wrong = tuple[str, str, str]  # of a recipe: the dotted field, the rule with the value, and what to do


class Family(ABC):
    """A task family as a class: what it is, which recipes it can do, and what it makes of their rows."""

    peft_task_type: ClassVar[str]  # PEFT's name of the family, written into the adapter
    auto_class: ClassVar[str]  # transformers' auto class with this family's head
    new_head: ClassVar[bool] = True  # whether that class adds a head which the checkpoint lacks, and which is trained
    one_column: ClassVar[str] = ""  # of a family that takes one column of input: the rule, as a message says it
    submits: ClassVar[bool] = False  # whether benchmarks take submission files of its predictions
    predicts_training: ClassVar[bool] = True  # whether training examples can be predicted as they are, and scored
    converses: ClassVar[bool] = False  # whether its examples are conversations, which a chat template writes
    decodes: ClassVar[bool] = False  # whether its outputs are decoded token by token, by a causal language model
    named_labels: ClassVar[bool] = False  # whether its labels are names of classes
    gives_scores: ClassVar[bool] = False  # whether its predictions have probabilities
    gives: ClassVar[Takes | None] = None  # what its metrics are about; None: each says so itself
    scores_tokens: ClassVar[bool] = False  # whether metrics of tokens are about its references, too
    default_metrics: ClassVar[tuple[str, ...]] = ()  # where the recipe names none
    one_label: ClassVar[bool] = True  # whether rows of the same input that have other labels contradict each other
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}  # what the tokenizer must be loaded with
    pipeline_tag: ClassVar[str] = ""  # what the hub calls the task; "" where it has no name for it

    @classmethod
    def with_metrics(cls, evaluation: Eval) -> Eval:
        """The eval section with the family's metrics where it names none."""
        return evaluation if evaluation.metrics else evaluation.model_copy(update={"metrics": cls.default_metrics})

    @classmethod
    def faults(cls, data: Data, evaluation: Eval) -> Iterator[Wrong]:
        """What the recipe's sections say that the family cannot do, without a look at the data.

        Args:
            data: The recipe's section.
            evaluation: Likewise.
        """
        suitable = [name for name in METRICS.ours if (of := METRICS.load(name).takes) and cls.suits(of)]
        hint = f"choose from: {', '.join(suitable)}"
        if not evaluation.metrics:
            yield "eval.metrics", "the recipe names no metric, and its task family has none of its own", hint
        for i, name in enumerate(evaluation.metrics):
            takes = METRICS.load(name).takes
            if not cls.suits(takes):
                yield (
                    f"eval.metrics.{i}",
                    f"{name!r} is a metric of {takes}, and the task's outputs are {cls.gives or 'its own'}",
                    hint,
                )
        if not cls.converses:  # where one column may hold both
            yield from _answers_given(data)
        if cls.one_column and len(data.columns) != 1:
            yield "data.columns", f"{cls.one_column}, got {', '.join(data.columns)}", "name one"

    @classmethod
    def suits(cls, takes: Takes | None) -> bool:
        """Whether a metric can score what the family gives.

        Args:
            takes: What the metric takes; None: anything.
        """
        if takes == "tokens":
            return cls.scores_tokens
        return takes is None or cls.gives is None or takes == cls.gives

    @classmethod
    def kinds(cls, data: Data) -> Mapping[str, Kind]:
        """What each column must hold; one that is left out holds names.

        Columns that the recipe does not name may be among them; they are read if they are there.
        """
        return dict.fromkeys(data.columns, "text")

    @classmethod  # noqa: B027  # the kinds may be all there is
    def check_rows(cls, rows: Any, data: Data, place: Place) -> None:
        """Check what the columns' kinds don't say. No cell is missing here.

        Args:
            rows: Of one split, all of them; without the label's column where the split has no labels.
            data: The recipe's section.
            place: The file and the line of a row, which is counted from 0.

        Raises:
            UserError: A row does not hold what this family needs.
        """

    @classmethod
    def groups(cls, rows: Any, data: Data) -> Sequence[int] | None:
        """Which example each row of an evaluation split belongs to, from 0 on; None where each is one.

        Args:
            rows: Of the split, as `check_rows` accepts them.
            data: The recipe's section.
        """
        return None

    @classmethod
    def questions(cls, rows: Any, data: Data) -> Iterator[Any] | None:
        """What is asked in each row, JSON-able, where that is not what its input columns hold; None where it is.

        Args:
            rows: As in `groups`.
            data: Likewise.
        """
        return None

    @classmethod
    def bundles(cls, rows: Any, data: Data) -> Sequence[int] | None:
        """Which rows have to stay on one side when a part is held out, from 0 on; None where those of one input have.

        Args:
            rows: As in `groups`.
            data: Likewise.
        """
        return cls.groups(rows, data)

    @classmethod
    def asked(cls, cells: Mapping[str, Cell], data: Data, place: str) -> dict[str, Cell]:
        """What is asked in a row, without what it may say of the answer.

        Args:
            cells: By column, of the row's inputs, and of its label where it has one.
            data: The recipe's section.
            place: Where the row stands.

        Raises:
            UserError: The row makes no sense.
        """
        return {name: cell for name, cell in cells.items() if name != data.label or name in data.columns}

    @classmethod
    def usage(cls, about: About) -> Usage | None:
        """Python that predicts as `predict` does, for a model card; None where the family has none to show.

        Args:
            about: What it depends on.
        """
        return None


def _answers_given(data: Data) -> Iterator[Wrong]:
    """A label among the inputs: the model would be given what it is asked for."""
    places = [("data", data.columns, data.label)]
    if data.evaluation is not None:
        other = data.source_of("")
        places.append(("data.evaluation", other.columns, other.label))
    for place, columns, label in places:
        if label in columns:
            message = f"{label!r} is among the columns, too: the model would be given the answer"
            yield f"{place}.label", message, "take it out of them"
        if len(set(columns)) < len(columns):
            yield f"{place}.columns", f"{columns[0]!r} is named twice", "name each column once"
