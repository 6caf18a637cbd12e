"""Why a model could not be loaded, as one message: what is there, what is missing, what to do."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError

from autolora.errors import UserError
from autolora.files import parse_json
from autolora.planted.kinds import is_planted
from autolora.recipe.schema import Model

ADAPTER = "adapter_config.json"
CONVERT = (
    "convert them to safetensors where they come from (model.save_pretrained(folder) writes them so), and never load "
    "pickled weights that you do not trust"
)
# What transformers says where neither the hub nor the cache has a model of this name.
NOT_FOUND = ("is not a valid model identifier", "couldn't connect to", "couldn't find them in the cached files")

# What it says where an architecture has no model for a task.
_NO_MODEL = re.compile(r"Unrecognized configuration class .*\.(\w+?)Config'> for this kind of AutoModel: (\w+)")


def reason(error: Exception) -> str:
    """The first line of an error that transformers raised; in plain words where it has no such model.

    Args:
        error: It.
    """
    text = str(error).strip()
    if found := _NO_MODEL.match(text):
        return f"transformers has no {found[2]} of {found[1]} models, which the task needs; take another architecture"
    return text.splitlines()[0] if text else type(error).__name__


def loading_error(model: Model, error: Exception) -> UserError:
    """What to tell of an error that transformers raised.

    Args:
        model: The recipe's model section.
        error: It.
    """
    text, first = str(error), reason(error)
    named = f"model.name: {model.name!r}{f' (revision {model.revision})' if model.revision else ''} could not be loaded"
    if _pickled(error, text):
        return UserError(f"{named}: its weights are pickled, which cannot be read safely; {CONVERT}")
    if not is_local(model.name) and any(part in text for part in NOT_FOUND):
        return UserError(
            f"{named}: it could not be found, neither as a local directory with a model nor in the local cache, and "
            f"fetching it from the Hugging Face hub failed ({first}); --model DIR re-points the recipe"
        )
    return UserError(f"{named}: {first}; --model DIR re-points the recipe")


def pickled(folder: Path) -> str | None:
    """What to say of a folder whose weights are pickled only; None where they are not.

    Args:
        folder: Of a model.
    """
    if any(folder.glob("*.safetensors")) or not any(folder.glob("*.bin")):
        return None
    return f"model.name: the weights in {folder} are pickled (*.bin) and are read as tensors only; {CONVERT}"


def is_local(name: str) -> bool:
    """Whether a model lies on this machine, and not on the hub or in its cache.

    Args:
        name: The recipe's, resolved.
    """
    return name.startswith("bundled:") or is_planted(name) or Path(name).is_absolute()


def _pickled(error: Exception, text: str) -> bool:
    return isinstance(error, UnpicklingError) or "torch.load" in text or "weights_only" in text


def adapter_fault(folder: Path) -> str | None:
    """What is wrong with a folder that holds a LoRA adapter and no model; None where it holds a model.

    Args:
        folder: That a recipe names as its model.
    """
    path = folder / ADAPTER
    if not path.is_file():
        return None
    try:
        base = parse_json(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    if not base:
        return f"{folder} holds an adapter ({ADAPTER}), not a model; write the model that it was trained on"
    return (
        f"{folder} is a LoRA adapter of {base} ({ADAPTER}), not a model; write model.name: {base}, or merge the "
        "adapter into its model (merge_and_unload) and name the folder where that is saved"
    )
