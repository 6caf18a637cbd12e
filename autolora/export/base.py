"""What an exporter gets (`Allocation`) and gives (`Exported`), and what exporters share.

exported = EXPORT_FORMATS.load("axolotl")(read_allocation(Run.open(path)))
print(exported.text)    # the configuration, notes in its comments where the format has comments
print(exported.notes)   # what the tool cannot express, and what can be done instead
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from autolora import safe
from autolora.errors import UserError
from autolora.lora.ranks import Ranks

WIDTH = 120
CAUSAL_LM = "CAUSAL_LM"


@dataclass(frozen=True)
class Allocation:
    """A rank for every layer, and what else a tool must know to train at these ranks as autolora does.

    Args:
        source: The run's directory.
        model: The pretrained model, by hub id or local path.
        ranks: With their scaling.
        revision: The pretrained model's, on the hub.
        task_type: PEFT's (SEQ_CLS, TOKEN_CLS, CAUSAL_LM); None where the run does not tell.
        dropout: Of the updates' inputs.
        head: Modules that are trained in full beside LoRA.
        fan_in_fan_out: Whether the layers keep their weights transposed, as GPT-2's do.
        adapter: The run's trained LoRA adapter, None where there is none.
        remarks: What whoever reads the configuration should know of the run, in any format.
    """

    source: str
    model: str
    ranks: Ranks
    revision: str | None = None
    task_type: str | None = None
    dropout: float = 0.0
    head: tuple[str, ...] = ()
    fan_in_fan_out: bool = False
    adapter: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def target_modules(self) -> list[str]:
        """The layers that get LoRA.

        Raises:
            UserError: None does.
        """
        found = self.ranks.targets
        if not found:
            raise UserError(
                f"{self.source}: all ranks are 0, so there is no LoRA to configure; "
                "lower search.threshold and search anew"
            )
        return found

    @property
    def matched_beside(self) -> list[str]:
        """The layers without LoRA that PEFT would adapt for a list of the others, whose names theirs end in."""
        ends = tuple(f".{name}" for name in self.ranks.targets)
        return [name for name, rank in self.ranks.items() if not rank and name.endswith(ends)]

    def summary(self) -> str:
        """The ranks in one sentence."""
        total, most = self.ranks.total, self.ranks.initial_rank * len(self.ranks)
        left_out = len(self.ranks) - len(self.ranks.targets)
        without = f"; {left_out} without LoRA" if left_out else ""
        return (
            f"LoRA ranks of the autolora run {self.source}: sum {total} of {most} in {len(self.ranks)} layers{without}."
        )


@dataclass(frozen=True)
class Exported:
    """A configuration as text, and what has to be said about it."""

    text: str
    notes: tuple[str, ...] = ()


def number(value: float) -> int | float:
    """A whole number as an integer: 16.0 as 16."""
    return int(value) if float(value).is_integer() else value


def as_yaml(found: Allocation, values: Mapping[str, object], notes: Sequence[str]) -> Exported:
    """The values that are not None as YAML, below a comment that holds the summary and the notes.

    Args:
        found: What is exported.
        values: The tool's configuration, in the order of the file.
        notes: What the tool cannot express, beside the run's own remarks.
    """
    notes = (*found.remarks, *notes)
    lines = [
        line for text in (found.summary(), *notes) for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False)
    ]
    given = {key: value for key, value in values.items() if value is not None}
    body = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=WIDTH)
    return Exported("".join(f"# {safe.one_line(line)}\n" for line in lines) + body, notes)


def start_from_adapter(found: Allocation, key: str) -> str:
    """How a tool that loads PEFT adapters comes to exactly these ranks and scalings.

    Args:
        found: What is exported.
        key: The tool's setting of the adapter's path.
    """
    trained = f"{key}: {found.adapter} goes on from the weights that autolora trained. " if found.adapter else ""
    return (
        "A PEFT adapter carries its ranks and scalings with it, so training that starts from one has exactly these. "
        f"{trained}For fresh weights, make an untrained adapter: autolora export {found.source} --format peft "
        "--output DIR/adapter_config.json, then in Python "
        'get_peft_model(base, LoraConfig.from_pretrained("DIR")).save_pretrained("DIR"), '
        f"with base loaded as the tool loads it, and {key}: DIR."
    )
