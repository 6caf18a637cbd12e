"""The model card of a run: ``write_card(run, tokenizer, family, evaluated=True)`` writes ``adapter/README.md``.

It is written at the end of the retraining, without metrics, and again at the end of the evaluation. A card that
somebody has edited stays as it is (`autolora.adapters.card_file`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from huggingface_hub import ModelCard

from autolora.adapters import card_file
from autolora.cards.about import About, read_about
from autolora.cards.body import body
from autolora.cards.metadata import metadata
from autolora.console import warn
from autolora.context.base import Context
from autolora.lora.stored import CARD
from autolora.runs.store import Run
from autolora.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def write_card(
    run: Run,
    tokenizer: PreTrainedTokenizerBase | None,
    family: type[Task],
    *,
    evaluated: bool,
    anyway: bool = False,
) -> Path | None:
    """Write the card of a run.

    Args:
        run: After its retraining.
        tokenizer: The model's, as the family loads it; None: it cannot be had, and the card has no code then.
        family: Of the recipe, on its model.
        evaluated: Whether the metrics are those of this adapter.
        anyway: Whether a card that somebody has edited is replaced, too.

    Returns:
        The file; None where somebody's own card is there.

    Raises:
        UserError: A file of the run is damaged.
    """
    folder = run.path / "adapter"
    if not card_file.write(folder, card_text(read_about(run, tokenizer, family, evaluated=evaluated)), anyway=anyway):
        warn(f"{folder / CARD} has been edited and stays as it is; autolora card --anew writes a new one")
        return None
    return folder / CARD


def card_at_the_end(run: Run, context: Context, *, evaluated: bool) -> None:
    """Write the card at the end of a stage; whatever goes wrong about it, the stage has done its work.

    Args:
        run: See `write_card`.
        context: Of its recipe.
        evaluated: See `write_card`.
    """
    try:
        write_card(run, context.tokenizer, context.family, evaluated=evaluated)
    except Exception as error:  # of a task or method that another package brings, for instance
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        warn(f"the model card could not be written ({said}); the adapter is whole. Again: autolora card {run.path}")


def card_text(about: About) -> str:
    """The whole card, without the line that marks it as ours.

    Args:
        about: The run.

    Raises:
        ValueError: What was made cannot be read back as it was meant; a fault of ours.
    """
    front = metadata(about)
    text = f"---\n{front.to_yaml()}\n---\n\n{body(about)}"
    found: dict[str, Any] = yaml.safe_load(ModelCard(text).data.to_yaml()) or {}
    if found != yaml.safe_load(front.to_yaml()):
        raise ValueError("the front matter of the card is not read back as it was written")
    return text
