"""The rates among which a comparison chooses one for each method: ``parse_tune("learning_rate=1e-4,3e-4,1e-3")``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from autolora.errors import UserError
from autolora.recipe.fields import MAX_RATE
from autolora.recipe.messages import show
from autolora.words import did_you_mean

FIELD = "learning_rate"
MAX_GRID = 100  # rates


def parse_tune(text: str) -> tuple[float, ...]:
    """The rates that an option means, each once, ascending.

    Args:
        text: ``learning_rate=RATE,RATE,…``.

    Raises:
        UserError: It is anything else.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise UserError(f"--tune: write {FIELD}=RATE,RATE,…, as in {FIELD}=1e-4,3e-4,1e-3, got {text!r}")
    return tuned_rates({name.strip(): [value.strip() for value in values.split(",") if value.strip()]})


def tuned_rates(tune: Mapping[str, Iterable[object]]) -> tuple[float, ...]:
    """The same from Python: ``{"learning_rate": [1e-4, 3e-4, 1e-3]}``.

    Args:
        tune: The rates by the one name that there is.

    Raises:
        UserError: There is another name, fewer than two rates, or one that is none.
    """
    if unknown := [name for name in tune if name != FIELD]:
        near = did_you_mean(unknown[0], [FIELD])
        raise UserError(f"--tune: what is tuned is {FIELD}, got {unknown[0]!r}{f'; {near}' if near else ''}")
    rates = sorted({_rate(value) for value in tune.get(FIELD, ())})
    if len(rates) < 2:
        raise UserError(f"--tune: a grid has two different rates or more, got {len(rates)}")
    if len(rates) > MAX_GRID:
        raise UserError(f"--tune: a grid has at most {MAX_GRID} rates, as each is a run, got {len(rates)}")
    return tuple(rates)


def _rate(value: object) -> float:
    try:
        rate = float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate <= MAX_RATE or isinstance(value, bool):
        said = f"a learning rate is a finite number above 0 and at most {MAX_RATE:g}"
        raise UserError(f"--tune: {said}, got {show(value)}")
    return rate
