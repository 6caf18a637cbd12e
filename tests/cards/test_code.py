"""The code of a card, run as it stands and on the run's own evaluation split: it says what the run has said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolora.runs.results import read_result
from tests.cards.cases import STEPS, asked, ended, predictions, ran
from tests.chat_tokenizers import save_model

CASES = [
    ("classification", "BERT", "autolora"),
    ("classification", "GPT-2", "lora:2"),  # pads with its end of a text
    ("classification", "DistilBERT", "full"),
    ("classification", "BERT", "pfeiffer:4"),
    ("classification", "RoBERTa", "adalora:budget=rank=2"),
    ("pairs", "BERT", "bitfit"),
    ("pairs", "Llama 2", "pissa:2"),  # whose tokenizer writes no pairs
    ("regression", "DeBERTa-v2", "dora:2"),
    ("tagging", "RoBERTa", "lora:2"),
    ("tagging", "ModernBERT", "houlsby:4"),
    ("generation", "GPT-2", "prefix:2"),
    ("generation", "Llama 3", "rslora:2"),
    ("generation", "T5", "lora:2"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, which take as long as all the rest, and without waiting for the disk."""
    monkeypatch.setattr("autolora.methods.autolora._figures", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.parametrize(("family", "architecture", "method"), CASES)
def test_the_code_says_what_the_run_has_said(
    family: str, architecture: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"generation": {"beams": 2, "max_new_tokens": 5, "no_repeat_ngram": 2}} if family == "generation" else {}
    longer = {"retrain": {**STEPS, "steps": 12}} if "adalora" in method else {}  # for its schedule
    run, _ = ended(tmp_path, family, architecture, method, eval=how, **longer)
    records = read_result(run).predictions("validation")
    key = "prediction_name" if "prediction_name" in records[0] else "prediction"
    found = predictions(run.path / "adapter", asked(family), monkeypatch)
    wanted = [record[key] for record in records]
    assert found == (pytest.approx(wanted, abs=1e-5) if family == "regression" else wanted)
    assert len(predictions(run.path / "adapter", None, monkeypatch)) == 1


@pytest.mark.parametrize("template", [None, "chatml", "own.jinja"])
def test_the_code_answers_as_the_run_has(template: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", "gemma" if template != "chatml" else "qwen-2")
    own = (tmp_path / "model" / "chat_template.jinja").read_text()
    (tmp_path / "own.jinja").write_text("{# 'own' #}" + own + "\n")
    rows = [
        [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "ab" * (i % 3 + 1)}] for i in range(9)
    ]
    for split, part in {"train": rows, "validation": rows[:3]}.items():
        text = "".join(json.dumps({"messages": turns}) + "\n" for turns in part)
        (tmp_path / f"{split}.jsonl").write_text(text)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "task: chat\nmodel: {name: ./model, dtype: float32, target_modules: [q_proj, v_proj]}\n"
        f"data: {{path: ., max_length: 160{f', template: {template}' if template else ''}}}\n"
        "retrain: {steps: 3, batch_size: 4, weights: {learning_rate: 1e-2}}\n"
        "eval: {metrics: [rouge_l], batch_size: 2, generation: {max_new_tokens: 6, stop: ['b']}}\n"
    )
    run, _ = ran(recipe, tmp_path / "runs", "lora:2")
    wanted = [record["prediction"] for record in read_result(run).predictions("validation")]
    assert predictions(run.path / "adapter", [turns[:1] for turns in rows[:3]], monkeypatch) == wanted
    assert len(predictions(run.path / "adapter", None, monkeypatch)) == 1
