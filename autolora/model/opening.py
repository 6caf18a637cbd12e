"""What transformers loads for a recipe's ``model.name``, and how: ``with opened(model) as place: …``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from pickle import UnpicklingError

import transformers
from safetensors import SafetensorError

from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.model.explain import loading_error
from autolora.model.inspect import bundled, bundled_folder
from autolora.planted.checkpoint import planted_folder
from autolora.planted.kinds import is_planted
from autolora.recipe.schema import Model


def source(name: str) -> str:
    """What transformers loads for a recipe's `model.name`, unless it is planted: a hub id or a local directory.

    Args:
        name: As the recipe has it, ``bundled:…`` among others.

    Raises:
        UserError: The package with a bundled model is not installed.
    """
    if not name.startswith("bundled:"):
        if not Path(name).is_absolute() and Path(name).exists():  # which transformers would load, and run the code of
            raise UserError(
                f"model.name: {name!r} is a model of the hub, but {Path(name).absolute()} is there, too; write "
                f"./{name} if that is meant, or give the command in another folder"
            )
        return name
    return str(bundled_folder(name.removeprefix("bundled:")))


def gguf_option(name: str) -> dict[str, str]:
    """What transformers has to be told of a bundled GGUF model, which it de-quantises; nothing of another one.

    Args:
        name: As a recipe has it.
    """
    known = bundled(name)
    return {"gguf_file": known.gguf} if known and known.gguf else {}


@contextmanager
def opened(model: Model) -> Iterator[str]:
    """What transformers loads, while it is there, without the library's noise and with errors explained.

    Args:
        model: The recipe's model section.

    Raises:
        UserError: It is not installed, or the block cannot load it.
    """
    with _explained(model), _quiet():
        if is_planted(model.name):
            with planted_folder(model.name) as folder:
                yield folder
        else:
            yield source(model.name)


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Loading errors as one message that says what would have been fetched."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, EOFError, UnpicklingError, SafetensorError) as error:
        if is_memory(error):
            raise
        raise loading_error(model, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's load report (a new task head is what is wanted here) and its progress bars."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bar of a GGUF file asks nobody
            yield
    finally:
        transformers.logging.set_verbosity(level)
