"""Shows that a change of the code changes no number: runs the same short experiments with two checkouts, and compares.

    python benchmarks/equality.py produce --source BEFORE --data-root DIR --output OUT/before
    python benchmarks/equality.py produce --source AFTER --data-root DIR --output OUT/after
    python benchmarks/equality.py compare OUT/before OUT/after

BEFORE and AFTER are checkouts; DIR holds glue/stsb, ner/ncbi_disease and e2e, as for `autolora run --data-root DIR`.
Both sides should run on the same machine with the same interpreter: python's own, or --python PYTHON.

Runs are found by recipe, method and seed, as their folders are named after the time. Every file of theirs is compared,
byte for byte or by its values, except those in `NOT_COMPARED`. A difference that is meant to be is in `EXPECTED` and
printed with its reason; any other makes the exit code 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

# Short, but ranks differ between layers and predictions between examples: high learning rates, and few examples often.
SHORT = (
    *("model.dtype=float32", "data.limits.train=96", "data.limits.eval=80", "data.max_length=40"),
    *("search.steps=12", "search.batch_size=8", "search.log_every=4", "search.weights.learning_rate=3e-3"),
    *("search.selection.learning_rate=5e-2", "retrain.batch_size=8", "retrain.log_every=8"),
)
STSB, NER = "glue-mini/stsb", "ner-mini/ncbi_disease"
SETTINGS = {
    "quickstart": (*SHORT, "retrain.steps=20", "retrain.weights.learning_rate=3e-3"),
    STSB: (*SHORT, "retrain.steps=20", "retrain.weights.learning_rate=3e-3"),
    NER: (*SHORT, "retrain.steps=60", "retrain.weights.learning_rate=6e-3"),  # fewer find no entity
    "nlg-mini/e2e": (
        *("model.dtype=float32", "data.limits.train=24", "data.limits.eval=8", "eval.generation.max_new_tokens=16"),
        *("search.steps=3", "search.batch_size=4", "search.log_every=1", "search.selection.learning_rate=5e-2"),
        *("retrain.steps=3", "retrain.batch_size=4", "retrain.log_every=1"),
    ),
}
# What is run, in this order: command, recipes, options. A comparison takes over the runs that are cells of its own.
PLAN = (
    *(("run", (recipe,), "") for recipe in ("quickstart", STSB, NER)),
    ("compare", (STSB,), "--methods autolora,lora-matched,shuffled,adalora,svd,eva,lora-grid:2 --seeds 0-1"),
    ("compare", (NER,), "--methods lora:2,lora:4 --seeds 0"),
    ("compare", (STSB, NER), "--methods lora:2,lora:4 --seeds 0"),
    *(("run", (STSB,), f"--set=method.name={name}") for name in ("houlsby", "bitfit")),  # no LoRA
    ("run", ("nlg-mini/e2e",), ""),
)

# What a difference says ("thing: file: field: how"), and why it is meant to be. The whole of it has to match.
EXPECTED = (
    (
        r"comparison of .*: (scores\.\w+|comparison\.md): .*other metrics: "
        r"'(accuracy [\d.]+)' → '(?=.*precision [\d.]+)(?=.*recall [\d.]+)(?=.*\2).*'",
        "fixed: a comparison of tagging shows precision and recall, which stand in front of the main metric",
    ),
    (r".*: ((\w+/)*(manifest|cells|ranks|grid)\.json|recipe\.yaml|.*log\.jsonl): .*: only after.*", "a new field"),
    (
        r"comparison of .*: cells\.json: \[\d+\]/scores/.*",
        "scores are typed: a list with directions, not names to values",
    ),
    (r".*ranks\.json: /(?!ranks/).*", "beside the ranks, which are compared, a file may be laid out anew"),
    (r".*: the file: only after", "a new file"),
)
NOT_COMPARED = (
    (r"status\.json", "times and processes"),
    (r"costs\.\w+", "seconds and memory"),
    (r".*checkpoint\.safetensors", "an inner format; what comes of it is compared"),
)
# Of some files the fields that say when, where and how fast.
IGNORED = (
    (r"manifest\.json", r"/(created|commit|dirty|sources|sha256)\b.*|.*/(seconds|peak_memory_mib|device)\b.*"),
    (r"cells\.json", r".*/(run|\w+_seconds|peak_memory_mib)"),
    (r".*grid\.json", r"/identity"),
    (r"recipe\.yaml", r"/data/root"),
)
RENAMED = {"trials.json": "cells.json"}
# These are compared by their values; all others byte for byte.
BY_VALUE = r"(manifest|cells|.*ranks|.*grid|.*adapter_config)\.json|.*log\.jsonl|recipe\.yaml|.*\.safetensors"
Values = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One value that is not the same on both sides. where: the thing and its file."""

    where: str
    field: str
    how: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.how}"

    @property
    def reason(self) -> str | None:
        """Why it is meant to be; None for one that is not."""
        return next((reason for pattern, reason in EXPECTED if re.fullmatch(pattern, str(self), re.DOTALL)), None)


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(description="Shows that a change of the code changes no number.")
    commands = parser.add_subparsers(dest="command", required=True)
    producing = commands.add_parser("produce", help="run the experiments with a checkout")
    for option in ("--source", "--data-root", "--output"):
        producing.add_argument(option, type=Path, required=True, metavar="FOLDER")
    producing.add_argument("--python", default=sys.executable, help="an interpreter with autolora's dependencies")
    comparing = commands.add_parser("compare", help="compare what two checkouts produced")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args(words)
    if given.command == "compare":
        return compare(given.before, given.after)
    produce(given.source.resolve(), given.data_root.resolve(), given.output.resolve(), given.python)
    return 0


