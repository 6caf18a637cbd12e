"""What transformers loads for a recipe's ``model.name``, and how.

    with opened(model) as found:
        config = AutoConfig.from_pretrained(found.place, **found.options)

A GGUF file is not read each time: what opens is the folder that it was converted to (`autolora.model.converted`), and
what is loaded from there is told by `Opened.as_named` that it is the file's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.quantizers.auto import AutoQuantizationConfig

from autolora.causes import is_memory
from autolora.errors import UserError
from autolora.model.bundled import bundled, bundled_folder
from autolora.model.converted import converted, quantization
from autolora.model.explain import is_local, loading_error
from autolora.model.hub import hub_or_cache
from autolora.model.quiet import quiet
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


@dataclass(frozen=True)
class Opened:
    """What transformers loads.

    Args:
        place: A hub id or a folder.
        options: Of `from_pretrained`, beside it.
        name: What the model is called once it is loaded, wherever that was from.
        converted: Whether the place is the folder that a GGUF file was converted to.
        quantization: What the configuration says of the quantisation, had the file been read.
    """

    place: str
    options: Mapping[str, Any]
    name: str
    converted: bool = False
    quantization: Mapping[str, Any] | None = None

    def as_named(self, loaded: PreTrainedModel | PreTrainedTokenizerBase) -> None:
        """Make what was loaded say where it is from, as if it had been read there.

        Args:
            loaded: From `place`; changed in place.
        """
        loaded.name_or_path = self.name
        if isinstance(loaded, PreTrainedModel):
            loaded.config.name_or_path = self.name
            if self.converted and loaded.can_generate():  # beside a file no settings of decoding are looked for
                loaded.generation_config = GenerationConfig.from_model_config(loaded.config)
            if self.quantization is not None:
                loaded.config.quantization_config = AutoQuantizationConfig.from_dict(dict(self.quantization))


@contextmanager
def opened(model: Model, *, direct: bool = False) -> Iterator[Opened]:
    """What transformers loads, while it is there, without the library's noise and with errors explained.

    Args:
        model: The recipe's model section.
        direct: Whether a GGUF file is read itself, whatever it was converted to.

    Raises:
        UserError: It is not installed, or the block cannot load it.
    """
    with _explained(model):
        if is_planted(model.name):
            with quiet(), planted_folder(model.name) as folder:
                yield Opened(folder, {"revision": model.revision}, model.name)
        else:
            found = _found(model, direct)
            with quiet(), nullcontext() if is_local(model.name) else hub_or_cache():
                yield found


def _found(model: Model, direct: bool) -> Opened:
    """See `opened`; of a model that is not planted."""
    place, gguf = source(model.name), gguf_option(model.name)
    folder = None if direct or not gguf else converted(Path(place) / gguf["gguf_file"])
    if folder is None:
        return Opened(place, {"revision": model.revision, **gguf}, place)
    return Opened(str(folder), {"revision": model.revision}, place, True, quantization(folder))


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Loading errors as one message that says what would have been fetched."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, EOFError, UnpicklingError, SafetensorError) as error:
        if is_memory(error):
            raise
        raise loading_error(model, error) from error
