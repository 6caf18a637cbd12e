"""Was a training long enough for its loss to be flat at the end? ``flatness(logs)``, from what retrain/log.jsonl says.

Who compares ranks at too few steps compares how fast they learn. With the mean training losses

    first    of the first tenth of the steps
    before   of the tenth before the last
    last     of the last tenth

the share of its whole fall that the loss fell by at the very end is

    share = (before - last) / (first - last)

The standard error is that of ``before - last`` over the same: from the spread of the log's records within each tenth,
or, of several seeds, from the spread of the seeds. The loss is still falling if the share is at least 2 % (`MATTERS`)
and more than twice its standard error; it is flat if the share and twice the error together stay below 5 % (`FLAT`);
else the log does not say. A learning rate that goes to 0 flattens every loss: a flat one does not prove that more
steps would change nothing, one that is not flat shows that they would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from autolora.comparison.groups import by_task
from autolora.errors import UserError
from autolora.runs.inventory import verified
from autolora.runs.results import Result
from autolora.training.log import MetricLog

TENTH = 0.1
MATTERS = 0.02
FLAT = 0.05
FEWEST = 2  # records of each tenth

Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Flatness:
    """How a training's loss ended.

    Args:
        share: Of the whole fall of the loss that it fell by from the tenth before the last to the last.
        error: The standard error of that.
    """

    share: float
    error: float

    @property
    def verdict(self) -> Literal["falling", "flat", "unclear"]:
        """See the module's docstring."""
        if self.share >= MATTERS and self.share > 2 * self.error:
            return "falling"
        return "flat" if self.share + 2 * self.error < FLAT else "unclear"


def flatness(logs: Sequence[Log]) -> Flatness | None:
    """How the training loss ended, over the seeds of a method.

    Args:
        logs: The records ("step", "train_loss") of each run, in order. A record's loss is the mean since the last one.

    Returns:
        None where the records are too few or not finite, or where the loss did not fall at all.
    """
    return _over([_ends(log) for log in logs])


def _over(every: Sequence[tuple[float, float, float] | None]) -> Flatness | None:
    """The same from what `_ends` gives of each log."""
    found = [ends for ends in every if ends is not None]
    if not found or len(found) < len(every):
        return None
    fall = float(np.mean([ends[0] for ends in found]))
    end = np.array([ends[1] for ends in found])
    error = math.sqrt(sum(ends[2] for ends in found)) / len(found)
    if len(found) > 2:
        error = max(error, float(end.std(ddof=1)) / math.sqrt(len(found)))
    return Flatness(float(end.mean()) / fall, error / fall) if fall > 0 else None


def flatness_notes(results: Sequence[Result]) -> list[str]:
    """A sentence for each task on the uniform LoRA of rank k, or of the highest rank that was compared.

    Args:
        results: Of every trial; those without a run on this disk say nothing.

    Raises:
        UserError: A log is damaged.
    """
    return [note for mine in by_task(results).values() if (note := _note(mine))]


def _note(results: Sequence[Result]) -> str:
    uniform = [r for r in results if r.state == "success" and r.run is not None and _rank(r.method)]
    if not uniform:
        return ""
    method = max((result.method for result in uniform), key=_rank)
    ends = [_ends(log) for result in uniform if result.method == method and (log := _log(result))]  # no log is held
    if not ends:
        return ""
    found, said = _over(ends), f"{results[0].recipe}: the training loss of {method}"
    if found is None:
        return f"{said} has too few finite records in its log to say whether it was flat at the end."
    share = f"{100 * found.share:.1f} % ± {100 * found.error:.1f} % of its whole fall in the last tenth of the steps"
    if found.verdict == "falling":
        return f"{said} still fell by {share}: more steps may change the order of the methods."
    if found.verdict == "flat":
        return f"{said} was flat at the end: it fell by {share}."
    return f"{said} fell by {share}, which is too noisy to say whether it was flat at the end."


def _rank(method: str) -> int:
    """Of a uniform LoRA, by its label; 0 of anything else."""
    name, _, rest = method.partition(":")
    size = rest.partition(":")[0]
    return int(size) if name == "lora" and size.isdecimal() else 0


def _log(result: Result) -> Log:
    assert result.run is not None
    path = verified(result.run, "retrain/log.jsonl")
    if not path.is_file():
        return []
    try:
        return [record for record in MetricLog(path).records() if "train_loss" in record and record["step"] > 0]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); leave the run out, or write the file anew with "
            "--resume"
        ) from error


def _ends(log: Log) -> tuple[float, float, float] | None:
    """The falls first - last and before - last, and the variance of the latter, from one run's records."""
    steps = np.array([record["step"] for record in log], dtype=float)
    losses = np.array([math.nan if record["train_loss"] is None else record["train_loss"] for record in log])
    if not len(log) or not np.isfinite(losses).all():
        return None
    total = steps[-1]
    weights = np.diff(steps, prepend=0.0)  # steps that a record is the mean of
    masks = (steps <= TENTH * total, (steps > 0.8 * total) & (steps <= 0.9 * total), steps > 0.9 * total)
    if min(mask.sum() for mask in masks) < FEWEST:
        return None
    first, before, last = (np.average(losses[mask], weights=weights[mask]) for mask in masks)
    variance = sum(losses[mask].var(ddof=1) / mask.sum() for mask in masks[1:])
    return float(first - last), float(before - last), float(variance)
