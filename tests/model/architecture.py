"""What the table of architectures says of each, and a tiny model of it.

    folder = write_checkpoint(tmp_path / "model", ARCHITECTURES["RoBERTa"])

Models are tiny, random, in float32, and saved as the class that a checkpoint on the hub is of, so that what a task's
model lacks or has more is as it is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.model.folders import edit_json
from tests.model.trained import trained

HIDDEN = 16
FAMILIES = ("classification", "regression", "tagging", "generation")
SEQUENCES = ("classification", "regression")
UNDERSTANDS = (*SEQUENCES, "tagging")
EVERYTHING = FAMILIES


@dataclass(frozen=True)
class Architecture:
    """One of them.

    Args:
        hub: Names that people write as `model.name`.
        checkpoint: transformers' class of such a checkpoint.
        config: What its configuration says, made small.
        tokenizer: A kind of `trained`.
        targets: The last parts of the layers' names that get LoRA by default.
        listed: Whether PEFT has them in its table; else they are every linear layer of the backbone.
        families: Which of `FAMILIES` it fits; the others are refused.
        head: Full names of the modules that are the head of a sequence's model, and of a tagger's.
        pooled: Targets that a tagger does not have.
        tied: Whether a generator's `lm_head` is its input embeddings where it is built, so that it cannot be a head.
        refused: Names of `model.target_modules` that are refused, because they are parameters and no layers.
        remark: What else there is to know, as Markdown.
    """

    hub: tuple[str, ...]
    checkpoint: str
    config: Mapping[str, Any]
    tokenizer: str
    targets: tuple[str, ...]
    listed: bool
    families: tuple[str, ...]
    head: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()
    tied: bool = False
    refused: tuple[str, ...] = ()
    remark: str = ""


SIZE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
}


def write_checkpoint(folder: Path, architecture: Architecture) -> Path:
    """A folder with the model and its tokenizer."""
    import torch
    import transformers

    tokenizer = trained(architecture.tokenizer)
    ids = {f"{token}_token_id": getattr(tokenizer, f"{token}_token_id") for token in ("pad", "bos", "eos")}
    # Larger than a fresh model's weights, so that what is wrong shows in the logits.
    drawn = {"initializer_range": 0.2, "init_std": 0.2, "initializer_factor": 0.5}
    kind = getattr(transformers, architecture.checkpoint)
    config = kind.config_class(**{"vocab_size": len(tokenizer), **ids, **drawn, **architecture.config})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    if config.model_type == "t5" and architecture.config.get("tie_word_embeddings") is False:
        _untie(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _untie(folder: Path) -> None:
    """T5 v1.1 as it is on the hub: output embeddings of its own, which transformers no longer writes."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.roll(tensors["shared.weight"], 1, 0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def as_on_the_hub(config: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = False
        del config["scale_decoder_outputs"]

    edit_json(folder / "config.json", as_on_the_hub)
