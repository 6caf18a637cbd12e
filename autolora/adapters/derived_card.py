"""The card of what is made of an adapter: of a smaller one, and of the model that it is merged into.

It is the card that autolora wrote for the adapter, with what no longer holds taken out or said anew. Where there is no
such card, or somebody has edited it, nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from autolora.adapters import card_file
from autolora.lora.places import rank_table
from autolora.lora.ranks import Ranks
from autolora.lora.stored import CARD
from autolora.metrics.base import Score
from autolora.tables import Row, to_markdown

_SECTION = "\n## "
OF_RESULTS = ("model-index", "metrics")  # entries of the front matter


def smaller_card(
    adapter: Path, output: Path, ranks: Ranks, parameters: tuple[int, int], scores: Mapping[str, Sequence[Score]]
) -> None:
    """Write the card of an adapter that was made smaller.

    Args:
        adapter: The folder that it was made of, whose card is read.
        output: Its folder.
        ranks: What it has.
        parameters: Of the factors, before and after.
        scores: On the evaluation splits by when, what was written last; empty where nothing was measured.
    """
    before, after = parameters
    said = f"By autolora, of an adapter with {before:,} parameters in its factors: {after:,} are left."
    measured = "Not measured. Those of the adapter that it was made of are in that one's card."
    rows: list[Row] = [{"": when, **{each.name: each.value for each in of}} for when, of in scores.items() if of]
    new = {"Made smaller": said, "Metrics": to_markdown(rows) if rows else measured, "Ranks": ranks_text(ranks)}

    def change(front: dict[str, Any], sections: dict[str, str]) -> dict[str, str]:
        for name in OF_RESULTS:
            front.pop(name, None)
        sections.pop("Cost", None)
        return {**new, **{title: new.get(title, text) for title, text in sections.items()}}

    _derive(adapter, output, change)


def merged_card(adapter: Path, output: Path, dtype: str) -> None:
    """Write the card of a merged model.

    Args:
        adapter: The folder whose card is read.
        output: The model's.
        dtype: Of its weights.
    """

    def change(front: dict[str, Any], sections: dict[str, str]) -> dict[str, str]:
        front["library_name"] = "transformers"
        front["tags"] = [tag for tag in front.get("tags", []) if not tag.startswith("base_model:") and tag != "lora"]
        note = f"The adapter is in the weights, which are in {dtype}. It was measured before it was merged."
        return {"Merged": note, **sections, "How to load it": _without_peft(sections.get("How to load it", ""))}

    _derive(adapter, output, change)


def ranks_text(ranks: Ranks) -> str:
    """Whether all layers have the same rank, the total, and a table by layer.

    Args:
        ranks: By full module name.
    """
    values = set(ranks.values())
    few, most = min(values), max(values)
    if len(values) == 1:
        said = f"The same rank everywhere: {few}, in all {len(ranks)} layers. Total: {ranks.total}."
    else:
        gone = sum(rank == 0 for rank in ranks.values())
        said = f"The ranks of its {len(ranks)} layers differ: from {few} to {most}. Total: {ranks.total}."
        said += f" {gone} of them kept nothing and are not adapted." if gone else ""
    said += f" LoRA at rank {ranks.initial_rank} everywhere would have {ranks.initial_rank * len(ranks)}."
    table = rank_table(ranks)
    rows: list[Row] = [
        {"layer": layer, **dict(zip(table.projections, of, strict=True))}
        for layer, of in zip(table.layers, table.values, strict=True)
    ]
    return f"{said}\n\n{to_markdown(rows)}"


def _derive(adapter: Path, output: Path, change: Callable[[dict[str, Any], dict[str, str]], dict[str, str]]) -> None:
    """The changed card, where there is one of ours."""
    path = adapter / CARD
    if not path.is_file() or not card_file.is_ours(path):
        return
    card = ModelCard(card_file.unsealed(path.read_text(encoding="utf-8")))
    front: dict[str, Any] = yaml.safe_load(card.data.to_yaml()) or {}
    head, *parts = f"\n{card.text.strip()}\n".split(_SECTION)
    found = {title.strip(): text.strip() for title, _, text in (part.partition("\n") for part in parts)}
    changed = change(front, found)
    body = "\n\n".join([head.strip(), *(f"## {title}\n\n{text.strip()}" for title, text in changed.items())])
    dumped = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    card_file.write(output, f"---\n{dumped}---\n\n{body}\n", anyway=True)


def _without_peft(text: str) -> str:
    """The code for a model that needs no adapter."""
    lines = []
    for line in text.splitlines():
        if line.startswith(("from peft import", "model = PeftModel.")):
            continue
        lines.append("base = adapter" if line.startswith("base = PeftConfig.") else line)
    return "\n".join(lines).replace("`pip install peft transformers`", "`pip install transformers`")
