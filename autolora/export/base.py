"""What an exporter gets (`Allocation`) and gives (`Exported`), and what exporters share.

exported = registry.load(FORMATS, "axolotl")(read_allocation(Run.open(path)))
print(exported.text)    # the configuration, notes in its comments where the format has comments
print(exported.notes)   # what the tool cannot express, and what can be done instead
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from autolora.errors import UserError

WIDTH = 120
CAUSAL_LM = "CAUSAL_LM"


@dataclass(frozen=True)
class Allocation:
    """A rank for every layer, and what else a tool must know to train at these ranks as autolora does.

    source: the run's directory. adapter: its trained LoRA adapter, None where there is none.
    model, revision: the pretrained model, by hub id or local path.
    task_type: PEFT's (SEQ_CLS, TOKEN_CLS, CAUSAL_LM); None where the run does not tell.
    ranks: by full module name, in the model's order; 0 where a layer gets no LoRA.
    scaling: "constant" is lora_alpha / initial_rank in every layer, "per_rank" is lora_alpha / rank.
    head: modules that are trained in full beside LoRA.
    fan_in_fan_out: whether the layers keep their weights transposed, as GPT-2's do.
    remarks: what whoever reads the configuration should know of the run, in any format.
    """

    source: str
    model: str
    ranks: Mapping[str, int]
    initial_rank: int
    lora_alpha: float
    revision: str | None = None
    task_type: str | None = None
    dropout: float = 0.0
    scaling: str = "constant"
    head: tuple[str, ...] = ()
    fan_in_fan_out: bool = False
    adapter: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def target_modules(self) -> list[str]:
        """The layers that get LoRA. Raises UserError where none does."""
        found = [name for name, rank in self.ranks.items() if rank > 0]
        if not found:
            raise UserError(
                f"{self.source}: all ranks are 0, so there is no LoRA to configure; "
                "lower search.threshold and search anew"
            )
        return found

    def alpha(self, name: str) -> float:
        """What PEFT divides by the layer's rank to get its scaling."""
        constant = self.scaling == "constant"
        return self.lora_alpha * self.ranks[name] / self.initial_rank if constant else self.lora_alpha

    def summary(self) -> str:
        """The ranks in one sentence."""
        total, most = sum(self.ranks.values()), self.initial_rank * len(self.ranks)
        left_out = sum(rank == 0 for rank in self.ranks.values())
        without = f"; {left_out} without LoRA" if left_out else ""
        return (
            f"LoRA ranks of the autolora run {self.source}: sum {total} of {most} in {len(self.ranks)} layers{without}."
        )


@dataclass(frozen=True)
class Exported:
    """A configuration as text, and what has to be said about it."""

    text: str
    notes: tuple[str, ...] = ()


def anchored(name: str) -> str:
    """A key of PEFT's patterns that matches this full module name and no other, as autolora's own adapters have it."""
    return "^" + re.escape(name)


def number(value: float) -> int | float:
    """A whole number as an integer: 16.0 as 16."""
    return int(value) if float(value).is_integer() else value


def as_yaml(found: Allocation, values: Mapping[str, Any], notes: Sequence[str]) -> Exported:
    """The values that are not None as YAML, below a comment that holds the summary and the notes."""
    notes = (*found.remarks, *notes)
    lines = [
        line for text in (found.summary(), *notes) for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False)
    ]
    given = {key: value for key, value in values.items() if value is not None}
    body = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=WIDTH)
    return Exported("".join(f"# {line}\n" for line in lines) + body, notes)


def start_from_adapter(found: Allocation, key: str) -> str:
    """How a tool that loads PEFT adapters under `key` comes to exactly these ranks and scalings."""
    trained = f"{key}: {found.adapter} goes on from the weights that autolora trained. " if found.adapter else ""
    return (
        "A PEFT adapter carries its ranks and scalings with it, so training that starts from one has exactly these. "
        f"{trained}For fresh weights, make an untrained adapter: autolora export {found.source} --format peft "
        "--output DIR/adapter_config.json, then in Python "
        'get_peft_model(base, LoraConfig.from_pretrained("DIR")).save_pretrained("DIR"), '
        f"with base loaded as the tool loads it, and {key}: DIR."
    )
