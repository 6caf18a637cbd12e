"""``--format torchtune``: the LoRA settings of the ``model`` section of a torchtune configuration.

What torchtune reads (pytorch/torchtune): its builders of LoRA models (``lora_llama3_2_1b`` and its like, in
torchtune/models/*/_model_builders.py) take one ``lora_rank`` and one ``lora_alpha``, ``lora_attn_modules`` (kinds of
attention layers, q_proj, k_proj, v_proj and output_proj, in every block), ``apply_lora_to_mlp`` (all layers of every
block's MLP) and ``apply_lora_to_output``. Neither a rank per layer nor a choice of layers of one kind can be said. The
builder itself, ``_component_``, belongs to the model and stays as it is in the configuration that these go into; on the
command line they are ``model.lora_rank=8`` and so on.
"""

from __future__ import annotations

import re

from autolora.errors import UserError
from autolora.export.base import CAUSAL_LM, Allocation, Exported, as_yaml, number
from autolora.export.uniform import nearest_uniform_rank, uniform_notes

TOOL = "torchtune"
ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "output_proj"}  # by our name
MLP = ("gate_proj", "up_proj", "down_proj")
OUTPUT = "lm_head"
BLOCK = re.compile(r"(?:^|\.)layers\.\d+\.")
KEYS = (  # of the model section; each is an argument of torchtune's builders
    "lora_attn_modules",
    "apply_lora_to_mlp",
    "apply_lora_to_output",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
)


def export(found: Allocation) -> Exported:
    """The LoRA settings of a torchtune model, with notes on what they cannot express.

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0, or a layer has no counterpart in torchtune's models.
    """
    targets, rank = found.target_modules, nearest_uniform_rank(found)
    kinds = {name.rpartition(".")[2] for name in targets}
    if foreign := sorted(kinds - {*ATTENTION, *MLP, OUTPUT}):
        raise UserError(
            f"{found.source}: torchtune's models are decoders like Llama, which have no layers {', '.join(foreign)}; "
            "use --format peft"
        )
    if not kinds & ATTENTION.keys():
        raise UserError(
            f"{found.source}: torchtune's models have LoRA in some attention layers at least, and this run's ranks are "
            "0 in all of them; use --format peft"
        )
    settings = {
        "lora_attn_modules": [theirs for ours, theirs in ATTENTION.items() if ours in kinds],
        "apply_lora_to_mlp": bool(kinds & {*MLP}),
        "apply_lora_to_output": OUTPUT in kinds,
        "lora_rank": rank,
        "lora_alpha": number(found.ranks.alpha_at(rank)),
        "lora_dropout": found.dropout,
    }
    return as_yaml(found, {"model": settings}, [*_place(found), *_uniform(found, rank), *_beside(found, kinds)])


def _place(found: Allocation) -> list[str]:
    head = f" torchtune trains no module in full beside LoRA ({', '.join(found.head)})." if found.head else ""
    task = f" It trains causal language models, this run is of another kind ({found.task_type})."
    other = task if found.task_type not in (None, CAUSAL_LM) else ""
    return [
        f"These go into the model section of a configuration for {found.model}, whose _component_ names its LoRA "
        f"builder (tune ls shows them; lora_llama3_2_1b for instance).{head}{other}"
    ]


def _uniform(found: Allocation, rank: int) -> list[str]:
    instead = "torchtune loads no adapter that has other ranks; tools that do: --format peft, axolotl."
    return uniform_notes(TOOL, "lora_rank", found, rank, instead=instead)


def _beside(found: Allocation, kinds: set[str]) -> list[str]:
    """The layers that torchtune adapts, too: whole kinds only, and the MLP's as one."""
    wider = {*kinds, *(MLP if kinds & {*MLP} else ())}
    beside = [name for name, rank in found.ranks.items() if not rank and name.rpartition(".")[2] in wider]
    notes = []
    if beside:
        notes.append(
            f"torchtune adapts a kind of layer in every block: {len(beside)} layers of rank 0 get LoRA, too "
            f"({beside[0]}{', …' if len(beside) > 1 else ''})."
        )
    unnamed = [kind for kind in MLP if kind in wider and not any(n.endswith(f".{kind}") for n in found.ranks)]
    blocks = {match.group() for name in found.ranks if (match := BLOCK.search(name))}
    if unnamed and blocks:
        notes.append(f"torchtune adapts the MLP as a whole, {', '.join(unnamed)} among it, which the run does not.")
    return notes
