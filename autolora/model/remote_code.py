"""Code that comes with a model, and whether it may run: ``allow_code(model, allowed=…)``.

`trust_remote_code` in a recipe says that its model needs its own code. Whoever runs the recipe, which may come from
elsewhere, must say so too, and is told beforehand what is run. Nothing of it is imported here, nor is anything fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from autolora.errors import UserError
from autolora.files import file_hash, read_json
from autolora.recipe.schema import Model

CONFIGS = ("config.json", "tokenizer_config.json")  # where auto_map says which classes are the model's own
ALLOW = "--trust-remote-code (in Python: trust_remote_code=True)"
SHOWN = 12  # files that are listed
_OTHER = re.compile(r"^(.+)--")  # in auto_map, in front of a class of another repository


def allow_code(model: Model, *, allowed: bool) -> str | None:
    """Make sure that who runs a recipe knows of the code that it wants to run.

    Args:
        model: The recipe's model section.
        allowed: Whether the command line, or the caller, says so.

    Returns:
        What to say before it is run; None where nothing is.

    Raises:
        UserError: The recipe wants it, and nobody else has said so.
    """
    if not model.trust_remote_code:
        return None
    what = _described(model)
    if not allowed:
        raise UserError(
            f"model.trust_remote_code: the recipe wants to run code that comes with its model, with all that you may "
            f"do on this machine: {what}; read it, and if you trust it, add {ALLOW}"
        )
    return f"runs code that comes with the model: {what}"


def _described(model: Model) -> str:
    """Folder or repository, revision, and the files as far as they are here."""
    folder = Path(model.name) if Path(model.name).is_absolute() else _cached(model)
    if Path(model.name).is_absolute():
        place = f"the folder {model.name}"
    else:
        revision = model.revision or "main, whatever that is when it is fetched"
        place = f"the repository {model.name} (revision {revision})"
    if folder is None:
        return f"{place}, whose files are not here yet: the *.py files that its config.json names"
    named = [f"{path.relative_to(folder)} (SHA-256 {file_hash(path)[:12]})" for path in sorted(folder.rglob("*.py"))]
    files = ", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else "")
    elsewhere = ", ".join(dict.fromkeys(_elsewhere(folder)))
    return f"{place}, {files or 'no *.py file'}{f', and of the repositories {elsewhere}' if elsewhere else ''}"


def _cached(model: Model) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.name, CONFIGS[0], revision=model.revision)
    except HFValidationError:  # no hub id; what is wrong with it is said when it is loaded
        return None
    return Path(found).parent if isinstance(found, str) else None


def _elsewhere(folder: Path) -> Iterator[str]:
    """Other repositories that the configurations take classes from."""
    for name in CONFIGS:
        content = read_json(folder / name) if (folder / name).is_file() else {}
        classes = content.get("auto_map") if isinstance(content, dict) else None
        for value in classes.values() if isinstance(classes, dict) else ():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and (other := _OTHER.match(each)):
                    yield other[1]
