"""A GGUF file as a folder of transformers, de-quantised once on a machine: ``folder = converted(path)``.

Reading the file goes through its whole vocabulary field by field, several times, and takes many seconds each time. What
comes out is kept in the user's cache (`autolora.model.cache`), under the file's SHA-256 and the versions that decide
what it is: weights in float32, tokenizer, configuration. A folder that does not load exactly as the file does is not
used.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autolora.console import warn
from autolora.files import file_hash, read_json, write_atomic, write_json
from autolora.model.cache import cached

LAYOUT = "1"  # of what is written here
LIBRARIES = ("gguf", "numpy", "tokenizers", "torch", "transformers")  # which decide what comes out
WIDENED = 8  # a file of 4 bits a weight becomes 32
QUANTIZATION = "quantization.json"  # what the configuration of the loaded model says beyond the file's own
DIFFERS = "differs.txt"  # in a folder that is not used, and what differs

_said: set[str] = set()


def cache_root() -> Path:
    """Where converted models are kept: with huggingface_hub's other assets, in a folder of this user's alone.

    Raises:
        OSError: The user has no home folder, and none is named.
    """
    from huggingface_hub import constants

    own = "" if sys.platform == "win32" else f"-{os.geteuid()}"
    try:
        return Path(constants.HF_ASSETS_CACHE).expanduser().absolute() / "autolora" / f"gguf{own}"
    except RuntimeError as error:
        raise OSError(f"the user has no home folder ({error})") from error


def converted(path: Path) -> Path | None:
    """The folder that a GGUF file is converted to, which takes its time where it was not yet.

    Where the user's cache cannot be used, which is said once, it is a folder of this process alone.

    Args:
        path: The file.

    Returns:
        None where the file is to be read itself: it can be kept nowhere, or would load otherwise.
    """
    try:
        folder = _folder(path, cache_root)
    except Exception as error:  # a fault of the file itself is told by whoever reads it next, which is the caller
        _say(
            f"{path.name} is read anew by every process: what comes out cannot be kept ({_reason(error)}); "
            "HF_HOME or HF_ASSETS_CACHE names another place"
        )
        if not isinstance(error, OSError):
            return None
        try:
            folder = _folder(path, lambda: Path(_own().name))
        except Exception:  # nor there
            return None
    return None if (folder / DIFFERS).is_file() else folder


def _folder(path: Path, root: Callable[[], Path]) -> Path:
    of = path.stat()
    key = _key(path, of.st_size, of.st_mtime_ns)
    return cached(root(), key, partial(_convert, path), size=WIDENED * of.st_size)


@cache
def _own() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="autolora-gguf-", ignore_cleanup_errors=True)


def quantization(folder: Path) -> dict[str, Any] | None:
    """What transformers says of the file's quantisation in the configuration of a model that it loads from it.

    Args:
        folder: From `converted`.
    """
    path = folder / QUANTIZATION
    return read_json(path) if path.is_file() else None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    if text not in _said:
        _said.add(text)
        warn(text)


@cache
def _key(path: Path, size: int, changed: int) -> dict[str, str]:
    return {"layout": LAYOUT, "file": path.name, "sha256": file_hash(path), **{n: version(n) for n in LIBRARIES}}


def _convert(path: Path, into: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from autolora.model.quiet import quiet

    given: dict[str, Any] = {"gguf_file": path.name}
    with quiet(), torch.random.fork_rng(devices=[]):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
        config = AutoConfig.from_pretrained(path.parent, **given)
        model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **given)
        said = getattr(model.config, "quantization_config", None)
        if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
            quantizer.remove_quantization_config(model)  # else it is not written
        model.save_pretrained(into)
        for own in into.iterdir():  # the file has nothing about decoding, and another configuration
            if own.suffix == ".json" and ".index." not in own.name:
                own.unlink()
        config.save_pretrained(into)
        tokenizer.save_pretrained(into)
        if said is not None:
            write_json(into / QUANTIZATION, said.to_dict())
        if what := _difference(into, tokenizer, config, model):
            for own in into.iterdir():
                own.unlink()
            write_atomic(into / DIFFERS, what)


def _difference(folder: Path, tokenizer: Any, config: Any, model: Any) -> str:
    """What of a folder does not load as what was written into it; "" where everything does."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from autolora.model.identity import tokenizer_hash

    again = AutoTokenizer.from_pretrained(folder)
    if tokenizer_hash(again) != tokenizer_hash(tokenizer) or again.chat_template != tokenizer.chat_template:
        return "tokenizer"
    read = AutoConfig.from_pretrained(folder)
    read.name_or_path = config.name_or_path
    if type(read) is not type(config) or read.to_dict() != config.to_dict():
        return "configuration"
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before, after = model.state_dict(), loaded.state_dict()
    same = type(loaded) is type(model) and before.keys() == after.keys()
    same = same and all(tensor.dtype is before[name].dtype is torch.float32 for name, tensor in after.items())
    return "" if same and all(torch.equal(before[name], after[name]) for name in before) else "weights"
