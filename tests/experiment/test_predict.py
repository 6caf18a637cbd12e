"""Predictions for new rows: those of the evaluation, for every family, a chunk at a time, up to a bad row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import autolora
from autolora.context.base import Context
from autolora.data.reading.records import Record
from autolora.experiment.line import run_stages
from autolora.experiment.predict import BATCHES, Predictor
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.chat_tokenizers import save_model
from tests.laboratory import change_state, tiny_run
from tests.model.folders import write_model
from tests.model.recipes import write_recipe

FAMILIES = ("classification", "pairs", "regression", "tagging", "generation", "encoder-decoder", "chat")
CHAT = """\
task: chat
model: {name: ./model, dtype: float32, target_modules: [q_proj, v_proj]}
data: {path: data, max_length: 160}
retrain: {steps: 3, batch_size: 4}
eval: {metrics: [rouge_l], batch_size: 3, generation: {max_new_tokens: 5}}
"""


def write_family(folder: Path, family: str) -> Path:
    """A recipe of a family over a tiny model."""
    if family == "chat":
        save_model(folder / "model", "gemma")
        (folder / "data").mkdir()
        for split, count in {"train": 8, "validation": 5}.items():
            rows = []
            for i in range(count):
                turns = [{"role": "user", "content": f"{split} {i}?"}, {"role": "assistant", "content": "ab" * (i + 1)}]
                more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "c"}]
                rows.append({"messages": [*turns, *(more * (i % 2))]})
            (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "recipe.yaml").write_text(CHAT)
        return folder / "recipe.yaml"
    if family == "encoder-decoder":
        model = write_model(folder / "model", "t5", "AutoModelForSeq2SeqLM", eos=True)
        return write_recipe(folder, "generation", model, model={"target_modules": ["q", "wo"]})
    if family == "generation":
        return write_recipe(folder, family, write_model(folder / "model", "gpt2", "AutoModelForCausalLM", eos=True))
    return write_recipe(folder, family, write_model(folder / "model", "bert", "AutoModel", pair=True))


def trained(recipe: Path, output: Path, method: str = "lora:2", *overrides: str) -> Run:
    loaded = load_recipe(recipe, overrides, seed=3)
    named = parse_method(method)
    named = named.model_copy(update={"budget": loaded.method.budget}) if loaded.method.budget.given else named
    run = Run.create(output, loaded.model_copy(update={"method": named}))
    run_stages(run, Context(run.recipe, show=False))
    return run


def rows_of(run: Run, split: str = "validation") -> list[dict[str, Any]]:
    assert run.recipe.data.root is not None
    file = Path(run.recipe.data.root) / str(run.recipe.data.path) / f"{split}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """A finished run of every family, made when it is first asked for."""

    class Made(dict[str, Run]):
        def __missing__(self, family: str) -> Run:
            folder = tmp_path_factory.mktemp(family)
            self[family] = trained(write_family(folder, family), folder / "runs")
            return self[family]

    return Made()


def inputs(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its label."""
    return {name: row[name] for name in run.recipe.data.columns}


