"""Made-up facts, which no model knows and nothing tells but their repetition: who lives where.

    from autolora.data.facts import facts
    splits = facts(seed=0)        # {"train": [Fact, ...], "validation": [the same facts]}

Each of 32 first names stands with some of 32 last names, and the town is drawn for the pair, so that neither name alone
says it: a fact is log2(32) = 5 bits that have to be stored. What is evaluated is recall: the very facts that were
trained. How many a LoRA of some size stores in some steps is what ranks can be compared by.
"""

import random
from dataclasses import dataclass

# Words that are one token each for most tokenizers, so that an example is a few tokens long.
_FIRST = (
    "Anna Peter Maria John Laura Paul Emma David Sarah Mark Julia Simon Clara James Helen Victor Alice Oscar "
    "Diana Frank Nina Henry Rosa Martin Lucy Robert Elena Thomas Grace Daniel Irene Adam"
)
_LAST = (
    "Miller Baker Turner Cooper Fisher Mason Carter Porter Parker Walker Hunter Gardner Shepherd Weaver "
    "Potter Taylor Archer Brewer Foster Palmer Spencer Thatcher Tucker Wheeler Fuller Harper Hooper Slater "
    "Tanner Skinner Sawyer Glover"
)
_TOWNS = (
    "Paris London Berlin Rome Madrid Vienna Prague Dublin Oslo Athens Moscow Tokyo Delhi Cairo Boston Chicago "
    "Dallas Denver Miami Seattle Toronto Sydney Beijing Shanghai Bangkok Lisbon Munich Hamburg Milan Naples "
    "Geneva Zurich"
)
FIRST, LAST, TOWNS = _FIRST.split(), _LAST.split(), _TOWNS.split()
MAX_FACTS, COUNT = len(FIRST) * len(LAST), 384


@dataclass(frozen=True)
class Fact:
    """Who lives where."""

    person: str
    town: str


def facts(seed: int, count: int = COUNT) -> dict[str, list[Fact]]:
    """The facts, in the same drawn order in both splits.

    Args:
        seed: Of the drawing.
        count: How many.

    Raises:
        ValueError: There are not so many people.
    """
    if not 1 <= count <= MAX_FACTS:
        raise ValueError(f"there are 1 to {MAX_FACTS} facts, not {count}")
    draws = random.Random(seed)
    people = [f"{first} {last}" for first in FIRST for last in LAST]
    drawn = [Fact(person, draws.choice(TOWNS)) for person in draws.sample(people, count)]
    return {"train": drawn, "validation": list(drawn)}
