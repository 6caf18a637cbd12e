"""The code of a model card: ``snippet(loading, usage, model)`` loads what a run has trained, and predicts with it.

The parts come from the method (`Method.loading`) and from the task family (`Task.usage`); both may have none to show.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.adapters.card_file import HERE
from autolora.methods.loading import Loading
from autolora.recipe.schema import Model
from autolora.tasks.usage import Usage


def snippet(loading: Loading, usage: Usage, model: Model, base: str | None) -> str:
    """Python, to be run in the adapter's folder.

    Args:
        loading: The method's part.
        usage: The family's.
        model: The recipe's section.
        base: What the pretrained model is called on the hub; None where it lies in a folder.
    """
    ours = {"revision": model.revision} if model.revision and base else {}
    trusted = {"trust_remote_code": True} if model.trust_remote_code else {}
    tokenizer = _call({**ours, **trusted, **usage.tokenizer})
    options = [*usage.model, "ignore_mismatched_sizes=True", "dtype=torch.float32"]
    options += [f"{name}={value!r}" for name, value in {**ours, **trusted}.items()]
    said = f"  # {base}" if base else ""
    standard = [line for line in loading.imports if line.split()[1] in ("json", "pathlib")]
    others = [line for line in loading.imports if line not in standard]
    return "\n".join(
        [
            *standard,
            *([""] if standard else []),
            "import torch",
            *others,
            f"from transformers import {', '.join(sorted({*usage.imports, 'AutoTokenizer'}))}",
            "",
            HERE,
            *loading.begin,
            f"base = {loading.base}{said}",
            *usage.before,
            "",
            f"tokenizer = AutoTokenizer.from_pretrained(base{tokenizer})",
            f"model = {usage.imports[0]}.from_pretrained(",
            f"    base, {', '.join(options)}",
            ")",
            *usage.settings,
            *loading.lines,
            "model.eval()",
            "",
            *usage.predict,
            "print(predictions)",
        ]
    )


def taken_by(adapter: Path) -> frozenset[str]:
    """What the model of an adapter can be called with; empty where that is not known.

    Args:
        adapter: The folder, with the model's config.json or without.
    """
    import transformers

    try:
        config = json.loads((adapter / "config.json").read_text(encoding="utf-8"))
        made: Any = getattr(transformers, config["architectures"][0])
        return frozenset(inspect.signature(made.forward).parameters)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return frozenset()


def _call(options: Mapping[str, object]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())
