"""The pretrained model that a run was begun on: ``base.json``, with hashes of its weights and of its tokenizer.

They are settled at the first stage; what comes later must find the same. Runs of earlier versions have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import read_json, write_json
from autolora.runs.inventory import verified
from autolora.runs.seal import listing

FILE = "base.json"


@dataclass(frozen=True)
class Base:
    """A pretrained model, wherever it lies.

    Args:
        weights: A hash of the tensors that its checkpoint gives.
        tokenizer: A hash of what its tokenizer does.
        config: What its configuration says about the architecture, by entry.
    """

    weights: str
    tokenizer: str
    config: Mapping[str, Any]


def read_base(run: Path) -> Base | None:
    """What the run was begun on; None where it does not say, or not yet.

    Args:
        run: The run's folder.

    Raises:
        UserError: The file is damaged.
    """
    path = verified(run, FILE)
    if not path.exists():
        return None
    content = read_json(path)
    right = isinstance(content, dict) and content.keys() == {"weights", "tokenizer", "config"}
    if not right or [type(content[key]) for key in ("weights", "tokenizer", "config")] != [str, str, dict]:
        raise UserError(f"{path} does not say what the run was begun on; put it back, or start a new run")
    return Base(**content)


def write_base(run: Path, base: Base) -> None:
    """Keep it.

    Args:
        run: The run's folder.
        base: What the run is begun on.
    """
    with listing(run, FILE):
        write_json(run / FILE, asdict(base))


def differences(kept: Base, found: Base) -> Iterator[str]:
    """What is another one than it was; entries that only one of two versions of a library knows are not looked at.

    Args:
        kept: What the run was begun on.
        found: What is there now.
    """
    if kept.weights != found.weights:
        yield f"the weights (their hash is {found.weights[:12]}, and was {kept.weights[:12]})"
    if kept.tokenizer != found.tokenizer:
        yield f"the tokenizer (its hash is {found.tokenizer[:12]}, and was {kept.tokenizer[:12]})"
    for name in sorted(kept.config.keys() & found.config.keys()):
        if kept.config[name] != found.config[name]:
            yield f"config.json's {name} ({found.config[name]!r}, and was {kept.config[name]!r})"