def produce(source: Path, data_root: Path, output: Path, python: str) -> None:
    """Run the plan with the code in `source`: runs are in ``output/runs``, what a command said in ``output/*.txt``."""
    if not (source / "autolora" / "__main__.py").is_file():
        raise SystemExit(f"{source} is no checkout of autolora")
    output.mkdir(parents=True)  # a new one, since a comparison takes over the runs that are there
    quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **quiet, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}
    for number, (command, recipes, options) in enumerate(PLAN, 1):
        # A comparison may have several recipes, and is told which one a setting is for.
        settings = [f"{r}:{s}" if command == "compare" else s for r in recipes for s in SETTINGS[r]]
        words = [command, *recipes, *options.split(), *(f"--set={setting}" for setting in settings), "--output", "runs"]
        if recipes != ("quickstart",):  # its data is generated
            words += ["--data-root", str(data_root)]
        call, said, begun = [python, "-m", "autolora", *words], output / f"{number}.txt", time.monotonic()
        with said.open("w", encoding="utf-8") as file:
            code = subprocess.run(call, cwd=output, env=environment, stdout=file, stderr=file, check=False).returncode
        if code != 0:
            raise SystemExit(f"autolora {' '.join(words)}: exit code {code}; what it said is in {said}")
        print(f"{time.monotonic() - begun:4.0f} s  autolora {command} {' '.join(recipes)} {options}", flush=True)


def compare(before: Path, after: Path) -> int:
    """Print a line for everything compared, and what is not the same; 1 if anything is that should not be, else 0."""
    sides = things(before), things(after)
    found, equal = list[Difference](), 0
    for name in sorted({*sides[0], *sides[1]}):
        for where, differences in compare_thing(name, sides[0].get(name), sides[1].get(name)):
            show(where, differences)
            found += differences
            equal += not differences
    for pattern, reason in NOT_COMPARED:
        print(f"not compared: {pattern} ({reason})")
    wrong = sum(difference.reason is None for difference in found)
    print(f"{equal} equal; differences: {len(found) - wrong} with a reason, {wrong} without")
    return 1 if wrong or not equal else 0


def show(where: str, differences: Sequence[Difference]) -> None:
    """Print a line where all is equal; else one for each reason, or for each field without one, with an example."""
    if not differences:
        print(f"equal      {where}")
    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.reason or re.sub(r"\[\d+\]", "", difference.field), []).append(difference)
    for first, *others in groups.values():
        more = f" (and {len(others)} more)" if others else ""
        print(f"expected   {first}{more} — {first.reason}" if first.reason else f"DIFFERENT  {first}{more}")


def things(folder: Path) -> dict[str, Path]:
    """The folders of runs and of comparisons, by what they are."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("recipe.yaml")):
        recipe = values(path)
        method = [recipe[f"/method/{key}"] for key in ("name", "size", "learning_rate")]
        name = f"{recipe['/name']} {':'.join(part for part in method if part != 'null')} seed {recipe['/seed']}"
        if name in found:
            raise SystemExit(f"there are two runs of {name}: {found[name]} and {path.parent}")
        found[name] = path.parent
    for path in sorted(folder.rglob("comparison.md")):
        found[f"comparison of {path.parent.relative_to(folder / 'runs' / 'comparisons').as_posix()}"] = path.parent
    return found


def compare_thing(name: str, before: Path | None, after: Path | None) -> Iterator[tuple[str, list[Difference]]]:
    """What was compared of a run or a comparison, each with its differences: the ranks, and every file."""
    if before is None or after is None:
        yield name, [Difference(name, "all of it", "only before" if after is None else "only after")]
        return
    ranks = found_ranks(before), found_ranks(after)
    if any(ranks):
        yield f"{name}: ranks", list(value_differences(f"{name}: ranks", *ranks))
    sides = files(before), files(after)
    for file in sorted({*sides[0], *sides[1]}):
        where = f"{name}: {file}"
        if file in sides[0] and file in sides[1]:
            yield where, file_differences(where, file, sides[0][file], sides[1][file])
        else:
            yield where, [Difference(where, "the file", "only before" if file in sides[0] else "only after")]


def files(folder: Path) -> dict[str, Path]:
    """All files that are compared, by their path below the folder; a renamed one by its old name."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    left_out = "|".join(pattern for pattern, _ in NOT_COMPARED)
    return {RENAMED.get(name, name): path for name, path in paths.items() if not re.fullmatch(left_out, name)}


