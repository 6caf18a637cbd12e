"""The contract of a task family: encode, collate, model head, loss, predict, metrics.

Nothing outside a family's module asks which family it is. What it says of recipes and rows is in
`autolora.tasks.family`. A family is built from the recipe's data and eval sections and the raw splits:

    task = Classification(recipe.data, recipe.eval, splits)
    model = getattr(transformers, task.auto_class).from_pretrained(name, **task.head_config())
    examples = task.encode(splits["train"], tokenizer, "train", "train")
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from autolora.errors import UserError
from autolora.metrics.base import Score
from autolora.metrics.compute import headline
from autolora.recipe.schema import Data, Eval, Loss
from autolora.registry import METRICS
from autolora.tasks.family import Family
from autolora.tasks.scored import Scored, over_splits

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from autolora.tables import Row
    from autolora.training.batches import Example, TensorBatch
    from autolora.training.sampling import Sampled

WHOLE = "all"  # of a split's parts, in the rows of a metrics table
Purpose = Literal["train", "eval"]
# Sequences with labels as `collate` takes them, and for each of them which example of the split it is a reference of.
TeacherForced = tuple[list["Example"], list[int]]


def part_of(row: Row) -> tuple[str, ...]:
    """Which part of its split a row of a metrics table is about; nothing where it is about the whole.

    Args:
        row: See `autolora.tasks.scored.Scored.part`.
    """
    texts = ((name, cell) for name, cell in row.items() if isinstance(cell, str))
    return tuple(cell for name, cell in texts if name != "split" and cell != WHOLE)


class Task(Family):
    """One task family on one data set.

    Args:
        data: The recipe's data section.
        evaluation: The recipe's eval section: metrics, decoding, batch size.
        splits: Raw rows by split name (`datasets.Dataset`).
        loss: The recipe's loss section.
        kept: The names of the classes, where a run was trained with some already.
    """

    names: Sequence[str] = ()  # of the classes, by id; empty where the family has none

    def __init__(
        self,
        data: Data,
        evaluation: Eval,
        splits: Mapping[str, Any],
        loss: Loss = Loss(),  # noqa: B008  # it is frozen
        kept: Sequence[str] | None = None,
    ) -> None:
        self.data, self.loss_settings, self.kept = data, loss, kept
        self.evaluation = self.with_metrics(evaluation)
        for field, message, hint in self.faults(data, self.evaluation):
            raise UserError(f"{field}: {message}; {hint}")
        self.cut_off: dict[str, int] = {}  # by split, how many of its encoded examples lost tokens to data.max_length
        self.prepare(splits)

    @property
    def predicts(self) -> bool:
        """Whether a metric of the recipe needs predictions; those of tokens alone need none."""
        return not all(METRICS.load(name).takes == "tokens" for name in self.evaluation.metrics)

    @property
    def tokens_scored(self) -> bool:
        """Whether a metric of the recipe is about the references' tokens."""
        return any(METRICS.load(name).takes == "tokens" for name in self.evaluation.metrics)

    def reference_faults(self, rows: Any) -> Iterator[tuple[int, str]]:
        """References of an evaluation split that a metric of the recipe has no use for: the row, and why.

        Args:
            rows: As `check_rows` accepts them, with labels.
        """
        yield from ()

    def teacher_forced(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str) -> TeacherForced:
        """The references of an evaluation split, as they are trained on, for metrics of tokens.

        Args:
            rows: A split's raw rows, with labels.
            tokenizer: The model's.
            split: Its name, for messages.
        """
        raise UserError(f"the task family {type(self).__name__} has no tokens to score")

    def score_tokens(
        self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase
    ) -> list[dict[str, Any]]:
        """What the model says of the references' tokens: a record for each of the batch's sequences.

        Args:
            model: The model with this family's head, in evaluation mode.
            batch: Of `teacher_forced` sequences as `collate` gives it, on the model's device.
            tokenizer: The model's.

        Returns:
            Records with "log_likelihood", "hits" and "tokens" (see `autolora.metrics.tokens`).
        """
        raise UserError(f"the task family {type(self).__name__} has no tokens to score")

    def prepare(self, splits: Mapping[str, Any]) -> None:  # most families have nothing to do here
        """Take from the raw splits what the family keeps of them: the names of the labels, for instance.

        Args:
            splits: Raw rows by split name, of all splits that were loaded.
        """

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the head needs of the model's config: number of labels, their names."""

    def longest(self, examples: Sequence[Example]) -> int:
        """Tokens of the longest sequence that the model may get to see, generated ones included.

        Args:
            examples: Of one split, as `encode` gives them; at least one.
        """
        return max(len(example["input_ids"]) for example in examples)

    @abstractmethod
    def encode(self, rows: Any, tokenizer: PreTrainedTokenizerBase, split: str, purpose: Purpose) -> list[Example]:
        """Token ids and the target of every row, in order.

        Args:
            rows: A split's raw rows, which `check_rows` has accepted; without labels, examples are without them, too.
            tokenizer: The model's.
            split: Its name, for messages.
            purpose: Whether the examples are trained on or predicted.

        Returns:
            Dicts with at least "input_ids"; what else is in them is the family's own.

        Raises:
            UserError: A row cannot be encoded; the message names the split and the row.
        """

    def sources(self, rows: Any, purpose: Purpose) -> Iterator[int]:
        """The row that each example comes from, in the order of `encode`.

        Args:
            rows: A split's raw rows.
            purpose: See `encode`.
        """
        return iter(range(len(rows)))

    def targets(self, labels: Iterable[Any]) -> dict[str, float]:
        """What there is to say of a split's labels, beside how many rows each class has.

        Args:
            labels: The cells of the label's column.
        """
        return {}

    def lost(self, examples: Sequence[Example]) -> dict[str, int]:
        """What `data.max_length` took from a split, in the family's own units.

        Args:
            examples: As `encode` gives them.
        """
        return {}

    def sees_words(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether anything of the data reaches the model.

        Args:
            examples: Of the training split, as `encode` gives them.
            tokenizer: The model's, whose special tokens say nothing.
        """
        special = set(tokenizer.all_special_ids)
        return any(not special.issuperset(example["input_ids"]) for example in examples)

    def sameness(self, examples: Sequence[Example]) -> str | None:
        """What all targets have in common, so that there is nothing to learn from them; None where they differ.

        Args:
            examples: Of the training split, as `encode` gives them; at least one.

        Returns:
            The predicate of a sentence about them: ``have the class 'good'``.
        """
        return None

    def grouped(self, rows: Any) -> list[Any]:
        """The examples of an evaluation split without a tokenizer, to score what another system made of them.

        Families whose outputs may come from elsewhere have this, `key` and `said`.

        Args:
            rows: The split's raw rows.

        Returns:
            What `reference_record` and `metrics` take, each with its raw "input".

        Raises:
            UserError: The outputs of this family cannot come from elsewhere.
        """
        raise UserError("outputs of other systems can be scored for generation tasks only")

    def key(self, value: Any) -> str:
        """What two writings of one raw input have in common.

        Args:
            value: The input, as the data has it or as somebody else's file writes it.
        """
        return str(value)

    def said(self, text: str) -> str:
        """What is scored of a text that a model, or another system, has written: a line.

        Args:
            text: As it was written.
        """
        return " ".join(text.split())

    @abstractmethod
    def collate(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """A padded batch, on the CPU.

        Args:
            examples: As `encode` gives them.
            tokenizer: The model's, which pads.

        Returns:
            Tensors by name, of shape (examples, positions) where a family does not say otherwise.
        """

    def padded(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TensorBatch:
        """A batch with one example a row and an "attention_mask", whatever the recipe says of packing.

        Args:
            examples: As `encode` gives them.
            tokenizer: The model's, which pads.
        """
        return self.collate(examples, tokenizer)

    def depends_on(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What the examples depend on that neither the recipe nor the rows say, hashed; "" where there is nothing.

        Args:
            tokenizer: The model's.
        """
        return ""

    @abstractmethod
    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """The losses of the batch's units, summed.

        Args:
            model: The model with this family's head, adapted or not.
            batch: As `collate` gives it, on the model's device.

        Returns:
            A float32 scalar with its graph; divided by the batch's `units` it is the mean loss.
        """

    def sampled_loss(self, model: nn.Module, batch: TensorBatch, draws: torch.Generator) -> Sampled:
        """Σ -log p(ŷ | x) over the batch's units, ŷ drawn from the model's own prediction; no label smoothing.

        Args:
            model: The model with this family's head, in evaluation mode.
            batch: As `collate` gives it, on the model's device; its labels say which positions count, no more.
            draws: A CPU generator.
        """
        raise UserError(f"the task family {type(self).__name__} has no sampled_loss, which the score fisher needs")

    def units(self, examples: Sequence[Example]) -> int:
        """What the loss is averaged over: examples here, target tokens elsewhere.

        Args:
            examples: Of a batch, or of a whole split.
        """
        return len(examples)

    def guess(self, examples: Sequence[Example]) -> float | None:
        """The loss of the best prediction that is the same for every unit; None where that says nothing.

        Args:
            examples: With labels; at least one.
        """
        return None

    @abstractmethod
    def predict(self, model: nn.Module, batch: TensorBatch, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """The predictions of a batch.

        Args:
            model: The model with this family's head, in evaluation mode.
            batch: As `collate` gives it, on the model's device.
            tokenizer: The model's, which decodes what is generated.

        Returns:
            One JSON-able record per example, in order, with at least "prediction".
        """

    def answer(self, record: Mapping[str, Any], example: Example, *, scores: bool = False) -> dict[str, Any]:
        """A prediction as people read it: names for numbers.

        Args:
            record: Of the example, as `predict` gives it.
            example: As `encode` gives it.
            scores: Whether probabilities are wanted, of a family that has them.
        """
        return {"prediction": record["prediction"]}

    def reference_record(self, example: Example) -> dict[str, Any]:
        """What stands beside an example's prediction in the predictions file: JSON-able, enough to score it again.

        Args:
            example: As `encode` or `grouped` gives it.
        """
        return {"reference": example["label"]} if "label" in example else {}

    @abstractmethod
    def metrics(self, predictions: Sequence[dict[str, Any]], examples: Sequence[Example]) -> list[Scored]:
        """The recipe's metrics of an evaluation split.

        Args:
            predictions: Records as `predict` gives them.
            examples: What they are of, in the same order.

        Returns:
            The scores of the whole split, or of each of its parts, the whole among them.
        """

    @property
    def positive(self) -> str | None:
        """The name of the class that metrics of two classes are about; None where no metric of the recipe is."""
        return None

    def headline(self, scored: Sequence[Scored]) -> Score:
        """The score that methods are compared by: the recipe's first metric over whole splits, averaged over them.

        Args:
            scored: What `metrics` gave for each of the evaluation splits with labels; where there is none, the score
                has no value.
        """
        wanted = headline(self.evaluation.metrics[0])
        return next((score for score in over_splits(scored) if score.name == wanted.name), wanted.score(None))
