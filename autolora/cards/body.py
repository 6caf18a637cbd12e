"""The text of a card: task, data, metrics, ranks, training, cost, versions, warnings, licence, and how it is loaded.

Nothing of the data's rows is in it but the names of classes, and no folder of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autolora.adapters.derived_card import ranks_text
from autolora.cards.about import About
from autolora.cards.metadata import data_name
from autolora.recipe.method import label
from autolora.recipe.schema import Recipe, Steps
from autolora.runs.manifest import recorded_precision
from autolora.safe import markdown
from autolora.tables import Row, to_markdown

_HASH = 16  # characters of a hash that tell it from all others
_SEARCHES = "search/ranks.json"
FILL_IN = "unknown: nobody has said. Fill it in here and in the first lines before you publish this"


def body(about: About) -> str:
    """The text, without the front matter.

    Args:
        about: The run.
    """
    parts = [
        f"# {markdown(about.recipe.name)}: {markdown(label(about.recipe.method))}",
        _first(about),
        *(_section(title, text) for title, text in _sections(about) if text),
    ]
    return "\n\n".join(parts) + "\n"


def _sections(about: About) -> Iterator[tuple[str, str]]:
    yield "How to load it", _loading(about)
    yield "Metrics", _metrics(about)
    yield "Data", _data(about)
    yield "Ranks", "" if about.ranks is None else ranks_text(about.ranks)
    yield "How it was trained", _training(about)
    yield "Cost", _cost(about)
    yield "Versions", _versions(about)
    yield "Warnings", "\n".join(f"- {text}" for text in _warnings(about))
    yield "Licence", _licence(about)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text.rstrip()}"


def _first(about: About) -> str:
    """What it is, in a sentence or two."""
    recipe = about.recipe
    library = about.loading.library if about.loading else ""
    what = "An adapter (PEFT)" if library == "peft" else f"What the method {markdown(label(recipe.method))} has trained"
    text = f"{what} for {markdown(recipe.task)}. Pretrained model: {markdown(about.base_said)}."
    if about.names and len(about.names) <= 50:
        text += f" Classes: {', '.join(markdown(name) for name in about.names)}."
    description = " ".join(recipe.description.split())
    return f"{text}\n\n{markdown(description)}" if description else text


def _loading(about: About) -> str:
    if not about.code:
        return (
            "There is no code to show for this task and method with transformers and PEFT alone: it is loaded by "
            "autolora, from the run that made it (`autolora eval RUN`)."
        )
    packages = "`pip install peft transformers`"
    if about.loading is not None and about.loading.library != "peft":
        packages = "`pip install autolora` (what was trained is no adapter of PEFT's: the file has tensors by name)"
    notes = [f"{packages}; then, in this folder:"]
    quantised = about.recipe.model.quantization
    if quantised or about.base_said != (about.base or about.base_said):
        kept = f"its base in {quantised}" if quantised else f"{about.base_said}"
        notes.append(f"It was trained on {markdown(kept)}, so that outputs may differ a little from the run's.")
    return "\n".join(notes) + f"\n\n```python\n{about.code}\n```"


def _metrics(about: About) -> str:
    if not about.rows:
        return "Not evaluated yet."
    positive = about.stage("eval").get("positive")
    said = f"\nF1, precision and recall are those of the class {markdown(str(positive))}." if positive else ""
    of_size = ("total rank", "LoRA parameters", "adapter parameters")
    rows: list[Row] = [{name: cell for name, cell in row.items() if name not in of_size} for row in about.rows]
    return to_markdown(rows) + said


def _data(about: About) -> str:
    recipe, record = about.recipe, about.manifest.get("data", {})
    hashes: Mapping[str, str] = about.stage("retrain").get("data", {})
    rows: list[Row] = []
    for split in dict.fromkeys([recipe.data.splits.train, *recipe.data.splits.eval]):
        source, known = recipe.data.source_of(split), record.get("splits", {}).get(split, {})
        counts = ", ".join(f"{name} {count}" for name, count in list(known.get("labels", {}).items())[:20])
        rows.append(
            {
                "split": split,
                "data set": data_name(source),
                "revision": source.revision,
                "rows": known.get("rows"),
                "used": known.get("used"),
                "classes": counts or None,
                "hash (SHA-256)": hashes.get(split, "")[:_HASH] or None,
            }
        )
    shown = [name for name in rows[0] if any(row.get(name) is not None for row in rows)]
    columns = ", ".join(markdown(name) for name in recipe.data.columns)
    table = to_markdown([{name: row[name] for name in shown} for row in rows])
    return f"{table}\nInput: {columns}; target: {markdown(recipe.data.label)}."


def _training(about: About) -> str:
    recipe, retrained = about.recipe, about.stage("retrain")
    weights = about.method.weights_in(recipe)
    rows: dict[str, object] = {"method": label(recipe.method), "seed": recipe.seed}
    if searched := about.stage("search"):
        rows["search"] = _steps(recipe.search, searched) if searched.get("steps") else None
    if about.method.trains:
        rows["training"] = _steps(recipe.retrain, retrained)
        rows["learning rate"] = f"{weights.learning_rate:g}, {weights.schedule}, warm-up {weights.warmup:g}"
        rows["optimiser"] = f"{weights.optimizer}, weight decay {weights.weight_decay:g}"
    if about.ranks is not None:
        rows["scaling"] = f"lora_alpha {recipe.retrain_alpha:g}, {recipe.retrain.scaling}"
        rows["dropout of LoRA"] = f"{recipe.retrain_dropout:g}"
    rows["longest input"] = f"{recipe.data.max_length} tokens"
    rows |= _changed(recipe)
    return _pairs(rows)


def _changed(recipe: Recipe) -> dict[str, object]:
    """Of what most recipes leave as it is."""
    found: dict[str, object] = {}
    if recipe.loss.label_smoothing:
        found["label smoothing"] = f"{recipe.loss.label_smoothing:g}"
    if recipe.model.quantization or recipe.model.base_dtype != "auto":
        found["base kept in"] = recipe.model.quantization or recipe.model.base_dtype
    if recipe.data.template:
        found["chat template"] = recipe.data.template.rpartition("/")[2]
    return found


def _steps(settings: Steps, stage: Mapping[str, Any]) -> str:
    length = f"{stage['steps']} steps" if stage.get("steps") else "no steps"
    return f"{length} of {settings.batch_size} examples"


def _cost(about: About) -> str:
    searched, retrained = about.stage("search"), about.stage("retrain")
    rows: dict[str, object] = {}
    if "trainable_parameters" in retrained:
        head = retrained["head_parameters"]
        rows["parameters of the adapter"] = f"{retrained['trainable_parameters'] - head:,}"
        rows["parameters of the head"] = f"{head:,}"
    rows["seconds of the search"] = searched.get("seconds")
    rows["seconds of the training"] = retrained.get("seconds")
    peaks = [stage["peak_memory_mib"] for stage in (searched, retrained) if stage.get("peak_memory_mib")]
    for what, said in (("process", "memory of the process"), ("device", "memory of the device")):
        if found := [peak[what] for peak in peaks if what in peak]:
            rows[said] = f"{max(found):,.0f} MiB at most"
    if device := retrained.get("device"):
        rows["device"] = f"{device.get('name') or device.get('type')} ({device.get('type')})"
        rows["precision"] = recorded_precision(device)
    rows["processes"] = retrained.get("processes")
    return _pairs(rows)


def _versions(about: About) -> str:
    manifest = about.manifest
    found = {"autolora": manifest.get("autolora"), "python": manifest.get("python"), **manifest.get("packages", {})}
    return "\n".join(f"- {name} {version}" for name, version in found.items() if version)


def _warnings(about: About) -> Iterator[str]:
    """What the run said of its data; the places of rows, which have names of files in them, are left out."""
    record = about.manifest.get("data", {})
    for text in record.get("warnings", ()):
        yield markdown(str(text).partition("; first ")[0])
    for name, split in record.get("splits", {}).items():
        if split.get("dropped"):
            yield f"{split['dropped']} rows of split {markdown(name)} lack a cell and were left out"
        tokens = split.get("tokens") or {}
        if tokens.get("cut_off"):
            yield (
                f"{tokens['cut_off']} of {tokens['examples']} examples of split {markdown(name)} lost tokens at the "
                f"maximum of {tokens['max_length']}"
            )


def _licence(about: About) -> str:
    said = about.recipe.card.license
    if said is None:
        said = FILL_IN
    return f"{markdown(said)}. The pretrained model has a licence of its own."


def _pairs(rows: Mapping[str, object]) -> str:
    """A table of two columns."""
    table: list[Row] = [{"what": name, "value": str(value)} for name, value in rows.items() if value is not None]
    return to_markdown(table)
