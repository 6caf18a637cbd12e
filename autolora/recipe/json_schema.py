"""The schema of recipes for editors and other programs: ``json_schema()``; and ``reference()``, the same in Markdown.

It is of draft 2020-12: what pydantic makes of `autolora.recipe.schema`, with the names that registries have, every
field's description, and what sections say of several fields at once. It refuses nothing that a recipe may be; what only
a look at data and model can show, and some contradictions, it lets through, and ``autolora recipes validate`` does not.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autolora.recipe.descriptions import FIELDS
from autolora.recipe.fields import Section
from autolora.recipe.messages import section_at
from autolora.recipe.method import BUDGETED, SQUEEZES
from autolora.recipe.schema import Recipe
from autolora.recipe.stages import BUDGETS
from autolora.registry import ESTIMATORS, LINEARISERS, METHODS, METRICS, SCORES, TASKS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
FILE = "recipe.schema.json"  # beside the shipped recipes, which name it in their first lines
NAMES: Mapping[tuple[str, str], Iterable[str]] = {
    ("Recipe", "task"): TASKS,
    ("Data", "linearise"): LINEARISERS,
    ("MethodSettings", "name"): METHODS,
    ("Search", "estimator"): (*ESTIMATORS, "none"),
    ("RankRule", "score"): SCORES,
    ("Eval", "metrics"): METRICS,
}
_FILES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
_GIVEN = {"not": {"type": "null"}}
Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema of a recipe file."""
    made = Recipe.model_json_schema()
    sections = {"Recipe": made, **made["$defs"]}
    for name, section in sections.items():
        section.pop("title", None)
        for field, schema in section["properties"].items():
            schema.pop("title", None)
            section["properties"][field] = _described(name, field, schema)
    made["required"] = [field for field in made["required"] if field != "name"]  # the file's name says it
    _widen(sections["Splits"]["properties"])
    for section in ("Data", "Elsewhere"):
        for field in ("columns", "label"):
            _numbered(sections[section]["properties"][field])
    _between_fields(sections)
    return {"$schema": DRAFT, "title": "A recipe of autolora", **made}


def schema_text() -> str:
    """The same as a file has it."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _described(section: str, field: str, schema: Schema) -> Schema:
    names = NAMES.get((section, field))
    if names is not None:
        target = schema["items"] if schema.get("type") == "array" else schema
        target["enum"] = [*names]
    why = next(_reasons(schema), "")
    text = FIELDS.get(section, {}).get(field, "")
    said = " ".join(filter(None, [text, f"({why})" if text and why else why]))
    return {**schema, **({"description": said} if said else {})}


def _reasons(schema: Schema) -> Iterator[str]:
    if "description" in schema:
        yield schema["description"]
    for part in schema.get("anyOf", []):
        yield from _reasons(part)


def _widen(splits: Schema) -> None:
    """A list of files is a split, too."""
    plain = copy.deepcopy(splits["train"])
    about = {name: plain.pop(name) for name in ("default", "description") if name in plain}
    splits["train"] = {"anyOf": [plain, _FILES], **about}
    splits["eval"]["items"] = {"anyOf": [splits["eval"]["items"], _FILES]}


def _numbered(schema: Schema) -> None:
    """The number of a column is its name."""
    for part in (schema, *schema.get("anyOf", [])):
        if part.get("type") == "array":
            part["items"] = {"anyOf": [part["items"], {"type": "integer", "minimum": 0, "maximum": 9999}]}
    if schema.get("type") == "string":
        schema["type"] = ["string", "integer"]
    elif not any(part.get("type") == "array" for part in schema.get("anyOf", [])) and "anyOf" in schema:
        schema["anyOf"].append({"type": "integer", "minimum": 0, "maximum": 9999})


def _between_fields(sections: Mapping[str, Schema]) -> None:
    """What sections say of several fields at once."""
    for name in ("Search", "Retrain"):
        sections[name]["not"] = _all_given("steps", "epochs")
    pairs = [(one, other) for i, one in enumerate(BUDGETS) for other in BUDGETS[i + 1 :]]
    sections["BudgetSettings"]["allOf"] = [{"not": _all_given(*pair)} for pair in pairs]
    sections["Data"]["anyOf"] = [_all_given(field) for field in ("hub", "path", "generated")]
    sections["Data"]["allOf"] = [{"not": _all_given("generated", field)} for field in ("hub", "path")]
    sections["Elsewhere"]["anyOf"] = [_all_given(field) for field in ("hub", "path")]
    nothing = {name: {"type": "null"} for name in BUDGETS}
    sections["MethodSettings"]["allOf"] = [
        _only_of("ratio", ["lora-plus"]),
        _only_of("at", SQUEEZES),
        {"if": _named_among(without_budget()), "then": {"properties": {"budget": {"properties": nothing}}}},
    ]


def without_budget() -> list[str]:
    """Our own methods that have no budget; what other packages' have is not known here."""
    return [name for name in METHODS.ours if name not in BUDGETED]


def _only_of(field: str, methods: Iterable[str]) -> Schema:
    others = [name for name in METHODS.ours if name not in methods]
    return {"if": _named_among(others), "then": {"not": _all_given(field)}}


def _named_among(methods: Iterable[str]) -> Schema:
    return {"properties": {"name": {"enum": [*methods]}}, "required": ["name"]}


def _all_given(*fields: str) -> Schema:
    return {"required": [*fields], "properties": dict.fromkeys(fields, _GIVEN)}


def reference() -> str:
    """All sections and fields in Markdown, for the documentation."""
    made = json_schema()
    parts = [
        "# Recipe reference",
        "Made from the schema by `autolora recipes schema --markdown`; do not edit it by hand. An unknown key is "
        "refused, and so is a value outside its range. Every field may be set on the command line, as in "
        "`--set search.rank=4`, and varied with `--sweep` ([sweeps](sweeps.md)).",
        *(_table(path, section, made) for path, section in _paths()),
    ]
    return "\n\n".join(parts) + "\n"


def _paths(path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """Every section of a recipe, the recipe itself first."""
    section = section_at(path)
    assert section is not None
    yield path, section
    for name in section.model_fields:
        if section_at((*path, name)) is not None:
            yield from _paths((*path, name))


def _table(path: tuple[str, ...], section: type[Section], made: Schema) -> str:
    schema = made if not path else made["$defs"][section.__name__]
    title = f"## {'.'.join(path)}" if path else "## The recipe"
    lines = [title, "", " ".join((section.__doc__ or "").split("\n\n")[0].split()), ""]
    lines += ["| field | value | default | what it is |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        shown = "required" if name in schema.get("required", []) else _default(field)
        lines.append(f"| `{name}` | {_kind(field)} | {shown} | {_cell(field.get('description', ''))} |")
    return "\n".join(lines)


def _default(field: Schema) -> str:
    if "$ref" in field or "default" not in field:
        return ""
    return f"`{_cell(json.dumps(field['default'], ensure_ascii=False))}`"


def _kind(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{name}`" for name in field["enum"])
    if "$ref" in field:
        return "section"
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(part) for part in field["anyOf"]))
    kind = field.get("type", "")
    if kind == "array":
        items = _kind(field["items"]) if "items" in field else "numbers"
        return f"list of {items}"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
    kinds = [kind] if isinstance(kind, str) else kind
    return " or ".join(names.get(each, each) for each in kinds)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
