"""Whether a checkpoint is that of its ``config.json``, as far as the headers of its files tell: ``faults(folder)``.

Takes milliseconds and builds nothing. What only the built model can tell is checked when it is loaded
(`autolora.model.complete`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.files import parse_json
from autolora.model.names import foreign
from autolora.model.weight_files import checkpoint_shapes

EMBEDDINGS = ("word_embeddings.weight", "wte.weight", "embed_tokens.weight")
WIDTHS = ("embedding_size", "word_embed_proj_dim", "hidden_size", "n_embd", "d_model", "dim")  # the first that is there
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
LAYER = re.compile(r"(?:^|.*?\.)(?:layers?|h)\.(\d+)\.")  # the first number of a name
OWN_CONFIG = "take the config.json that belongs to these weights"


def faults(folder: Path) -> list[str]:
    """What is wrong with a model's folder; nothing where it has no safetensors files.

    Args:
        folder: With a config.json that can be read, if it has such files.
    """
    shapes = checkpoint_shapes(folder)
    if not shapes:  # a GGUF file has its configuration in itself
        return []
    config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    if fault := foreign(shapes, str(folder)):
        return [fault]
    return [*_embedding_faults(shapes, config, folder), *_depth_faults(shapes, config, folder)]


def _embedding_faults(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    found = [name for name, shape in shapes.items() if name.endswith(EMBEDDINGS) and len(shape) == 2]
    width = next((key for key in WIDTHS if key in config), None)
    for name in found[:1]:
        for key, size in zip(("vocab_size", width), shapes[name], strict=True):
            if key is not None and config.get(key) not in (None, size):
                yield f"{folder}: config.json says {key} {config[key]}, and {name} has {size}; {OWN_CONFIG}"


def _depth_faults(shapes: Collection[str], config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Where there is one stack of layers, with weights of their own, and nothing on top of it."""
    stacks: dict[str, set[int]] = {}
    for name in shapes:
        if match := LAYER.match(name):
            stacks.setdefault(name[: match.start(1)], set()).add(int(match[1]))
    depth = next((key for key in DEPTHS if isinstance(config.get(key), int)), None)
    plain = not config.get("is_encoder_decoder") and not config.get("num_nextn_predict_layers")
    if depth is None or len(stacks) != 1 or not plain:
        return
    ((stack, numbers),) = stacks.items()
    if len(numbers) != config[depth]:
        yield f"{folder}: config.json says {depth} {config[depth]}, and {stack}… has {len(numbers)}; {OWN_CONFIG}"
