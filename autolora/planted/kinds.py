"""What a planted truth may be, and its names, read without any library: ``kind_of("planted:mixed")``.

A recipe says ``model.name: planted:mixed`` and ``data.generated: planted``, and no more: its own seed draws the base,
the updates and the data, so that a comparison over seeds has a truth for each, the same one for every method.
Inside, `seeded` puts that seed into the model's name, ``planted:mixed@3``, which is what is loaded
(`autolora.planted.checkpoint`), what labels the data (`autolora.planted.rows`), and what adapters name as their base.
A recipe itself may not write it: two seeds in one recipe would be one too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from autolora.errors import UserError
from autolora.recipe.schema import Model
from autolora.words import did_you_mean

Kind = Literal["sparse", "mixed", "flat"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIX = "planted:"
GENERATED = "planted"  # what `data.generated` says
PROJECTIONS = ("query", "key", "value", "output.dense", "intermediate.dense")
HEAD = "classifier"  # the base's own, frozen, which is the teacher's too


@dataclass(frozen=True)
class Size:
    """Of the transformer and its data.

    Args:
        hidden: Features.
        layers: Blocks, of six linear layers each.
        heads: Of the attention.
        intermediate: Features between the two layers of the feed-forward part.
        vocabulary: Tokens; 0 is padding, and never drawn.
        length: Tokens of an example.
        outputs: Numbers, or logits, that are given for every token.
    """

    hidden: int = 32
    layers: int = 4
    heads: int = 4
    intermediate: int = 64
    vocabulary: int = 64
    length: int = 8
    outputs: int = 8


def is_planted(name: str) -> bool:
    """Whether a model's name means a planted truth's base.

    Args:
        name: As a recipe has it, or with a seed.
    """
    return name.startswith(PREFIX)


def kind_of(name: str) -> Kind:
    """The kind in a recipe's ``planted:mixed``, or alone.

    Args:
        name: Without a seed.

    Raises:
        UserError: There is no such kind.
    """
    word = name.removeprefix(PREFIX)
    for kind in KINDS:
        if kind == word:
            return kind
    near = did_you_mean(word, KINDS)
    seed = "; the truth's seed is the recipe's (seed: …, or --seed)" if "@" in word else ""
    raise UserError(f"no planted truth {word!r}; there is: {', '.join(KINDS)}{f'; {near}' if near else ''}{seed}")


def seeded(model: Model, seed: int) -> Model:
    """The model section as it is loaded: a planted model's name gets the seed, others are left as they are.

    Args:
        model: The recipe's.
        seed: The recipe's.

    Raises:
        UserError: There is no such kind.
    """
    if not is_planted(model.name):
        return model
    return model.model_copy(update={"name": f"{PREFIX}{kind_of(model.name)}@{seed}"})


def kind_and_seed(name: str) -> tuple[Kind, int]:
    """The inverse of `seeded`.

    Args:
        name: ``planted:mixed@3``.

    Raises:
        UserError: It is another name.
    """
    kind, _, seed = name.partition("@")
    if not is_planted(name) or not seed.isdecimal():
        raise UserError(f"a planted model is named {PREFIX}KIND@SEED here, got {name!r}")
    return kind_of(kind), int(seed)


def layer_shapes(size: Size | None = None) -> dict[str, tuple[int, int]]:
    """(n_l, m_l), input and output features, by full name of the backbone's linear layers, in the model's order.

    Args:
        size: Of the transformer.
    """
    return dict(_layers(size or Size()))


def _layers(size: Size) -> Iterator[tuple[str, tuple[int, int]]]:
    small, large = size.hidden, size.intermediate
    for block in range(size.layers):
        front = f"bert.encoder.layer.{block}"
        for name in ("query", "key", "value"):
            yield f"{front}.attention.self.{name}", (small, small)
        yield f"{front}.attention.output.dense", (small, small)
        yield f"{front}.intermediate.dense", (small, large)
        yield f"{front}.output.dense", (large, small)
