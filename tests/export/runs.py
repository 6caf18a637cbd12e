"""Run directories as searches and retrainings leave them, made without either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.lora.ranks import Ranks
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run

LAYERS = [f"bert.encoder.layer.{i}.attention.self.{kind}" for i in range(2) for kind in ("query", "value")]
RANKS = dict(zip(LAYERS, [3, 0, 1, 4], strict=True))
K, ALPHA = 4, 16.0


def make_run(
    root: Path,
    ranks: Mapping[str, int] | None = None,
    *,
    initial_rank: int = K,
    retrain: Mapping[str, Any] | None = None,
    task: str = "classification",
    head: Any = "auto",
) -> Path:
    """A run with ``search/ranks.json``. retrain: that section of the recipe."""
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "task": task,
            "model": {"name": "owner/base", "revision": "v1", "head": head},
            "data": {"path": "data"},
            "search": {"rank": initial_rank, "lora_alpha": ALPHA, "lora_dropout": 0.1},
            "retrain": dict(retrain or {}),
            "eval": {"metrics": ["accuracy"]},
        }
    )
    run = Run.create(root, recipe).path
    rule = {"constraint": "softmax", "threshold": None, "selection": {}}
    found = Ranks(dict(RANKS if ranks is None else ranks), initial_rank, ALPHA, rule=rule)
    found.save(run / "search" / "ranks.json")
    return run


def adapter_of(ranks: Mapping[str, int], **facts: Any) -> dict[str, Any]:
    """The configuration of an adapter at these ranks, as far as it is read."""
    kept = {name: rank for name, rank in ranks.items() if rank}
    patterns = {"^" + name.replace(".", r"\."): rank for name, rank in kept.items()}
    whole = {"peft_type": "LORA", "r": K, "task_type": "SEQ_CLS", "modules_to_save": ["classifier"]}
    return {**whole, "target_modules": sorted(kept), "rank_pattern": patterns, "fan_in_fan_out": False, **facts}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
