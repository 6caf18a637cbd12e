"""Memory of a run by stage, computed without any weight: ``estimate(config, "AutoModelForCausalLM", settings)``.

| symbol | meaning |
|---|---|
| P, P_q | parameters of the base; those of them that are quantised (linear layers but the output embeddings) |
| V | trained parameters: Σ k (n + m) over the layers with LoRA, and the task's head |
| Z | selection variables, k a layer |
| T | positions of a micro-batch, examples · tokens |
| C | vocabulary |
| N | cards |
| P_b, P_o | parameters of the largest block; those that no block has, input embeddings of their own left out |
| Q | components, k a layer |

Weights take 4 P bytes (float32), 2 P (bfloat16), 2 (P - P_q) and per quantised parameter 1 byte and 4 a row (int8), or
0.5 + 1/64 + 4/(64 · 256) bytes (nf4, scales quantised too). V is float32: 4 V, its gradient 4 V, Adam's moments 8 V.
The search has Z beside it, and holds beside the gradient of its pass g, and V as it was, u(g) or v, and w at once (see
`autolora.bilevel.problem`): 4 · 4 V; first order 3 · 4 V. What a pass keeps and takes is counted, not computed (see
`autolora.experiment.memory_passes`). Measuring Fisher information has the singular vectors of all layers, 4 V, beside
the model, and c, 8 bytes for every example and component, on the host.

On N > 1 cards a base that is not quantised is shared out, see `autolora.training.sharding`: P / N parameters, and of
what is gathered for a pass P_o and three blocks: one in use, the buffer that it came in, and the next one's. A
quantised base is whole on each card. V is. Adding gradients up takes 4 (V + Z) after a pass, whose activations are
gone by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autolora.errors import UserError
from autolora.experiment.memory_passes import PassBytes, Work, pass_bytes
from autolora.experiment.memory_settings import QUANTISED, MemorySettings
from autolora.experiment.memory_sizes import Sizes, base_bytes, sizes

BLOCKS = 3  # of a shared base that are gathered at once
STAGES = ("search", "squeeze", "retrain")
COPIES = {"central_difference": 4, "forward_difference": 4, "exact": 4, "first_order": 3}  # beside a pass's gradient
RESERVE = 512 * 2**20  # bytes of a CUDA context and its libraries
FRAGMENTS = 0.05  # share of a device's memory that its allocator cannot use


@dataclass(frozen=True)
class StageMemory:
    """Bytes of a stage on the device, part by part, as they add up at its fullest moment.

    Args:
        parts: By what they are.
        host: On the host, beside the process itself.
    """

    parts: Mapping[str, int]
    host: int = 0

    @property
    def total(self) -> int:
        """Of the device."""
        return sum(self.parts.values())


class Passes:
    """The passes of one model; those that were counted are kept.

    Args:
        config: Transformers', of the model.
        auto_class: Of transformers, with the task's head.
    """

    def __init__(self, config: Any, auto_class: str) -> None:
        self.config, self.auto_class = config, auto_class
        self._found: dict[Work, PassBytes] = {}

    def __call__(self, work: Work) -> PassBytes:
        """See `pass_bytes`.

        Args:
            work: What is run.
        """
        if work not in self._found:
            self._found[work] = pass_bytes(self.config, self.auto_class, work)
        return self._found[work]


def estimate(
    config: Any,
    auto_class: str,
    settings: MemorySettings,
    passes: Passes | None = None,
    stages: Sequence[str] = STAGES,
) -> dict[str, StageMemory]:
    """The memory of search, squeeze (where it measures; its training is as the retraining) and retraining.

    The retraining is at rank k in every layer, more than which no ranks within a budget are.

    Args:
        config: Transformers', of the model.
        auto_class: Of transformers, with the task's head.
        settings: What else it depends on.
        passes: Of this model, where it is asked for several times.
        stages: Which are computed.

    Raises:
        UserError: A name matches no layer, or the model's code cannot be run without values.
    """
    of = sizes(config, auto_class, settings)
    work = Work(
        settings.retrain_examples,
        settings.tokens,
        of.targets,
        settings.rank,
        settings.dropout,
        "float32" if settings.base == "float32" else "bfloat16",
        settings.precision == "bfloat16",
        settings.gradient_checkpointing,
        settings.new_head,
        chunked=settings.chunked,
    )
    counted = passes or Passes(config, auto_class)
    searching = replace(work, examples=settings.search_examples, twice=settings.estimator == "exact")
    made = {
        "search": lambda: _search(of, settings, counted(searching)),
        "squeeze": lambda: _squeeze(of, settings, counted(replace(work, gates=True, dropout=0.0, autocast=False))),
        "retrain": lambda: StageMemory({**_model(of, settings, 0), **_pass(counted(work), _trained(of))}),
    }
    return {name: made[name]() for name in stages}


def _trained(of: Sizes) -> int:
    """Bytes of V."""
    return 4 * (of.lora + of.head)


def _model(of: Sizes, settings: MemorySettings, selection: int) -> dict[str, int]:
    """What is there all the time."""
    unpacked = {"weights of a layer, unpacked": 2 * of.widest} if settings.base in QUANTISED else {}
    size = base_bytes(of, settings.base)
    return {
        **({"base weights, a share": -(-size // settings.cards)} if settings.shared else {"base weights": size}),
        **({"base weights, gathered": _gathered(of, settings)} if settings.shared else {}),
        **unpacked,
        "LoRA and head": _trained(of),
        **({"selection variables": selection} if selection else {}),
        "optimiser states": 2 * (_trained(of) + selection),
    }


def _gathered(of: Sizes, settings: MemorySettings) -> int:
    """What is there of a shared base while a pass computes, beside the share."""
    if not of.block:
        raise UserError("--cards: the model has no blocks that FSDP could share out; leave it out")
    return (4 if settings.base == "float32" else 2) * (BLOCKS * of.block + of.outside)


def _pass(found: PassBytes, gradients: int) -> dict[str, int]:
    return {
        "gradients": gradients,
        "activations": found.kept,
        "logits, loss, backward": max(0, found.peak - found.kept - gradients),
    }


def _search(of: Sizes, settings: MemorySettings, found: PassBytes) -> StageMemory:
    copies = COPIES.get(settings.estimator, 0) * _trained(of)
    return StageMemory(
        {
            **_model(of, settings, 4 * of.components),
            "copies (g, V', v, w)": copies,
            **_pass(found, _trained(of) + 4 * of.components),
        }
    )


def _squeeze(of: Sizes, settings: MemorySettings, found: PassBytes) -> StageMemory:
    gates = 4 * of.components * settings.retrain_examples
    return StageMemory(
        {**_model(of, settings, 0), "singular vectors": 4 * of.lora, **_pass(found, gates)},
        host=8 * of.components * settings.measured + 8 * of.lora,
    )


def needed(stage: StageMemory) -> int:
    """The memory of a card that a stage fits in.

    Args:
        stage: With what it takes itself.
    """
    return round((stage.total + RESERVE) / (1 - FRAGMENTS))
