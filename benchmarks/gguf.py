"""How long a bundled GGUF model takes to load from its file, and from the folder that it is converted to.

    python -m benchmarks.gguf

Seconds of this process's own work (the cores may be busy with others'), both ways taking turns; what is loaded is
compared, bit for bit. Each turn of the folder looks at its files anew, as a new process does.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from autolora.console import say
from autolora.model import cache, opening
from autolora.model.converted import converted
from autolora.model.identity import architecture, tokenizer_hash
from autolora.model.load import load_model, load_skeleton, load_tokenizer, weights_hash
from autolora.recipe.schema import Model

KIND = "AutoModelForCausalLM"
PARTS = ("configuration", "tokenizer", "model")


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="bundled:SmolLM2-135M-Instruct")
    parser.add_argument("--turns", type=int, default=2)
    given = parser.parse_args()
    model = Model(name=given.model)
    file = Path(opening.source(model.name)) / opening.gguf_option(model.name)["gguf_file"]
    first = _seconds(lambda: converted(file))[0]
    if converted(file) is None:
        raise SystemExit("it is not kept here: see what is said above")
    direct, kept = [], []
    for _ in range(given.turns):
        with patch.object(opening, "converted", lambda path: None):
            direct.append(_turn(model))
        cache._checked.clear()
        kept.append(_turn(model))
    if any(turn[1] != direct[0][1] for turn in [*direct, *kept]):
        raise SystemExit("the two ways do not load the same")
    say(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, transformers {version('transformers')}")
    say(f"{file.name}; converting it (or finding it converted): {first:.1f} s; the same is loaded both ways")
    say("                  file   folder")
    for i, part in enumerate(PARTS):
        read, found = (min(turn[0][i] for turn in turns) for turns in (direct, kept))
        say(f"{part:14} {read:6.2f} s {found:6.2f} s")


def _turn(model: Model) -> tuple[list[float], list[Any]]:
    """Seconds of each part, and what was loaded, in short."""
    shape, skeleton = _seconds(lambda: load_skeleton(model, KIND, {}, lambda built: []))
    words, tokenizer = _seconds(lambda: load_tokenizer(model))
    whole, loaded = _seconds(lambda: load_model(model, KIND, {}, tokenizer.pad_token_id, lambda built: []))
    same = [skeleton.config.to_dict(), loaded.model.config.to_dict(), architecture(loaded.model.config)]
    same += [tokenizer_hash(tokenizer), tokenizer.chat_template, weights_hash(loaded.model, loaded.drawn)]
    return [shape, words, whole], same


def _seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    found = action()
    return time.process_time() - begun, found


if __name__ == "__main__":
    main()
