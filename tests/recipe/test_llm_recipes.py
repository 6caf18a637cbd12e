"""The shipped recipes for language models, from end to end on a tiny Llama with ten local examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import autolora
from tests.chat_tokenizers import save_model
from tests.own_data import text_of

QUERIES = [
    {
        "query": f"Ann has {i} pears and buys {i + 1}. How many?",
        "response": f"{i} + {i + 1}. The answer is: {2 * i + 1}",
    }
    for i in range(10)
]
QUESTIONS = [
    {"question": f"Ben has {i} figs and eats one. How many?", "answer": f"{i} - 1\n#### {i - 1}"} for i in range(2, 6)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), "llama-3")


def test_metamath_is_trained_on_one_data_set_and_scored_on_the_other(tmp_path: Path, model: Path) -> None:
    for name, rows in (("metamath/train", QUERIES), ("gsm8k/test", QUESTIONS)):
        (path := tmp_path / "data" / f"{name}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(rows))
    result = autolora.run(
        "llm/metamath",
        retrain__steps=4,
        ranks__examples=8,
        search__rank=4,
        data__max_length=400,
        eval__generation__max_new_tokens=4,
        data_root=tmp_path / "data",
        model=str(model),
        output=tmp_path / "runs",
    )
    assert [score.name for score in result.scores] == ["last_number"]
    records = [json.loads(line) for line in (result.run / "predictions" / "test.jsonl").read_text().splitlines()]
    assert [record["references"] for record in records] == [[row["answer"]] for row in QUESTIONS]
    assert 0 < sum(result.ranks.values()) <= 2 * 4  # half of rank 4 on two of two layers' query and value
