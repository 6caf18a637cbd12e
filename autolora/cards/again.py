"""The card of a run that is over, from its files and its model's tokenizer: ``card_of(run)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autolora.cards.about import About, read_about
from autolora.cards.card import card_text, write_card
from autolora.console import warn
from autolora.errors import UserError
from autolora.model.load import load_tokenizer
from autolora.model.remote_code import allow_code
from autolora.planted.kinds import seeded
from autolora.recipe.load import override_recipe
from autolora.registry import TASKS
from autolora.runs.base import read_base
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.reach import check_reach
from autolora.runs.store import Run
from autolora.tasks.base import Task
from autolora.tasks.encoder_decoder import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def card_of(run: Run, overrides: Sequence[str] = (), *, anyway: bool = False) -> Path | None:
    """Write it.

    Args:
        run: After its retraining.
        overrides: Fields of the recipe's section `card`, as --set has them; they are kept with the run.
        anyway: Whether a card that somebody has edited is replaced, too.

    Returns:
        The file; None where somebody's own card is there.

    Raises:
        UserError: The run has no adapter, or a file of it is not what was written.
    """
    with run.hold():
        evaluated = _prepare(run, overrides)
        if overrides:
            run.save_recipe()
        return write_card(run, _tokenizer(run), _family(run), evaluated=evaluated, anyway=anyway)


def text_of(run: Run, overrides: Sequence[str] = ()) -> str:
    """The card, without writing anything.

    Args:
        run: See `card_of`.
        overrides: Likewise.

    Raises:
        UserError: See `card_of`.
    """
    evaluated = _prepare(run, overrides)
    found: About = read_about(run, _tokenizer(run), _family(run), evaluated=evaluated)
    return card_text(found)


def _prepare(run: Run, overrides: Sequence[str]) -> bool:
    """The run with the overrides in its recipe; whether its metrics are those of its adapter."""
    if run.stage_state("retrain") != "success":
        raise UserError(f"{run.path} has no adapter yet; run: autolora retrain {run.path}")
    check_there(run.path, WHOLE, "search", "retrain", "eval")
    verify_below(run.path, "adapter")
    if overrides:
        run.recipe = override_recipe(run.recipe, overrides)
    stages = run.status()["stages"]
    done = stages.get("eval", {}).get("state") == "success"
    return done and str(stages["eval"].get("at", "")) >= str(stages["retrain"].get("at", ""))


def _family(run: Run) -> type[Task]:
    """The recipe's, on its model."""
    family, base = TASKS.load(run.recipe.task), read_base(run.path)
    if not family.decodes or base is None:
        return family
    return family_of(run.recipe.task, encoder_decoder=bool(base.config.get("is_encoder_decoder")))


def _tokenizer(run: Run) -> PreTrainedTokenizerBase | None:
    """The model's, where it is to be had: the card has no code without it."""
    try:
        check_reach(run, run.recipe)
        allow_code(run.recipe.model, allowed=False)
        model = seeded(run.recipe.model, run.recipe.seed)
        return load_tokenizer(model, **_family(run).tokenizer_options)
    except UserError as error:
        warn(f"note: the card has no code that loads the adapter: {error}")
        return None
