"""What a card is made of: ``read_about(run, tokenizer, family)``, from a run's files and its model's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolora.cards.snippet import snippet, taken_by
from autolora.errors import UserError
from autolora.files import read_json
from autolora.lora.ranks import Ranks
from autolora.lora.stored import CONFIG
from autolora.methods.base import Method, method_class
from autolora.methods.loading import Loading
from autolora.model.bundled import bundled
from autolora.model.load import base_name
from autolora.planted.kinds import is_planted
from autolora.recipe.schema import Recipe
from autolora.runs.folders import ranks_file
from autolora.runs.labels import read_labels
from autolora.runs.reach import local_paths
from autolora.runs.store import Run
from autolora.tasks.base import Task
from autolora.tasks.usage import About as UsedWith

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class About:
    """A run, as its card tells of it.

    Args:
        recipe: The run's.
        method: Of the recipe.
        family: Of the recipe, on its model.
        base: What the pretrained model is called on the hub; None: it is not known to be there.
        base_said: What the pretrained model is called for people, without a folder of this machine.
        loading: How what was trained is loaded; None where there is nothing to show.
        code: That loads it and predicts; "" where there is none.
        names: Of the classes.
        manifest: The run's.
        ranks: By module; None for methods without ranks.
        rows: Of the metrics table; empty before the evaluation.
    """

    recipe: Recipe
    method: type[Method]
    family: type[Task]
    base: str | None
    base_said: str
    loading: Loading | None
    code: str
    names: Sequence[str]
    manifest: Mapping[str, Any]
    ranks: Ranks | None = None
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def stage(self, name: str) -> Mapping[str, Any]:
        """What the manifest has of a stage.

        Args:
            name: search, retrain or eval.
        """
        found: Mapping[str, Any] = self.manifest.get("stages", {}).get(name, {})
        return found


def read_about(run: Run, tokenizer: PreTrainedTokenizerBase | None, family: type[Task], *, evaluated: bool) -> About:
    """Read it.

    Args:
        run: After its retraining.
        tokenizer: The model's, as the family loads it; None: it cannot be had, and there is no code then.
        family: Of the recipe, on its model.
        evaluated: Whether there is a metrics table that counts.

    Raises:
        UserError: A file is damaged.
    """
    recipe, method = run.recipe, method_class(run.recipe.method.name)
    base, said = base_of(recipe)
    names = tuple(read_labels(run.path) or ())
    loading = method.loading(recipe.method)
    code = ""
    if loading is not None and tokenizer is not None and not is_planted(recipe.model.name):
        with_ = UsedWith(recipe.data, recipe.eval, names, tokenizer, taken_by(run.path / "adapter"))
        usage = family.usage(with_)
        code = "" if usage is None else snippet(loading, usage, recipe.model, base)
    return About(
        recipe=recipe,
        method=method,
        family=family,
        base=base,
        base_said=said,
        loading=loading,
        code=code,
        names=names,
        manifest=run.manifest(),
        ranks=run.ranks() if ranks_file(run.path).exists() else None,
        rows=read_json(run.path / "metrics.json") if evaluated else (),
    )


def base_of(recipe: Recipe) -> tuple[str | None, str]:
    """The pretrained model's name on the hub, if it has one, and what people are told.

    Args:
        recipe: Of a run.
    """
    name, _ = base_name(recipe.model)
    if is_planted(name):
        return None, name
    if "model.name" in local_paths(recipe):
        return None, f"{Path(name).name} (a folder; no name on the hub is known)"
    known = bundled(recipe.model.name)
    if known is None:
        return name, name
    more = f", from {known.gguf} of the package {known.package}" if known.gguf else ""
    return name, f"{name}{more}"


def adapter_kind(folder: Path) -> str | None:
    """PEFT's name of an adapter's task; None where it has none, or is none of PEFT's.

    Args:
        folder: The adapter's.
    """
    if not (folder / CONFIG).is_file():
        return None
    try:
        config = read_json(folder / CONFIG)
    except UserError:
        return None
    kind = config.get("task_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) else None
