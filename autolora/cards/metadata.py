"""The front matter of a card, as the hub reads it: base model, task, tags, licence, metrics as a model-index."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePath

from huggingface_hub import EvalResult, ModelCardData

from autolora.cards.about import About
from autolora.recipe.method import label
from autolora.recipe.schema import Data
from autolora.registry import METRICS
from autolora.tasks.base import part_of

UNKNOWN = "unknown"  # a licence of the hub's list, for what nobody has said
OTHER_TASK = "other"  # a task that the hub has no name for
# What a metric is called in `evaluate`, where that is not what it is called here.
CALLED = {"pearson": "pearsonr", "spearman": "spearmanr"}


def metadata(about: About) -> ModelCardData:
    """The front matter.

    Args:
        about: The run.
    """
    recipe, library = about.recipe, about.loading.library if about.loading else "autolora"
    results = list(eval_results(about))
    sources = dict.fromkeys(
        hub for split in _splits(recipe.data) if (hub := recipe.data.source_of(split).hub) is not None
    )
    return ModelCardData(
        language=list(recipe.card.language) or None,
        license=recipe.card.license or UNKNOWN,
        library_name=library,
        pipeline_tag=about.family.pipeline_tag or None,
        base_model=about.base,
        datasets=list(sources) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=_tags(about, library),
        model_name=f"{recipe.name}, {label(recipe.method)}" if results else None,
        eval_results=results or None,
    )


def eval_results(about: About) -> Iterator[EvalResult]:
    """The metrics over whole evaluation splits; what is not finite is left out.

    Args:
        about: The run; before its evaluation there are none.
    """
    for row in about.rows:
        if part_of(row):
            continue
        split = str(row["split"])
        source = about.recipe.data.source_of(split)
        for name in about.recipe.eval.metrics:
            for output in METRICS.load(name).outputs:
                value = row.get(output.name)
                if isinstance(value, int | float) and math.isfinite(value):
                    yield EvalResult(
                        task_type=about.family.pipeline_tag or OTHER_TASK,
                        dataset_type=source.hub or "custom",
                        dataset_name=data_name(source),
                        dataset_config=source.config,
                        dataset_split=split,
                        dataset_revision=source.revision,
                        metric_type=CALLED.get(name, name) if output.name == name else output.name,
                        metric_name=output.name,
                        metric_value=value,
                    )


def data_name(source: Data) -> str:
    """What a data set is called: no folder of this machine is in it.

    Args:
        source: The section as it is where a split lies.
    """
    if source.hub is not None:
        return source.hub if source.config is None else f"{source.hub} ({source.config})"
    if source.generated is not None:
        return f"generated: {source.generated}"
    path = PurePath(source.path or "")
    inner = [part for part in path.parts if part not in ("..", ".", "~")]
    return (path.name if path.is_absolute() else "/".join(inner)) or "own data"


def _splits(data: Data) -> list[str]:
    return [data.splits.train, *data.splits.eval]


def _tags(about: About, library: str) -> list[str]:
    peft = library == "peft"
    tags = {
        "lora": peft and about.ranks is not None,
        "transformers": peft,
        "conversational": about.family.converses,
        f"base_model:adapter:{about.base}": peft and about.base is not None,
    }
    wanted = [tag for tag, fits in tags.items() if fits]
    return list(dict.fromkeys(["autolora", about.recipe.method.name, *wanted]))
