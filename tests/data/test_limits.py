"""A limit of an evaluation split counts examples, each with all its rows; on real data, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolora.evaluation.external import score_file
from autolora.metrics.bleu import bleu
from autolora.recipe.load import read_recipe
from autolora.recipe.shipped import find_task
from tests.methods.support import write_generation_laboratory
from tests.own_data import context, write


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return write_generation_laboratory(tmp_path / "decoder", "gpt2")


def test_every_example_of_a_limited_split_keeps_its_references(tmp_path: Path, decoder: Path) -> None:
    rows = [{"text": f"the {i % 7}", "label": f"reference {i}"} for i in range(40)]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    whole = context(write(tmp_path, decoder, files, "generation"))
    limited = context(write(tmp_path, decoder, files, "generation", limits={"eval": 3}))
    everything = {example["input"]: example for example in whole.task.grouped(whole.splits["validation"])}
    few = limited.task.grouped(limited.splits["validation"])
    assert len(everything) == 7
    assert len(few) == 3
    assert all(example["references"] == everything[example["input"]]["references"] for example in few)


def test_a_limit_beyond_the_examples_leaves_the_rows_as_they_are(tmp_path: Path, decoder: Path) -> None:
    rows = [{"text": f"the {i % 7}", "label": f"reference {i}"} for i in range(40)]
    made = write(tmp_path, decoder, {"train.jsonl": rows, "validation.jsonl": rows}, "generation", limits={"eval": 7})
    assert context(made).splits["validation"]["label"][:] == [row["label"] for row in rows]


def test_a_limit_of_the_real_e2e_test_set_scores_tgen_against_all_references(shared_data: Path) -> None:
    recipe = read_recipe(find_task("e2e"), ["data.limits.eval=200", "eval.metrics=[bleu]"], data_root=shared_data)
    (row,), records = score_file(recipe, shared_data / "e2e_challenge" / "tgen.tsv")
    assert row["examples"] == len(records) == 200
    references: dict[str, list[str]] = {}
    for line in (shared_data / "e2e" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        references.setdefault(found["meaning_representation"], []).append(found["human_reference"])
    outputs = [record["prediction"] for record in records]
    whole = [references[record["input"]] for record in records]
    assert [sorted(record["references"]) for record in records] == [sorted(texts) for texts in whole]
    assert row["bleu"] == bleu(outputs, whole)["bleu"]
    assert row["bleu"] > 0.6
