"""Base and teacher: a small random BERT, and the same with low-rank updates in some of its linear layers.

| symbol | meaning |
|---|---|
| W_l | weight of linear layer l of the base, (m, n) |
| r_l | planted rank of layer l; 0: it is the base's |
| ΔW_l | the planted update, Σ_j τ_lj u_j v_jᵀ with random unit vectors, j = 1 … r_l |

    truth = plant("sparse", seed=0)
    truth.ranks                              # r_l by full module name
    inputs, outputs = truth.data(512, "train")

A LoRA on the base at ranks of at least r_l can be the teacher exactly. The strengths are those of a strong fine-tuning:
each τ is about the root mean square singular value of W_l times `STRENGTH`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import BertConfig, BertForTokenClassification

from autolora.planted.kinds import Kind, Size, kind_of, layer_shapes
from autolora.training.seeds import derive, generator

STRENGTH = 1.0  # of a component, in root mean square singular values of the weight
_PLANTED: dict[str, tuple[int, ...]] = {  # ranks of the layers that have one, of 24
    "sparse": (4,) * 6,
    "mixed": (1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 6, 7),
    "flat": (1,) * 24,
}


@dataclass(frozen=True)
class Truth:
    """A base, its teacher, and what was planted.

    Args:
        base: What a LoRA is put on; a token classifier whose head is the teacher's, too.
        teacher: The base with the updates in its weights.
        ranks: r_l by full module name, of all linear layers outside the head.
        shapes: (n_l, m_l) by the same names.
        size: Of both.
        seed: Of all of it.
    """

    base: BertForTokenClassification
    teacher: BertForTokenClassification
    ranks: dict[str, int]
    shapes: dict[str, tuple[int, int]]
    size: Size = field(default_factory=Size)
    seed: int = 0

    @property
    def parameters(self) -> int:
        """Σ r_l (n_l + m_l), what the true ranks cost."""
        return sum(rank * sum(self.shapes[name]) for name, rank in self.ranks.items())

    def student(self) -> BertForTokenClassification:
        """A copy of the base, to train."""
        return copy.deepcopy(self.base)

    def tokens(self, count: int, split: str) -> Tensor:
        """The inputs of `data` alone.

        Args:
            count: See `data`.
            split: See `data`.
        """
        draws = generator(derive(self.seed, "planted", split))
        return torch.randint(1, self.size.vocabulary, (count, self.size.length), generator=draws)

    @torch.no_grad()
    def data(self, count: int, split: str) -> tuple[Tensor, Tensor]:
        """Random tokens, and what the teacher gives for them.

        Args:
            count: Number of examples.
            split: A name; other names give other tokens.

        Returns:
            Token ids (count, length), and outputs (count, length, outputs).
        """
        inputs = self.tokens(count, split)
        outputs = [self.teacher(input_ids=part).logits for part in torch.split(inputs, 256)]
        return inputs, torch.cat(outputs)


def plant(kind: Kind, seed: int = 0, size: Size | None = None) -> Truth:
    """A truth: sparse (rank 4 in 6 of 24 layers), mixed (ranks 1 to 7 in 12), or flat (rank 1 everywhere).

    Args:
        kind: One of them; with other than 24 layers, the same shares of them.
        seed: Of the weights, of which layers get which rank, and of the updates.
        size: Of the transformer.

    Raises:
        UserError: There is no such kind.
    """
    size = size or Size()
    ranks = true_ranks(kind, seed, size)
    base = _transformer(size, derive(seed, "planted", "weights"))
    teacher = copy.deepcopy(base)
    draws = generator(derive(seed, "planted", kind, "updates"))
    with torch.no_grad():
        for name, rank in ranks.items():
            weight = teacher.get_parameter(f"{name}.weight")
            weight.add_(_update(weight, rank, draws))
    return Truth(base, teacher, ranks, layer_shapes(size), size, seed)


def true_ranks(kind: Kind, seed: int = 0, size: Size | None = None) -> dict[str, int]:
    """The ranks that `plant` plants, r_l by full module name, over layers in a random order; no model is made.

    Args:
        kind: As in `plant`, and so are the others.
        seed: See `plant`.
        size: See `plant`.

    Raises:
        UserError: There is no such kind.
    """
    planted, names = _PLANTED[kind_of(kind)], list(layer_shapes(size))
    count = max(1, round(len(planted) * len(names) / 24))
    order = torch.randperm(len(names), generator=generator(derive(seed, "planted", kind, "ranks"))).tolist()
    given = {names[place]: planted[i * len(planted) // count] for i, place in enumerate(order[:count])}
    return {name: given.get(name, 0) for name in names}


def _update(weight: Tensor, rank: int, draws: torch.Generator) -> Tensor:
    m, n = weight.shape
    strength = STRENGTH * float(weight.norm()) / min(m, n) ** 0.5
    u = torch.nn.functional.normalize(torch.randn(m, rank, generator=draws), dim=0)
    v = torch.nn.functional.normalize(torch.randn(n, rank, generator=draws), dim=0)
    tau = strength * (0.5 + torch.rand(rank, generator=draws))
    update: Tensor = (u * tau) @ v.T
    return update


def _transformer(size: Size, seed: int) -> BertForTokenClassification:
    """In evaluation mode and frozen; weights large enough that every layer matters."""
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.length,
        initializer_range=size.hidden**-0.5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = size.outputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: BertForTokenClassification = BertForTokenClassification(config)
    model.eval().requires_grad_(False)
    return model
