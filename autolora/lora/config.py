"""PEFT's configuration of a rank per layer: ``lora_config(ranks, task_type="SEQ_CLS")``, a stock LoraConfig.

PEFT takes the keys of its patterns for regular expressions and says nothing where one fits no module, so every key is
anchored on a full module name. It matches the targets in a list by their ends (``q`` adapts ``block.q`` too), so they
are one expression. Layers of rank 0 are left out of the targets, as PEFT refuses rank 0. Where all others have one
rank, the configuration says it without patterns: there are programs that read none (docs/adapters.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from autolora.errors import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

    from autolora.lora.ranks import Ranks

# Values of `init_lora_weights` that leave the base model's weights as they are, whatever the rank.
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")

# What PEFT trains in full beside `modules_to_save`, by task family (PeftModelForSequenceClassification and its like).
ADDED = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}


def lora_config(
    ranks: Ranks,
    *,
    dropout: float = 0.0,
    head: Sequence[str] = (),
    task_type: str | None = None,
    fan_in_fan_out: bool = False,
) -> LoraConfig:
    """The PEFT configuration of a rank per layer.

    Args:
        ranks: With their scaling.
        dropout: Of the update's input.
        head: Full names of the modules that are trained in full.
        task_type: PEFT's name of the task family.
        fan_in_fan_out: Whether the layers keep their weights transposed, as GPT-2's do.

    Raises:
        UserError: Every rank is 0.
    """
    from peft import LoraConfig  # slow to import

    kept = ranks.targets
    if not kept:
        raise UserError(
            "no layer kept a component: all ranks are 0, there is nothing to retrain; lower search.threshold"
        )
    stabilised = ranks.scaling == "rank_stabilised"  # PEFT takes the root itself
    alphas = {name: ranks.lora_alpha if stabilised else ranks.alpha(name) for name in kept}
    uniform = len({ranks[name] for name in kept}) == len(set(alphas.values())) == 1
    return LoraConfig(
        r=ranks[kept[0]] if uniform else ranks.initial_rank,
        lora_alpha=alphas[kept[0]] if uniform else ranks.lora_alpha,  # type: ignore[arg-type]  # PEFT takes any number
        target_modules=target_expression(kept),
        rank_pattern={} if uniform else {anchored(name): ranks[name] for name in kept},
        alpha_pattern={} if uniform else {anchored(name): alpha for name, alpha in alphas.items()},
        use_rslora=stabilised,
        lora_dropout=dropout,
        modules_to_save=list(head) or None,
        task_type=task_type,
        fan_in_fan_out=fan_in_fan_out,
        bias="none",
    )


def changes_base(start: object) -> bool:
    """Whether PEFT changes the base model's weights where it makes or loads an adapter, by the adapter's rank.

    Args:
        start: A configuration's `init_lora_weights`.
    """
    return not any(start is each or (isinstance(start, str) and start == each) for each in HARMLESS_STARTS)


def exact_type(model: nn.Module, config: LoraConfig) -> None:
    """Change a configuration where PEFT would make another adapter of it on this model.

    The task family is taken out where what PEFT adds for it would be trained or left out beside: PEFT trains in full
    whatever ends in one of these names, and puts no adapter on what has one among its parts.

    Args:
        model: That it is for.
        config: From `lora_config`, or another tuner's of its kind; changed in place.
    """
    head, added = config.modules_to_save or (), ADDED.get(config.task_type or "", ())
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    saved = {name for name in names if name.endswith((*head, *added))}
    targets = matched(config.target_modules or (), names)
    if saved - set(head) or any(set(target.split(".")) & set(added) for target in targets):
        config.task_type = None
    if targets:  # else PEFT says what it does not find
        config.target_modules = exact_targets(model, targets)


def matched(targets: str | Iterable[str], names: Iterable[str]) -> list[str]:
    """The full names that PEFT's `target_modules` mean.

    Args:
        targets: An expression, or names of which each means what it is the end of.
        names: Of the model's modules.
    """
    if isinstance(targets, str):
        return [name for name in names if re.fullmatch(targets, name)]
    ends = tuple(f".{target}" for target in targets)
    return [name for name in names if f".{name}".endswith(ends)]


def exact_targets(model: nn.Module, names: Sequence[str]) -> str | list[str]:
    """PEFT's `target_modules` that mean these layers of a model and no others.

    They are one expression. Where experts are stored as one weight (Mixtral's), PEFT takes an expression for the last
    parts of all names that it matches; there they are a list, which the same names of other layers do not end in.

    Args:
        model: Without PEFT's wrapping, or in it.
        names: Full names of the layers.
    """
    if any(".experts." in name and parameter.ndim > 2 for name, parameter in model.named_parameters()):
        return list(names)
    return target_expression(names)


def anchored(name: str) -> str:
    """A key of PEFT's patterns that matches this full module name and no other.

    Args:
        name: In the model itself, without PEFT's wrapping.
    """
    return "^" + re.escape(name)


def target_expression(names: Sequence[str]) -> str:
    """PEFT's `target_modules` as one expression that matches these full module names and no others.

    PEFT matches the entries of a list by their ends: a module ``query`` would adapt ``block.query`` too.

    Args:
        names: In the model itself, without PEFT's wrapping.
    """
    return f"^(?:{'|'.join(re.escape(name) for name in names)})$"