def found_ranks(run: Path) -> Values:
    """The ranks that a run was retrained at: found in training, or before it."""
    paths = [run / "retrain" / "ranks.json", run / "search" / "ranks.json", run / "ranks.json"]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    return dict(found[0]["ranks"]) if found else {}


def file_differences(where: str, name: str, before: Path, after: Path) -> list[Difference]:
    """What differs between two files, value by value where the format is known."""
    if before.read_bytes() == after.read_bytes():
        return []
    ignored = "|".join(fields for pattern, fields in IGNORED if re.fullmatch(pattern, name))
    found = list(value_differences(where, values(before), values(after)))
    if not found and not re.fullmatch(BY_VALUE, name):
        return [Difference(where, "bytes", "not the same, though the values are")]
    return [difference for difference in found if not re.fullmatch(ignored, difference.field)]


def values(path: Path) -> Values:
    """What a file says, by names of its own."""
    if path.suffix == ".safetensors":
        tensors = load_file(path).items()
        return {name: f"{x.dtype} {x.shape} {sha256(x.tobytes()).hexdigest()[:12]}" for name, x in tensors}
    if path.suffix not in READERS:
        return {"bytes": sha256(path.read_bytes()).hexdigest()[:12]}
    return READERS[path.suffix](path.read_text(encoding="utf-8"))


def value_differences(where: str, before: Values, after: Values) -> Iterator[Difference]:
    """Each field that is not the same, in type and value."""
    for field in dict.fromkeys([*before, *after]):
        old, new = (repr(side[field]) if field in side else "" for side in (before, after))
        if old != new:
            how = f"{old} → {new}" if old and new else f"only before: {old}" if old else f"only after: {new}"
            yield Difference(where, field, how)


def flat(value: Any, field: str = "") -> Values:
    """Nested values by their path: ``/ranks/layer.0``, ``/rows[2]/f1``; of lists their length, too."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        items = [(f"{field}/{key}", item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{field}/length", len(value)), *((f"{field}[{i}]", item) for i, item in enumerate(value))]
    return {key: leaf for name, item in items for key, leaf in flat(item, name).items()} if items else {field: value}


def markdown_values(text: str) -> Values:
    """Cells of tables by row and column, other lines by their number below the heading."""
    found = dict[str, Any]()
    heading, columns, row = "", list[str](), 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if not cells:
            heading, row = (line, 0) if line.startswith("#") else (heading, row + 1)
            columns, found[f"{heading}[{row}]"] = [], line
        elif not columns:
            columns, row = cells, 0
        elif not re.fullmatch(r"[-|: ]+", line):
            found |= {f"{heading} row[{row}] {column}": cell for column, cell in zip(columns, cells, strict=False)}
            row += 1
    return found


def yaml_values(text: str) -> Values:
    """Of a resolved recipe: block style, two spaces a level. autolora's own reader may be what has changed."""
    found, keys = dict[str, Any](), list[str]()
    for line in text.splitlines():
        depth, (key, _, value) = (len(line) - len(line.lstrip())) // 2, line.strip().partition(":")
        keys = [*keys[: depth + key.startswith("- ")], key]
        if value or key.startswith("- "):
            found["/".join(["", *keys])] = value.strip(" '\"")
    return found


# NaN becomes a word, as it is not equal to itself.
READERS: dict[str, Callable[[str], Values]] = {
    ".json": lambda text: flat(json.loads(text, parse_constant=str)),
    ".jsonl": lambda text: flat([json.loads(line, parse_constant=str) for line in text.split("\n") if line]),
    ".csv": lambda text: flat(list(csv.DictReader(text.splitlines()))),
    ".md": markdown_values,
    ".yaml": yaml_values,
}


if __name__ == "__main__":
    sys.exit(main())
