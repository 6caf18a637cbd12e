"""The memory that a recipe takes: ``found = recipe_memory(recipe)``; of its model the configuration is read alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transformers import AutoConfig

from autolora.experiment.memory import STAGES, Passes, StageMemory, estimate, needed
from autolora.experiment.memory_settings import MemorySettings, Storage, lighter
from autolora.model.opening import opened
from autolora.planted.kinds import seeded
from autolora.recipe.schema import Model, Recipe
from autolora.recipe.stages import Steps
from autolora.tasks.encoder_decoder import family_of
from autolora.training.compute import Compute


@dataclass(frozen=True)
class Lighter:
    """A change of the settings that takes less memory.

    Args:
        change: What is changed.
        needed: Bytes of a card that each stage fits in then.
    """

    change: str
    needed: Mapping[str, int]


@dataclass(frozen=True)
class RecipeMemory:
    """What there is to say of a recipe's memory.

    Args:
        model: The recipe's.
        settings: What of the recipe it depends on.
        stages: By name.
        device: Bytes of the card that it should fit in; None where none was named.
        lighter: What would take less, where something does not fit; the best first.
    """

    model: str
    settings: MemorySettings
    stages: Mapping[str, StageMemory]
    device: int | None = None
    lighter: tuple[Lighter, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every stage fits in the card."""
        return self.device is None or all(needed(stage) <= self.device for stage in self.stages.values())

    def record(self) -> dict[str, Any]:
        """It, JSON-able; all sizes in bytes."""
        stages = {
            name: {"parts": dict(stage.parts), "total": stage.total, "needed": needed(stage), "host": stage.host}
            for name, stage in self.stages.items()
        }
        found: dict[str, Any] = {"model": self.model, "settings": asdict(self.settings), "stages": stages}
        if self.device is not None:
            found |= {
                "device_memory": self.device,
                "fits": self.fits,
                "lighter": [asdict(each) for each in self.lighter],
            }
        return found


def recipe_memory(
    recipe: Recipe, device: int | None = None, *, cards: int = 1, trust_remote_code: bool = False
) -> RecipeMemory:
    """The memory of a recipe's stages.

    Args:
        recipe: Whose data is not looked at: every example counts as `data.max_length` tokens long.
        device: Bytes of the card that it should fit in; passes of ``auto`` precision are in bfloat16 there.
        cards: How many of them share its batches, and a base that is not quantised.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        UserError: There is no such model, a layer has no such name, or the model cannot be run without weights.
    """
    config = model_config(seeded(recipe.model, recipe.seed), trust_remote_code=trust_remote_code)
    family = family_of(recipe.task, encoder_decoder=bool(config.is_encoder_decoder))
    settings = settings_of(recipe, config, new_head=family.new_head, on_card=device is not None, cards=cards)
    passes = Passes(config, family.auto_class)
    parts = STAGES if recipe.search.selects else STAGES[1:]  # else the search is the beginning of the retraining
    stages = estimate(config, family.auto_class, settings, passes, parts)
    found = RecipeMemory(recipe.model.name, settings, stages, device)
    if device is None or found.fits:
        return found
    tried = [(change, estimate(config, family.auto_class, less, passes, parts)) for change, less in lighter(settings)]
    less = [Lighter(change, {name: needed(stage) for name, stage in each.items()}) for change, each in tried]
    worst = max(needed(stage) for stage in stages.values())
    less = sorted((each for each in less if max(each.needed.values()) < worst), key=lambda e: max(e.needed.values()))
    return RecipeMemory(recipe.model.name, settings, stages, device, tuple(less))


def model_config(model: Model, *, trust_remote_code: bool = False) -> Any:
    """Transformers' configuration of a model, of which nothing else need be there.

    Args:
        model: The recipe's model section.
        trust_remote_code: Whether its own code may run, if the recipe wants it, too.

    Raises:
        UserError: It cannot be read; the message says what would have been fetched.
    """
    trusted = model.trust_remote_code and trust_remote_code
    with opened(model) as found:
        return AutoConfig.from_pretrained(found.place, trust_remote_code=trusted, **found.options)


def settings_of(recipe: Recipe, config: Any, *, new_head: bool, on_card: bool, cards: int = 1) -> MemorySettings:
    """What of a recipe its memory depends on.

    Args:
        recipe: It.
        config: Transformers' configuration of its model, which says in what its weights are stored.
        new_head: Whether its task adds a head.
        on_card: Whether it is to run on a card that computes in bfloat16, and not on this machine.
        cards: See `recipe_memory`.
    """
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    if recipe.model.dtype == "float32" or (recipe.model.dtype == "auto" and not on_card):
        precision = Compute(recipe.model.dtype).precision
    search, method = recipe.search, recipe.method
    begun = search if search.selects else recipe.retrain  # without selection variables it is the retraining's beginning
    return MemorySettings(
        targets=recipe.model.target_modules if method.targets is None else method.targets,
        rank=method.size or search.rank,
        tokens=recipe.data.max_length,
        search_examples=_examples(begun, cards, getattr(begun, "validation_batch_size", None)),
        retrain_examples=_examples(recipe.retrain, cards),
        precision=precision,
        base=_stored(recipe.model, config, precision),
        gradient_checkpointing=recipe.model.gradient_checkpointing,
        dropout=max(search.lora_dropout, recipe.retrain_dropout),
        estimator=search.estimator if search.meta_learning else "none",
        measured=recipe.ranks.examples,
        new_head=new_head,
        cards=cards,
    )


def _stored(model: Model, config: Any, precision: str) -> Storage:
    """How the frozen base is kept."""
    if model.quantization is not None:
        return model.quantization
    halves = str(getattr(config, "dtype", None)) in ("torch.bfloat16", "torch.float16")
    kept = model.base_dtype == "bfloat16" or (model.base_dtype == "auto" and halves and precision == "bfloat16")
    return "bfloat16" if kept else "float32"


def _examples(settings: Steps, cards: int, other: int | None = None) -> int:
    """Of a micro-batch on one card."""
    of_card = -(-max(settings.batch_size, other or 0) // cards)
    return -(-of_card // settings.gradient_accumulation)
