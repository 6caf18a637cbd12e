"""What the columns of data files are usually called: `INPUTS` and `LABELS`, by task. For chat see `autolora.tasks`."""

from __future__ import annotations

SEQUENCE = (("text",), ("sentence",), ("sentence1", "sentence2"), ("premise", "hypothesis"))
INPUTS: dict[str, tuple[tuple[str, ...], ...]] = {  # by task, the usual names
    "classification": SEQUENCE,
    "regression": SEQUENCE,
    "tagging": (("tokens",), ("words",)),
    "generation": (("prompt",), ("input",), ("instruction",)),
}
LABELS: dict[str, tuple[str, ...]] = {
    "classification": ("label", "labels"),
    "regression": ("label", "labels", "score"),
    "tagging": ("tags", "ner_tags", "labels", "label"),
    "generation": ("completion", "target", "output", "response"),
}