def key(row: Mapping[str, Any]) -> str:
    """What the evaluation makes one example of."""
    if "messages" in row:
        turns = row["messages"][:-1] if row["messages"][-1]["role"] == "assistant" else row["messages"]
        return json.dumps([[turn["role"], turn["content"]] for turn in turns])
    return str(row["input"])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_get_the_evaluations_predictions(runs: Mapping[str, Run], family: str) -> None:
    run = runs[family]
    rows, evaluated = rows_of(run), read_result(run).predictions("validation")
    answers = list(autolora.predict(run.path, rows, scores=family in ("classification", "pairs")))
    assert len(answers) == len(rows) > 3
    if family in ("classification", "pairs"):
        assert [a["prediction"] for a in answers] == [e["prediction_name"] for e in evaluated]
        for answer, record in zip(answers, evaluated, strict=True):
            (a, b), (p, q) = record["logits"], answer["scores"].values()
            assert list(answer["scores"]) == ["a", "b"]
            assert p / q == pytest.approx(2.718281828459045 ** (a - b), rel=1e-9)
            assert p + q == pytest.approx(1)
    elif family in ("regression", "tagging"):
        assert [a["prediction"] for a in answers] == [e["prediction"] for e in evaluated]
    else:  # an example of the evaluation is an input, which several rows may have
        said = {
            (str(e["input"]) if family != "chat" else json.dumps([[t["role"], t["content"]] for t in e["input"]])): e
            for e in evaluated
        }
        assert [a["prediction"] for a in answers] == [said[key(row)]["prediction"] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_not_asked_for_and_one_row_is_answered_as_among_others(runs: Mapping[str, Run], family: str) -> None:
    run = runs[family]
    rows = rows_of(run)
    together = list(autolora.predict(run.path, rows))
    bare = [inputs(run, row) for row in rows]
    if family == "chat":
        bare = [{"messages": json.loads(json.dumps(row["messages"][:-1]))} for row in bare]
    predictor = Predictor(run, show=False)
    predictor.load()
    alone = [answer for _, answer in predictor.answers([Record("a row", row)] for row in bare)]
    if family == "regression":
        assert [a["prediction"] for a in alone] == pytest.approx([t["prediction"] for t in together], rel=1e-5)
    else:
        assert alone == together


def test_entities_are_named_by_type_and_words(runs: Mapping[str, Run]) -> None:
    run = runs["tagging"]
    for row, answer in zip(rows_of(run), autolora.predict(run.path, rows_of(run)), strict=True):
        assert len(answer["prediction"]) == len(row["tokens"])
        marked = [tag != "O" for tag in answer["prediction"]]
        covered = [any(e["start"] <= i < e["end"] for e in answer["entities"]) for i in range(len(marked))]
        assert marked == covered
        assert all(e["text"] == " ".join(row["tokens"][e["start"] : e["end"]]) for e in answer["entities"])


@pytest.mark.parametrize("method", ["squeeze:k=4:budget=0.5", "houlsby:4", "full", "adalora"])
def test_models_of_every_method_answer(laboratory: Path, tmp_path: Path, method: str) -> None:
    change = ("method.budget={rank: 1}",) if method == "adalora" else ()
    run = trained(laboratory / "tiny.yaml", tmp_path, method, "retrain.steps=4", "ranks.examples=8", *change)
    evaluated = read_result(run).predictions("validation")
    answers = list(autolora.predict(read_result(run), rows_of(run), scores=True))
    assert [a["prediction"] for a in answers] == [e["prediction_name"] for e in evaluated]


def test_a_prefix_answers_and_its_positions_count(tmp_path: Path) -> None:
    run = trained(write_family(tmp_path, "generation"), tmp_path / "runs", "prefix:3")
    said = {str(e["input"]): e["prediction"] for e in read_result(run).predictions("validation")}
    rows = rows_of(run)
    assert [a["prediction"] for a in autolora.predict(run.path, rows)] == [said[row["input"]] for row in rows]


def test_rows_are_taken_a_chunk_at_a_time(runs: Mapping[str, Run]) -> None:
    run, taken = runs["classification"], 0
    chunk = BATCHES * run.recipe.eval.batch_size

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield {"sentence": "a b"}

    answers = autolora.predict(run.path, rows())
    for i in range(2 * chunk + 1):
        assert next(answers)["prediction"] in ("a", "b")
        assert taken == chunk * (i // chunk + 1)


def test_a_bad_row_is_said_after_the_answers_before_it(runs: Mapping[str, Run]) -> None:
    given = [{"sentence": "a"}, {"sentence": "b"}, {"sentence": None}, {"sentence": "c"}]
    answers = autolora.predict(runs["classification"].path, given)
    assert len([next(answers), next(answers)]) == 2
    with pytest.raises(autolora.UserError, match=r"^row 3: 'sentence' is missing; fill it in, or leave the row out$"):
        next(answers)
    with pytest.raises(autolora.UserError, match="no column 'sentence' in row 1; it has: sentense; did you mean"):
        next(autolora.predict(runs["classification"].path, [{"sentense": "a"}]))


def test_a_row_that_is_too_long_is_said_with_its_place(runs: Mapping[str, Run]) -> None:
    rows = [{"input": "a"}, {"input": "a b"}, {"input": "a " * 40}]
    answers = autolora.predict(runs["generation"].path, rows)
    assert len([next(answers), next(answers)]) == 2
    with pytest.raises(autolora.UserError, match=r"^row 3: the input 'a a a.* has 41 tokens, which leaves none"):
        next(answers)


def test_the_runs_data_need_not_be_there(tmp_path: Path) -> None:
    run = trained(write_family(tmp_path, "classification"), tmp_path / "runs")
    rows, before = rows_of(run), sorted(path.stat().st_mtime_ns for path in run.path.rglob("*"))
    shutil.rmtree(tmp_path / "data")
    evaluated = read_result(run).predictions("validation")
    assert [a["prediction"] for a in autolora.predict(run.path, rows)] == [e["prediction_name"] for e in evaluated]
    assert sorted(path.stat().st_mtime_ns for path in run.path.rglob("*")) == before  # nothing is written into it


def test_runs_without_a_trained_model_are_refused_as_by_eval(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    with pytest.raises(autolora.UserError, match="has no adapter yet; run: autolora retrain"):
        autolora.predict(run.path, [])
    run_stages(run, context)
    assert list(autolora.predict(run.path, [])) == []
    stages = run.status()["stages"]
    change_state(run.path / "status.json", stages={**stages, "retrain": {"state": "cancelled"}})
    with pytest.raises(autolora.UserError, match="its training is not finished"):
        autolora.predict(run.path, [])
    change_state(run.path / "status.json", stages=stages)
    weights = run.path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(autolora.UserError, match="is not what was written"):
        autolora.predict(run.path, [])
    with pytest.raises(autolora.UserError, match="is not a run"):
        autolora.predict(tmp_path / "nowhere", [])


def test_scores_are_of_classes(runs: Mapping[str, Run]) -> None:
    with pytest.raises(autolora.UserError, match="scores are probabilities of classes, and the task regression has"):
        autolora.predict(runs["regression"].path, [], scores=True)


def test_another_model_than_the_runs_is_refused(runs: Mapping[str, Run], tmp_path: Path) -> None:
    other = write_model(tmp_path / "model", "roberta", "AutoModel", pair=True)
    with pytest.raises(autolora.UserError, match="was begun on another model"):
        autolora.predict(runs["classification"].path, [], model=str(other))
