"""Cross-entropy of a language model's tokens without all their logits in memory at once.

| symbol | meaning |
|---|---|
| N | positions that have a label (not -100) |
| V | vocabulary |

    loss = Σ over N of -log softmax(head(h))[label]

The logits of a pass, float32, take 4 · positions · V bytes, and their loss and its gradient several times as much:
at 128 k tokens in the vocabulary more than the model. Beyond `WHOLE` bytes the hidden states of the N labelled
positions are taken instead, `CHUNK` bytes of logits are made of some of them at a time, and once more in the backward
pass. The result is the same but for the order of the sums; it is differentiable twice. Up to `WHOLE` bytes, or where a
model's logits can be made as a whole only (which is said), everything is as it would be without any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from autolora.console import warn
from autolora.tasks.decoding import inner_model
from autolora.tasks.hidden_states import HiddenStates, before_head, vocabulary
from autolora.tasks.logits import full_precision
from autolora.tasks.output_head import OutputHead
from autolora.tasks.token_scores import TokenScores
from autolora.training.batches import IGNORED
from autolora.training.sampling import Sampled, drawn, sampled_categorical, uniform_numbers

WHOLE = 256 * 2**20  # bytes of float32 logits that are made at once
CHUNK = 64 * 2**20  # bytes of float32 logits that are made at a time where there are more
_said: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Pass:
    """A model's pass that predicts labels.

    Args:
        inputs: What the model is called with.
        positions: Those of its logits that predict the labels.
    """

    inputs: Mapping[str, Any]
    positions: slice

    def logits(self, model: nn.Module) -> Tensor:
        """All of them, (examples, positions, vocabulary), float32.

        Args:
            model: Adapted or not.
        """
        return full_precision(model(**self.inputs).logits[:, self.positions])


def token_loss(model: nn.Module, given: Pass, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The summed cross-entropy of the labels, a float32 scalar with its graph.

    Args:
        model: Adapted or not.
        given: The pass.
        labels: (examples, positions), `IGNORED` where there is none.
        label_smoothing: ε: the target is (1 - ε) of the label and ε of all tokens alike.
    """
    found = _labelled(model, given, labels)
    if found is None:
        logits, wanted = given.logits(model).flatten(0, 1), labels.flatten()
        return F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing)
    targets = labels[labels != IGNORED]

    def part(logits: Tensor, of: slice) -> Tensor:
        return F.cross_entropy(logits, targets[of], reduction="sum", label_smoothing=label_smoothing)

    return summed(found, part)


def sampled_token_loss(model: nn.Module, given: Pass, labels: Tensor, draws: torch.Generator) -> Sampled:
    """Σ -log p(ŷ) over the labelled positions, ŷ drawn from the model's own prediction, independently.

    Args:
        model: Adapted or not.
        given: The pass.
        labels: (examples, positions); they say which positions count, no more.
        draws: A CPU generator, which gives the same numbers whatever is in memory at once.
    """
    wanted = labels != IGNORED
    found = _labelled(model, given, labels)
    if found is None:
        return Sampled(sampled_categorical(given.logits(model), draws, wanted), int(wanted.sum()))
    uniform = uniform_numbers(len(found.hidden), draws)
    targets: dict[int, Tensor] = {}  # drawn once, not again in the backward pass

    def part(logits: Tensor, of: slice) -> Tensor:
        if of.start not in targets:
            targets[of.start] = drawn(logits.detach(), uniform[of])
        return F.cross_entropy(logits, targets[of.start], reduction="sum")

    return Sampled(summed(found, part), len(found.hidden))


@torch.no_grad()
def token_scores(model: nn.Module, given: Pass, labels: Tensor) -> TokenScores:
    """The log-probability of every label, and whether the model would have said it; without a graph.

    Args:
        model: In evaluation mode.
        given: The pass.
        labels: (examples, positions), `IGNORED` where there is none.
    """
    wanted = labels != IGNORED
    targets = labels[wanted]
    found = _labelled(model, given, labels)
    if found is None:
        parts = [_scored(given.logits(model)[wanted], targets)]
    else:
        parts = [_scored(found.head.logits(found.hidden[of]), targets[of]) for of in found.chunks()]
    scores, hits = (torch.cat(each) for each in zip(*parts, strict=True))
    return TokenScores(
        scores.new_zeros(labels.shape).masked_scatter(wanted, scores),
        hits.new_zeros(labels.shape).masked_scatter(wanted, hits),
        wanted,
    )


def _scored(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return -F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


@dataclass(frozen=True)
class Labelled:
    """The labelled positions of a pass, and what makes logits of them.

    Args:
        hidden: Their hidden states, (N, width).
        head: The model's.
        rows: Positions of a chunk.
    """

    hidden: Tensor
    head: OutputHead
    rows: int

    def chunks(self) -> Iterator[slice]:
        """Their positions, chunk by chunk; one chunk where there is none."""
        for begin in range(0, max(1, len(self.hidden)), self.rows):
            yield slice(begin, begin + self.rows)


def chunk_rows(classes: int) -> int:
    """How many positions have their logits made at a time.

    Args:
        classes: V.
    """
    return max(1, CHUNK // (4 * classes))


def _labelled(model: nn.Module, given: Pass, labels: Tensor) -> Labelled | None:
    """None where the logits are made as a whole: because they are small, or because there is no other way."""
    classes = vocabulary(model)
    size = 4 * labels.numel() * classes
    if size <= WHOLE:
        return None
    found = before_head(model, given.inputs)
    if isinstance(found, HiddenStates):
        hidden = found.hidden[:, given.positions][labels != IGNORED]
        return Labelled(hidden, found.head, chunk_rows(classes))
    name = type(inner_model(model)).__name__
    if (name, found) not in _said:
        _said.add((name, found))
        warn(
            f"{name} {found}; so all logits of a micro-batch stand in memory at once, {size / 2**30:.1f} GiB and their "
            "gradient; a lower data.max_length or a higher gradient_accumulation makes them less"
        )
    return None


def summed(found: Labelled, part: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """The sum of a loss over all chunks; the backward pass makes their logits anew.

    Args:
        found: The positions.
        part: The summed loss of logits (positions, V), which are those of a slice of the positions.
    """

    def made(hidden: Tensor, of: slice) -> Tensor:
        return part(found.head.logits(hidden), of)

    losses: list[Tensor] = [checkpoint(made, found.hidden[of], of, use_reentrant=False) for of in found.chunks()]
    return torch.stack(losses).sum()
