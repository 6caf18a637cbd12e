"""Our metrics as `evaluate.Metric` modules, for those who work with that library.

``Accuracy().compute(predictions=[0, 1], references=[0, 0])`` gives ``{"accuracy": 0.5}``. They need no network, add up
batches and single examples, and can be combined by `evaluate.combine`. AutoLoRA itself does without them.

A shell for another metric is a class with a ``metric``, below the one of `Shell` and its heirs that takes its inputs.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import evaluate
from datasets import Features, List, Value
from typing_extensions import override

from autolora.metrics import (
    accuracy,
    bleu,
    chrf,
    cider,
    entities,
    exact_match,
    f1,
    last_number,
    matthews,
    meteor,
    nist,
    pearson,
    perplexity,
    relative_error,
    rouge_l,
    spearman,
    ter,
    token_accuracy,
)
from autolora.metrics.base import NO_EXAMPLES, Metric


class Shell(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """A metric of labels or numbers: no files, numbers in, clear errors.

    `evaluate` makes a folder for every metric and keeps the predictions in it; the folder may be read-only, or shared
    with other processes. So they are kept in memory unless ``keep_in_memory=False`` is asked for.
    """

    metric: ClassVar[Metric]
    prediction: ClassVar[Any] = Value("float64")  # nothing is rounded: a probability where a label belongs is refused
    reference: ClassVar[Any] = Value("float64")
    takes: ClassVar[str] = "predictions and references: numbers, one of each per example."

    def __init__(self, config_name: str | None = None, keep_in_memory: bool = True, **options: Any) -> None:
        super().__init__(config_name, keep_in_memory=keep_in_memory, **options)

    @override
    def _build_data_dir(self) -> Any:
        return "" if self.keep_in_memory else super()._build_data_dir()

    @override
    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=inspect.getdoc(self.metric.function) or "",
            citation="",
            features=Features({"predictions": self.prediction, "references": self.reference}),
            inputs_description=self.takes,
        )

    @override
    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Take one more batch of predictions and references."""
        if predictions is None or references is None:
            raise ValueError("a metric needs both predictions and references")
        self.metric.validate(predictions, references)
        super().add_batch(predictions=predictions, references=references, **others)

    @override
    def _finalize(self) -> None:
        if self.keep_in_memory and not len(self):
            self.writer = None  # the next compute starts afresh
            raise ValueError(NO_EXAMPLES)
        super()._finalize()

    @override
    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return dict(self.metric.function(predictions, references))


class TextShell(Shell):
    """A metric of texts with one or more references each."""

    prediction = Value("string")
    reference = List(Value("string"))
    takes = "predictions: texts; references: for each of them a list of texts."


class TagShell(Shell):
    """A metric of sentences, each a list of tags."""

    prediction = List(Value("string"))
    reference = List(Value("string"))
    takes = "predictions and references: a list of tags (O, B-x, I-x) for each sentence."


class VectorShell(Shell):
    """A metric of lists of numbers for every word."""

    prediction = List(List(Value("float64")))
    reference = List(List(List(Value("float64"))))
    takes = (
        "predictions: for each example a list of numbers for each word; references: for each two such, the right "
        "numbers and the untrained model's."
    )


class TokenShell(Shell):
    """A metric of what a model says of the references' tokens."""

    prediction = List(Value("float64"))
    reference = Value("int64")
    takes = "predictions: for each example the tokens' log-likelihood and the hits among them; references: how many."


class Accuracy(Shell):
    """The share of predictions that are right."""

    metric = accuracy.METRIC


class F1(Shell):
    """F1 of one class, or the mean over several.

    Its `average` can be set for good (``F1(average="macro")``, which is what `evaluate.combine` needs) or for one call
    of `compute`.
    """

    metric = f1.METRIC

    def __init__(self, config_name: str | None = None, *, average: str = "auto", **options: Any) -> None:
        super().__init__(config_name, **options)
        self.average = average

    @override
    def _compute(
        self, predictions: Any, references: Any, average: str | None = None, pos_label: int = 1
    ) -> dict[str, Any]:
        return f1.f1(predictions, references, average or self.average, pos_label)


class Matthews(Shell):
    """Matthews' correlation coefficient of two or more classes."""

    metric = matthews.METRIC


class Pearson(Shell):
    """The correlation coefficient of the numbers."""

    metric = pearson.METRIC


class Spearman(Shell):
    """The correlation coefficient of the numbers' ranks."""

    metric = spearman.METRIC


class Entities(TagShell):
    """Entity scores; "entities" is the number of entities in the references, and "by_type" has the same by type."""

    metric = entities.METRIC

    @override
    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return {
            **super()._compute(predictions, references),
            "entities": entities.entity_count(references),
            "by_type": entities.entities_by_type(predictions, references),
        }


class Bleu(TextShell):
    """Corpus BLEU, from 0 to 1."""

    metric = bleu.METRIC


class Chrf(TextShell):
    """The F-score of character and word n-grams, chrF++, from 0 to 1."""

    metric = chrf.METRIC


class Cider(TextShell):
    """CIDEr, which weighs n-grams by how rare they are; needs Java."""

    metric = cider.METRIC


class ExactMatch(TextShell):
    """The share of texts that are one of their references, but for blanks."""

    metric = exact_match.METRIC


class LastNumber(TextShell):
    """The share of texts whose last number is that of a reference."""

    metric = last_number.METRIC


class Meteor(TextShell):
    """METEOR 1.5; needs Java."""

    metric = meteor.METRIC


class Nist(TextShell):
    """NIST as mteval-v13a counts it."""

    metric = nist.METRIC


class Perplexity(TokenShell):
    """exp of the mean negative log-likelihood of a token; smaller is better."""

    metric = perplexity.METRIC


class TokenAccuracy(TokenShell):
    """The share of tokens that the model thinks likeliest."""

    metric = token_accuracy.METRIC


class RelativeError(VectorShell):
    """The squared error in that of the untrained model; smaller is better."""

    metric = relative_error.METRIC


class RougeL(TextShell):
    """ROUGE-L as the COCO caption evaluation has it; needs Java."""

    metric = rouge_l.METRIC


class Ter(TextShell):
    """Translation edit rate; smaller is better."""

    metric = ter.METRIC
