"""The ranks of a model's layers: `Ranks`, the one type of them from the search to every table, adapter and tool.

| symbol | meaning | shape |
|---|---|---|
| r_l | rank of layer l | int, 0: no LoRA |
| k | rank that the search began with (`initial_rank`) | int |
| α | `lora_alpha` | float |
| s_l | what layer l's update B A is multiplied by, by its scaling, see below | float |
| n_l, m_l | input and output features of layer l (`shapes`) | ints |

s_l is α / k (scaling "constant"), α / r_l ("per_rank"), or α / √r_l ("rank_stabilised", rsLoRA's); where the layers of
a LoRA that was cut down had scalings that one α cannot say, it is what `rule` has of them ("scalings").

    ranks = Ranks({"bert.encoder.layer.0.attention.self.query": 3}, initial_rank=8, lora_alpha=16.0)
    ranks.save(Path("ranks.json"))
    config = Ranks.load(Path("ranks.json")).to_lora_config(task_type="SEQ_CLS")    # a stock peft.LoraConfig

A `Ranks` is a mapping of full module names to ranks, in the model's order: ``dict(ranks)``, ``sum(ranks.values())``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from autolora.errors import UserError
from autolora.files import read_json, write_json
from autolora.lora.allocation import CONSTRAINT_NAMES, default_threshold, kept_components

if TYPE_CHECKING:
    from peft import LoraConfig

FORMAT = 2  # of the JSON file; 1, without a number in it, had no shapes, no scaling and no kept components
SCALINGS = "scalings"  # in the rule of ranks whose layers have scalings of their own: s_l by full module name
STORED = "stored_rank"  # in the rule of ranks whose adapter is written at another one
Scaling = Literal["constant", "per_rank", "rank_stabilised"]
_FIRST_FORMAT_RULE = ("constraint", "threshold", "selection", "metric", "grid", "share", "budget")


@dataclass(frozen=True, eq=False)
class Ranks(Mapping[str, int]):
    """A rank for every layer, and what belongs to it.

    Args:
        by_name: The rank by full module name, in the model's order; 0 where a layer gets no LoRA.
        initial_rank: k, what the ranks are out of; where they are given by a rule, what the scaling refers to.
        lora_alpha: α.
        scaling: "constant", "per_rank" or "rank_stabilised", see above.
        shapes: (n_l, m_l) by the same names; empty where they are not known.
        kept: Which of the k components were kept (0-based, ascending) by the same names; empty where the ranks do not
            come from choosing among components.
        rule: What gave the ranks, JSON-able: selection variables and threshold, scores of a grid, …

    Raises:
        ValueError: Something in it contradicts the rest.
    """

    by_name: Mapping[str, int]
    initial_rank: int
    lora_alpha: float = 16.0
    scaling: Scaling = "constant"
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("by_name", "shapes", "kept", "rule"):  # copies: what was checked stays as it was
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for fault in _faults(self):
            raise ValueError(fault)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickling between processes, which views of mappings cannot do."""
        return Ranks.from_json, (self.to_json(),)

    def __getitem__(self, name: str) -> int:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __eq__(self, other: object) -> bool:
        """Of two `Ranks`, everything; with another mapping, the ranks."""
        return self.to_json() == other.to_json() if isinstance(other, Ranks) else dict(self) == other

    __hash__ = None  # type: ignore[assignment]  # it holds mappings

    @property
    def total(self) -> int:
        """Σ r_l."""
        return sum(self.by_name.values())

    @property
    def targets(self) -> list[str]:
        """The layers that get LoRA: those of a rank above 0."""
        return [name for name, rank in self.by_name.items() if rank > 0]

    @property
    def parameters(self) -> int:
        """Σ r_l (n_l + m_l), the parameters of the factors.

        Raises:
            ValueError: The shapes are not known.
        """
        if not self.shapes:
            raise ValueError("the shapes of these layers are not known, so their parameters cannot be counted")
        return sum(rank * sum(self.shapes[name]) for name, rank in self.by_name.items())

    def alpha(self, name: str) -> float:
        """What PEFT divides by the layer's rank to get its scaling s_l.

        Args:
            name: The layer's full name.
        """
        own = self.rule.get(SCALINGS, {}).get(name)
        return self.alpha_at(self.by_name[name]) if own is None else own * self.by_name[name]

    def alpha_at(self, rank: int) -> float:
        """The same for a layer of any rank.

        Args:
            rank: Above 0.
        """
        if self.scaling == "rank_stabilised":
            return self.lora_alpha * math.sqrt(rank)
        return self.lora_alpha * rank / self.initial_rank if self.scaling == "constant" else self.lora_alpha

    def scale(self, name: str) -> float:
        """The factor s_l of a layer with LoRA.

        Args:
            name: The full name of a layer whose rank is above 0.
        """
        return self.alpha(name) / self.by_name[name]

    def scaled(self, lora_alpha: float, scaling: Scaling, *, rank: int | None = None) -> Ranks:
        """The same ranks with another scaling.

        Args:
            lora_alpha: α.
            scaling: One of `Scaling`.
            rank: What a constant scaling divides α by; None for `initial_rank`.
        """
        if rank is not None and scaling == "constant":
            lora_alpha = lora_alpha * self.initial_rank / rank
        rule = {key: value for key, value in self.rule.items() if key != SCALINGS}
        return replace(self, lora_alpha=lora_alpha, scaling=scaling, rule=rule)

    def at(self, rank: int) -> Ranks:
        """Every layer with LoRA at one rank, and the scaling that it has: one for all.

        Args:
            rank: Above 0.
        """
        (scale,) = {self.scale(name) for name in self.targets}
        by_name = {name: rank if own else 0 for name, own in self.by_name.items()}
        return Ranks(by_name, initial_rank=rank, lora_alpha=scale * rank, shapes=self.shapes)

    def to_lora_config(self, **options: Any) -> LoraConfig:
        """A stock `peft.LoraConfig` of exactly these ranks and scalings.

        Args:
            options: Of `autolora.lora.config.lora_config`: dropout, head, task_type, fan_in_fan_out.

        Raises:
            UserError: Every rank is 0.
        """
        from autolora.lora.config import lora_config

        return lora_config(self, **options)

    def to_json(self) -> dict[str, object]:
        """The content of the JSON file."""
        return {
            "format": FORMAT,
            "initial_rank": self.initial_rank,
            "lora_alpha": self.lora_alpha,
            "scaling": self.scaling,
            "ranks": dict(self.by_name),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "kept": {name: list(kept) for name, kept in self.kept.items()},
            "rule": dict(self.rule),
        }

    @classmethod
    def from_json(cls, content: object) -> Ranks:
        """The inverse of `to_json`; takes what earlier versions wrote, too.

        Raises:
            ValueError: It is something else, or of a later version.
        """
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        if content.get("format", FORMAT) != FORMAT:
            raise ValueError(f"it is of format {content['format']!r}, and this version of autolora knows {FORMAT}")
        try:
            if "format" not in content:
                content = _from_first_format(content)
            return cls(
                by_name=dict(content["ranks"]),
                initial_rank=content["initial_rank"],
                lora_alpha=content["lora_alpha"],
                scaling=content["scaling"],
                shapes={name: tuple(shape) for name, shape in content["shapes"].items()},
                kept={name: tuple(kept) for name, kept in content["kept"].items()},
                rule=dict(content["rule"]),
            )
        except KeyError as error:
            raise ValueError(f"{error} is missing") from error
        except (TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the JSON file; it is whole or not there."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Ranks:
        """Read a file that `save` wrote.

        Raises:
            UserError: The file cannot be read, or holds no ranks.
        """
        content = read_json(path)
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise UserError(f"{path} holds no ranks: {error}") from error


def threshold_of(ranks: Ranks) -> float | None:
    """The λ of ranks that a search learned; None where it was each layer's mean, or there was none.

    Args:
        ranks: With the search's `rule`.
    """
    if "constraint" not in ranks.rule:  # they were chosen by a budget
        return None
    level: float | None = ranks.rule.get("threshold")
    return default_threshold(ranks.rule["constraint"], ranks.initial_rank) if level is None else level


def _faults(ranks: Ranks) -> Iterator[str]:
    """What is wrong with it."""
    if not ranks.by_name:
        yield "there must be at least one layer, got none"
    for name, rank in ranks.by_name.items():
        if type(rank) is not int or rank < 0:
            yield f"a rank is a whole number from 0; that of {name} is {rank!r}"
    if type(ranks.initial_rank) is not int or ranks.initial_rank < 1:
        yield f"the initial rank is a whole number from 1, got {ranks.initial_rank!r}"
    alpha = ranks.lora_alpha
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= sys.float_info.max:
        yield f"lora_alpha is a number above 0, got {alpha!r}"
    if ranks.scaling not in get_args(Scaling):
        yield f"the scaling is {' or '.join(get_args(Scaling))}, got {ranks.scaling!r}"
    for what, found in (("shapes", ranks.shapes), ("kept components", ranks.kept)):
        if found and found.keys() != ranks.by_name.keys():
            other = sorted(found.keys() ^ ranks.by_name.keys())[0]
            yield f"ranks and {what} are of different layers: {other}"
    yield from _scaling_faults(ranks)
    yield from _shape_faults(ranks.shapes)
    yield from _kept_faults(ranks)


def _scaling_faults(ranks: Ranks) -> Iterator[str]:
    own = ranks.rule.get(SCALINGS, {})
    right = isinstance(own, Mapping) and own.keys() <= ranks.by_name.keys()
    if not right or any(isinstance(s, bool) or not isinstance(s, int | float) for s in own.values()):
        yield f"the scalings in the rule are numbers by layer, got {str(own)[:80]!r}"


def _shape_faults(shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for name, shape in shapes.items():
        if not isinstance(shape, tuple) or len(shape) != 2 or any(type(n) is not int or n < 1 for n in shape):
            yield f"a shape is two whole numbers from 1; that of {name} is {shape!r}"


def _kept_faults(ranks: Ranks) -> Iterator[str]:
    for name, kept in ranks.kept.items():
        right = isinstance(kept, tuple) and all(type(j) is int and 0 <= j < ranks.initial_rank for j in kept)
        if not right or sorted(set(kept)) != list(kept) or len(kept) != ranks.by_name.get(name):
            yield f"{name} has rank {ranks.by_name.get(name)} of {ranks.initial_rank}, but keeps the components {kept}"


def _from_first_format(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as `FORMAT` has it. Which components were kept follows from the selection variables."""
    rule = {key: content[key] for key in _FIRST_FORMAT_RULE if key in content}
    kept: dict[str, list[int]] = {}
    if "selection" in rule:
        constraint = rule.get("constraint", "softmax")
        if constraint not in CONSTRAINT_NAMES:
            raise ValueError(f"there is no constraint {constraint!r}")
        found = kept_components(rule["selection"], constraint, rule.get("threshold"))
        kept = {name: list(indices) for name, indices in found.items()}
    given = {key: content[key] for key in ("ranks", "initial_rank") if key in content}
    alpha = content.get("lora_alpha", 16.0)
    more = {"shapes": {}, "kept": kept, "rule": rule}
    return {**given, **more, "format": FORMAT, "lora_alpha": alpha, "scaling": "constant"}
