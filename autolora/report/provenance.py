"""What produced the runs of a report, from their manifests: ``provenance_section(results)``; and why some failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.report.blocks import Block, Details, Heading, Table, Text
from autolora.runs.results import Result
from autolora.tables import Cell, Row

STAGES = ("search", "retrain", "eval")
_SHORT = 12  # characters of a hash that tell it from the others


def provenance_section(results: Sequence[Result]) -> list[Block]:
    """Collapsed: the environments, each once; data and model hashes, each once; and a row for every run."""
    heading = Heading(2, "Runs and environments", "runs-and-environments")
    known = [each for each in results if each.manifest]
    if not known:
        return [heading, Text("None of the runs has a manifest.")]
    environments = _numbered([_environment(each.manifest) for each in known])
    rows = [_run_row(each, environments) for each in known]
    hashes = _hash_rows(known)
    blocks: list[Block] = [heading]
    blocks += [_details("environment", [{"environment": f"E{n}", **env} for n, env in _listed(environments)])]
    if hashes:
        blocks.append(_details("hash of data and models", hashes, "hashes of data and models"))
    return [*blocks, _details("run", rows)]


def failure_lines(results: Sequence[Result]) -> tuple[str, ...]:
    """A line for every run that did not succeed."""
    return tuple(
        f"{each.recipe}, {each.method}, seed {each.seed}: {each.state}"
        f"{f': {each.reason}' if each.reason else ''}{f' ({shown(each.run)})' if each.run is not None else ''}"
        for each in results
        if each.state != "success"
    )


def shown(path: Path) -> str:
    """The path from the working directory, where it is below it."""
    there, here = path.resolve(), Path.cwd()
    return (there.relative_to(here) if there.is_relative_to(here) else path).as_posix()


def _details(one: str, rows: Sequence[Row], several: str | None = None) -> Details:
    several = several or f"{one}s"
    said = f"1 {one}" if len(rows) == 1 else f"{len(rows)} {several}"
    return Details(said, (Table(several.capitalize(), tuple(rows)),))


def _environment(manifest: Mapping[str, Any]) -> dict[str, Cell]:
    """Commit, versions and devices as cells."""
    commit = manifest.get("commit")
    dirty = " with changes" if manifest.get("dirty") else ""
    stages = manifest.get("stages", {})
    devices = dict.fromkeys(_device(stages[name]["device"]) for name in STAGES if stages.get(name, {}).get("device"))
    return {
        "autolora": _cell(manifest.get("autolora")),
        "commit": f"{commit}{dirty}" if commit else None,
        "device": "; ".join(devices) or None,
        "python": _cell(manifest.get("python")),
        "platform": _cell(manifest.get("platform")),
        **{name: _cell(version) for name, version in manifest.get("packages", {}).items()},
    }


def _device(record: object) -> str:
    """In words: ``cpu AMD EPYC, threads 1``."""
    if not isinstance(record, Mapping):
        return str(record)
    more = [f"{key} {value}" for key, value in record.items() if key not in ("type", "name")]
    return ", ".join([" ".join(str(record[key]) for key in ("type", "name") if record.get(key)), *more])


def _numbered(environments: Sequence[Mapping[str, Cell]]) -> dict[str, int]:
    """A number for each that differs, from 1, by its JSON."""
    found: dict[str, int] = {}
    for each in environments:
        found.setdefault(json.dumps(each), len(found) + 1)
    return found


def _listed(environments: Mapping[str, int]) -> list[tuple[int, dict[str, Cell]]]:
    return [(number, json.loads(text)) for text, number in environments.items()]


def _run_row(result: Result, environments: Mapping[str, int]) -> Row:
    manifest = result.manifest
    stages = manifest.get("stages", {})
    seconds: dict[str, Cell] = {f"{name} s": _cell(stages.get(name, {}).get("seconds")) for name in STAGES}
    return {
        "recipe": result.recipe,
        "method": result.method,
        "seed": result.seed,
        "state": result.state,
        "run": None if result.run is None else shown(result.run),
        "created": str(manifest.get("created", ""))[:19].replace("T", " ") or None,
        "environment": f"E{environments[json.dumps(_environment(manifest))]}",
        **seconds,
        "data": ", ".join(dict.fromkeys(value[:_SHORT] for _, value in _hashes(manifest, "data"))) or None,
        "model": ", ".join(dict.fromkeys(value[:_SHORT] for _, value in _hashes(manifest, "model"))) or None,
    }


def _hashes(manifest: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """(split, or "", and hash), each once."""
    found: dict[tuple[str, str], None] = {}
    for stage in manifest.get("stages", {}).values():
        value = stage.get(kind)
        pairs = value.items() if isinstance(value, Mapping) else [("", value)] if value else []
        found |= dict.fromkeys((str(name), str(text)) for name, text in pairs)
    return list(found)


def _hash_rows(results: Sequence[Result]) -> list[Row]:
    """Every hash in full, and how many runs of which recipe have it."""
    counts: dict[tuple[str, str, str], int] = {}
    for each in results:
        for kind in ("data", "model"):
            for split, text in _hashes(each.manifest, kind):
                key = (each.recipe, f"{kind} {split}".strip(), text)
                counts[key] = counts.get(key, 0) + 1
    return [{"recipe": recipe, "of": of, "sha-256": text, "runs": n} for (recipe, of, text), n in counts.items()]


def _cell(value: object) -> Cell:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
