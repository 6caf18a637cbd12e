"""The rates among which a comparison chooses one for each method: ``parse_tune("learning_rate=1e-4,3e-4,1e-3")``.

A grid, as this one, or a range that is searched: ``learning_rate=log:1e-5..1e-2`` (on a logarithmic scale; without
``log:`` on a linear one).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autolora.errors import UserError
from autolora.recipe.fields import MAX_RATE
from autolora.recipe.messages import show
from autolora.recipe.method import shortest
from autolora.words import did_you_mean

FIELD = "learning_rate"
MAX_GRID = 100  # rates
MAX_TRIALS = 1000  # of a search
TRIALS = 20  # of a search, unless it is said
_RANGE = re.compile(r"(?P<scale>[a-z]+:)?(?P<low>[^.,:][^,:]*?|\.[0-9][^,:]*?)\.\.(?P<high>[^,:]+)")


@dataclass(frozen=True)
class RateRange:
    """Rates between two, which are searched.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether on a logarithmic scale.
        trials: How many rates are tried for each recipe and method.
    """

    low: float
    high: float
    log: bool = True
    trials: int = TRIALS

    @property
    def label(self) -> str:
        """As it is written on a command line."""
        return f"{'log:' if self.log else ''}{shortest(self.low)}..{shortest(self.high)}"


Rates = tuple[float, ...] | RateRange  # a grid, ascending, empty where nothing is tuned; or what is searched


def parse_tune(text: str, trials: int | None = None) -> Rates:
    """The rates that an option means: those of a grid, each once, ascending, or a range.

    Args:
        text: ``learning_rate=RATE,RATE,…`` or ``learning_rate=log:LOW..HIGH``.
        trials: How many rates of a range are tried; None where it is not said.

    Raises:
        UserError: It is anything else.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise UserError(
            f"--tune: write {FIELD}=RATE,RATE,…, as in {FIELD}=1e-4,3e-4,1e-3, or a range that is searched, as in "
            f"{FIELD}=log:1e-5..1e-2, got {text!r}"
        )
    if ".." in values:
        return tuned_rates({name.strip(): values.strip()}, trials)
    return tuned_rates({name.strip(): [value.strip() for value in values.split(",") if value.strip()]}, trials)


def asked_rates(tune: str | None, trials: int | None) -> Rates:
    """What ``--tune`` and ``--trials`` mean together.

    Args:
        tune: See `parse_tune`; None where nothing is tuned.
        trials: See there.

    Raises:
        UserError: There are trials of nothing.
    """
    if tune is not None:
        return parse_tune(tune, trials)
    if trials is not None:
        raise UserError(f"--trials: says how many rates of a range --tune tries, as in --tune {FIELD}=log:1e-5..1e-2")
    return ()


def tuned_rates(tune: Mapping[str, Iterable[object] | str], trials: int | None = None) -> Rates:
    """The same from Python: ``{"learning_rate": [1e-4, 3e-4, 1e-3]}`` or ``{"learning_rate": "log:1e-5..1e-2"}``.

    Args:
        tune: The rates by the one name that there is.
        trials: See `parse_tune`.

    Raises:
        UserError: There is another name, fewer than two rates, or one that is none.
    """
    if unknown := [name for name in tune if name != FIELD]:
        near = did_you_mean(unknown[0], [FIELD])
        raise UserError(f"--tune: what is tuned is {FIELD}, got {unknown[0]!r}{f'; {near}' if near else ''}")
    asked = tune.get(FIELD, ())
    if isinstance(asked, str):
        return _range(asked, TRIALS if trials is None else trials)
    if trials is not None:
        raise UserError(f"--trials: a grid has as many trials as rates; give a range, as in {FIELD}=log:1e-5..1e-2")
    rates = sorted({_rate(value) for value in asked})
    if len(rates) < 2:
        raise UserError(f"--tune: a grid has two different rates or more, got {len(rates)}")
    if len(rates) > MAX_GRID:
        raise UserError(f"--tune: a grid has at most {MAX_GRID} rates, as each is a run, got {len(rates)}")
    return tuple(rates)


def _range(text: str, trials: int) -> RateRange:
    found = _RANGE.fullmatch(text.strip())
    if found is None or found["scale"] not in (None, "log:"):
        raise UserError(f"--tune: a range is log:LOW..HIGH, or LOW..HIGH on a linear scale, got {show(text)}")
    low, high = _rate(found["low"]), _rate(found["high"])
    if low >= high:
        raise UserError(f"--tune: a range goes from its smaller end to its larger, got {show(text)}")
    if isinstance(trials, bool) or not isinstance(trials, int) or not 2 <= trials <= MAX_TRIALS:
        raise UserError(f"--trials: from 2 to {MAX_TRIALS}, as each is a run, got {show(trials)}")
    return RateRange(low, high, found["scale"] is not None, trials)


def _rate(value: object) -> float:
    try:
        rate = float(value)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate <= MAX_RATE or isinstance(value, bool):
        said = f"a learning rate is a finite number above 0 and at most {MAX_RATE:g}"
        raise UserError(f"--tune: {said}, got {show(value)}")
    return rate
