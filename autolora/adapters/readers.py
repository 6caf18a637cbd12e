"""What programs that serve adapters make of one: ``readings(config, shapes)``, from its two files alone.

They read PEFT's format by rules of their own, and some go on silently where an adapter says more than they know: other
scalings are computed with, or parts are left out. A `Reading` says so beforehand. Their rules, from their sources:

- vLLM, from 0.32 on (``vllm/lora/peft_helper.py``): rank_pattern, alpha_pattern and use_rslora as PEFT has them; no
  DoRA, no biases, no other head than ``classifier`` and ``score``. `max_lora_rank` must not be below ``r`` or any rank.
- vLLM before that: ``r`` and ``lora_alpha`` make one scaling for all modules, the patterns are not read.
- llama.cpp (``convert_lora_to_gguf.py``, ``llama-adapter.h``): each module is scaled by ``lora_alpha`` / its own rank,
  whatever else the configuration says; the converter ends at a tensor that is no factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autolora.lora.stored import WRAPPED, Shape, scaling_in, scaling_of

VLLM, EARLIER_VLLM, LLAMA_CPP = "vLLM from 0.32 on", "vLLM before 0.32", "llama.cpp"
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be
HEADS = ("classifier", "score")  # what vLLM takes of modules_to_save
_A, _FACTORS = ".lora_A.weight", (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")
# What vLLM refuses of a configuration, and how it calls that.
_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "biases of LoRA",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
}


@dataclass(frozen=True)
class Reading:
    """What one program makes of an adapter.

    Args:
        program: Its name.
        refused: Why it does not take the adapter; empty where it does.
        scaled: How many modules it would scale otherwise than PEFT, without a word; one rank and one scaling for all
            (``autolora compress --uniform``) is what it reads right.
        max_rank: The least `max_lora_rank` of vLLM's; None elsewhere, and above what it knows.
    """

    program: str
    refused: tuple[str, ...] = ()
    scaled: int = 0
    max_rank: int | None = None

    @property
    def right(self) -> bool:
        """Whether it computes what PEFT computes."""
        return not self.refused and not self.scaled


def readings(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[Reading, ...]:
    """One for each program.

    Args:
        config: The content of adapter_config.json, of a LoRA.
        shapes: Of the adapter's tensors, by the name in its file.
    """
    ranks = {name.removeprefix(WRAPPED).removesuffix(_A): shape[0] for name, shape in shapes.items() if _A in name}
    wanted = {name: scaling_in(config, name) for name in ranks}
    one = scaling_of(config, int(config["r"]), float(config["lora_alpha"]))
    refused = tuple(_vllm_faults(config))
    largest = max((int(config["r"]), *ranks.values()))
    least = next((each for each in MAX_RANKS if each >= largest), None)
    apart = sum(not math.isclose(one, scaling, rel_tol=1e-6) for scaling in wanted.values())
    own = sum(
        not math.isclose(float(config["lora_alpha"]) / ranks[name], scaling, rel_tol=1e-6)
        for name, scaling in wanted.items()
    )
    return (
        Reading(VLLM, refused, max_rank=least),
        Reading(EARLIER_VLLM, refused, apart, least),
        Reading(LLAMA_CPP, tuple(_llama_cpp_faults(shapes)), own),
    )


def _vllm_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for key, what in _REFUSED.items():
        if config.get(key):
            yield f"it has no {what}"
    if config.get("bias", "none") != "none":
        yield "it has no biases of adapters"
    if other := [name for name in config.get("modules_to_save") or () if name not in HEADS]:
        yield f"of trained modules it takes {' and '.join(HEADS)} alone, not {other[0]}"


def _llama_cpp_faults(shapes: Mapping[str, Shape]) -> Iterator[str]:
    if other := sorted(name for name in shapes if not name.endswith(_FACTORS)):
        yield f"its converter ends at {other[0].removeprefix(WRAPPED)}, which is no factor of a LoRA"


def in_words(found: tuple[Reading, ...]) -> list[str]:
    """What has to be said: which programs would silently compute something else; empty where none would.

    Args:
        found: From `readings`.
    """
    apart = [each.program for each in found if each.scaled and not each.refused]
    if not apart:
        return []
    return [
        f"{' and '.join(apart)} would scale modules otherwise than PEFT, and say nothing; for them write the adapter "
        "at one rank: autolora compress DIR --budget 1 --uniform --output DIR2"
    ]
