"""``autolora.merge(target, output)``: the merged model of a run, or of anybody's adapter.

merged = merge("runs/quickstart/20261128-120000-0", "merged")
merged = merge("my-adapter", "merged", model="./base", dtype="bfloat16")

A run's model is the one of its recipe, and must be the one that it was begun on; its head and the names of its classes
are in its adapter.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from autolora.adapters.base_model import BaseModel
from autolora.adapters.folder import find_adapter
from autolora.adapters.merge import SHARD, Merged, merge_adapter
from autolora.errors import UserError
from autolora.files import is_path
from autolora.lora.stored import CONFIG, read_config
from autolora.model.heads import settle_head
from autolora.model.load import load_tokenizer, own_label_names, weights_hash
from autolora.model.opening import gguf_option, opened
from autolora.planted.kinds import seeded
from autolora.recipe.schema import Model
from autolora.registry import TASKS
from autolora.runs.base import read_base
from autolora.runs.folders import is_run
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.store import Run

TOKENIZER = ("tokenizer_config.json", "tokenizer.json")


def merge(
    target: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    dtype: str | None = None,
    shard_size: str = SHARD,
) -> Merged:
    """Write the model that an adapter makes of its base, for transformers alone.

    Args:
        target: A run's directory, or an adapter's in PEFT's format.
        output: The folder for the merged model; it is made, or replaced where this function has made it.
        model: The base model, by hub id, path or bundled name; None: the one that the run or the adapter names.
        dtype: float32, bfloat16 or float16; None: the base model's.
        shard_size: How large one weight file may be.

    Raises:
        UserError: The adapter cannot be merged, is not that of this model, or the folder cannot be written to.
    """
    path, into = Path(target), Path(output)
    if is_run(path):
        return _merge_run(Run.open(path), into, model, dtype, shard_size)
    path = find_adapter(path)
    base = _base_of(path, model)
    return merge_adapter(
        path, into, base, dtype=dtype, tokenizer=partial(_any_tokenizer, path, base), shard_size=shard_size
    )


def _merge_run(run: Run, output: Path, model: str | None, dtype: str | None, shard_size: str) -> Merged:
    check_there(run.path, WHOLE, "search", "retrain")
    adapter = run.path / "adapter"
    if not (adapter / CONFIG).is_file():
        if (adapter / "method.json").is_file():
            raise UserError(
                f"{run.path} cannot be merged: what its method, {run.recipe.method.name}, trains is no adapter of "
                "PEFT's"
            )
        raise UserError(f"{run.path} has no adapter yet; run: autolora retrain {run.path}")
    verify_below(run.path, "adapter")
    given = run.recipe.model if model is None else run.recipe.model.model_copy(update=_named(model))
    base = seeded(given, run.recipe.seed)
    return merge_adapter(
        adapter,
        output,
        base,
        dtype=dtype,
        tokenizer=partial(_run_tokenizer, run, base),
        check=partial(_check_base, run, base),
        shard_size=shard_size,
    )


def _base_of(adapter: Path, model: str | None) -> Model:
    """The base model that is named for an adapter, or that it names."""
    if model is not None:
        return Model(**_named(model))
    config = read_config(adapter)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise UserError(f"{adapter / CONFIG} names no base model; name it: --model NAME_OR_PATH")
    if (place := Path(name)).is_dir():
        return Model(name=str(place.absolute()))
    if is_path(name):
        raise UserError(f"the base model of {adapter}, {name}, is not there; say where it lies: --model NAME_OR_PATH")
    return Model(name=name, revision=revision if isinstance(revision, str) else None)


def _named(model: str) -> dict[str, Any]:
    """What --model says, for a recipe's model section; a folder is one from here."""
    local = is_path(model) or Path(model).is_dir()
    path = str(Path(model).expanduser().absolute()) if local else model
    return {"name": path, "revision": None}


def _any_tokenizer(adapter: Path, model: Model) -> PreTrainedTokenizerBase | None:
    """The adapter's own tokenizer, which has the tokens that were added; else the base model's; None: there is none."""
    if any((adapter / name).is_file() for name in TOKENIZER):
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(adapter)
        return found
    with opened(model) as base:
        if Path(base.place).is_dir() and not gguf_option(model.name) and not _has_tokenizer(Path(base.place)):
            return None
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base.place, **base.options)
        base.as_named(loaded)
    return loaded


def _has_tokenizer(folder: Path) -> bool:
    return any(any(folder.glob(name)) for name in (*TOKENIZER, "vocab.*", "*.model"))


def _run_tokenizer(run: Run, model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer as the run has had it."""
    return load_tokenizer(model, **TASKS.load(run.recipe.task).tokenizer_options)


def _check_base(run: Run, model: Model, base: BaseModel) -> None:
    """Raises UserError where the run was begun on another model than is loaded now."""
    drawn, config = base.loading.drawn, base.model.config
    new_head = TASKS.load(run.recipe.task).new_head and config.problem_type != "regression"
    if new_head and not base.loading.mismatched:  # as it was for the training
        names = [str(name) for _, name in sorted((config.id2label or {}).items())]
        anew, _ = settle_head(base.model, own_label_names(model), names, drawn)
        drawn |= anew
    kept, found = read_base(run.path), weights_hash(base.model, drawn)
    if kept is not None and kept.weights != found:
        raise UserError(
            f"{run.path} was begun on another model than {model.name} is now (the hash of its weights is "
            f"{found[:12]}, and was {kept.weights[:12]}); put the former one back, or name its place with --model"
        )
