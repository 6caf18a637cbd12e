"""Figures that others published, each with its source: ``published_rows(["cola", "e2e"])``.

They are beside the tables for orientation only: other models, budgets and ways to pick the epoch. Such rows are marked
as published wherever they are shown, and take no part in what is best, in means or in tests. The cells of the AutoLoRA
paper's own tables are not here; its text gives the GLUE average.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
# What the main figures are of, as our columns call it: `PublishedRow.scores`.
MAIN = {
    **dict.fromkeys(GLUE, "accuracy"),
    **{"cola": "matthews_correlation", "stsb": "pearson"},
    **{"e2e": "bleu", "webnlg": "bleu", "jnlpba": "f1"},
}
AS_THEY_ARE = frozenset({"nist", "cider"})  # not in percent


@dataclass(frozen=True)
class PublishedRow:
    """One method of one source.

    method, model: as the source calls them; a method of "" is the model's own. source: where it is published.
    note: how the figures came about, may be empty.
    tasks: short names of the tasks that the row tells of (in the average at least).
    scores: the main figure by task: in percent (a BLEU of 0.682 is 68.2).
    others: further figures by task and metric: in percent, but NIST and CIDEr as they are.
    average: in percent. averaged: over how many of GLUE's tasks, None where the source does not say.
    """

    method: str
    model: str
    source: str
    tasks: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    average: float | None = None
    averaged: int | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """What to call the row, with the mark that it is not one's own."""
        return f"{', '.join(filter(None, (self.method, self.model)))} (published)"

    def figure(self, task: str, metric: str) -> str | None:
        """What stands beside one's own scores: a figure of the same metric, or None.

        Args:
            task: Its short name.
            metric: That one's own scores are of; "" where there are none.
        """
        value = self.scores.get(task) if metric in ("", MAIN.get(task)) else self.others.get(task, {}).get(metric)
        return None if value is None else f"{value:.{2 if metric in AS_THEY_ARE else 1}f}"


_ROBERTA, _DEBERTA, _GPT2 = "RoBERTa-base", "DeBERTa-v3-base", "GPT-2 medium"
_LORA_README, _LILY = "microsoft/LoRA README", "Lily, ACL 2025"
_NO_MNLI_START = "not started from the MNLI adapter"
_SIX = ("sst2", "mrpc", "cola", "qnli", "rte", "stsb")


def _six(method: str, figures: tuple[float, ...], average: float) -> PublishedRow:
    scores = dict(zip(_SIX, figures, strict=True))
    return PublishedRow(method, _ROBERTA, _LILY, _SIX, scores, average=average, averaged=6, note=_NO_MNLI_START)


def _deberta(method: str, average: float) -> PublishedRow:
    return PublishedRow(method, _DEBERTA, "the methods' papers", GLUE, average=average)


def _e2e(method: str, figures: tuple[float, float, float, float, float], source: str) -> PublishedRow:
    bleu, nist, meteor, rouge_l, cider = figures
    others = {"nist": nist, "meteor": meteor, "rouge_l": rouge_l, "cider": cider}
    return PublishedRow(method, _GPT2, source, ("e2e",), {"e2e": bleu}, {"e2e": others})


PUBLISHED = (
    PublishedRow(
        "AutoLoRA",
        _ROBERTA,
        "arXiv 2403.09113, NAACL 2024",
        GLUE,
        average=85.5,
        averaged=8,
        note="development sets",
    ),
    PublishedRow(
        "LoRA r=8",
        _ROBERTA,
        _LORA_README,
        GLUE,
        dict(zip(GLUE, (87.5, 95.1, 89.7, 63.4, 93.3, 90.8, 86.6, 91.5), strict=True)),
        {"stsb": {"spearman": 91.3}},
        average=87.24,
        averaged=8,
        note="MRPC, RTE and STS-B start from the MNLI adapter; median of 5 seeds, best epoch",
    ),
    PublishedRow("full fine-tuning", _ROBERTA, _LORA_README, GLUE, average=86.40, averaged=8),
    _six("LoRA", (94.8, 89.8, 63.3, 92.9, 78.2, 91.5), 85.1),
    _six("AdaLoRA", (94.5, 88.7, 62.0, 93.1, 81.0, 90.5), 85.0),
    _deberta("full fine-tuning", 88.25),
    _deberta("LoRA", 88.50),
    _deberta("DoRA", 88.98),
    _deberta("AdaLoRA", 89.46),
    _deberta("PiSSA", 89.83),
    _e2e("full fine-tuning", (68.2, 8.62, 46.2, 71.0, 2.47), "LoRA paper"),
    _e2e("LoRA", (70.4, 8.85, 46.8, 71.8, 2.53), "LoRA paper"),
    _e2e("LoRA, as reproduced by users", (68.7, 8.68, 46.4, 71.3, 2.50), "microsoft/LoRA issue 165"),
    PublishedRow(
        "LoRA",
        _GPT2,
        "LoRA paper",
        ("webnlg",),
        {"webnlg": 55.3},
        {"webnlg": {"bleu of unseen categories": 46.7, "bleu of seen categories": 62.1}},
    ),
    PublishedRow("", "PubMedBERT", "PubMedBERT's paper", ("jnlpba",), {"jnlpba": 74.9}),
    PublishedRow("", "BioBERT", "BioBERT's paper", ("jnlpba",), {"jnlpba": 77.5}),
)


def published_rows(tasks: Collection[str]) -> list[PublishedRow]:
    """The rows that tell of at least one of `tasks`: GLUE's names (`GLUE`), ``e2e``, ``webnlg``, ``jnlpba``.

    None is known for other tasks (of ``bionlp2004`` no figure was found).
    """
    return [row for row in PUBLISHED if any(task in row.tasks for task in tasks)]
