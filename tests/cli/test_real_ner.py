"""The shipped NCBI disease recipe on real text, shortened to what two cores do in a minute."""

from pathlib import Path

import pytest

from tests.cli.support import only_run, read, stage_states, succeed


@pytest.mark.slow
def test_ncbi_disease_shortened_finds_diseases(shared_data: Path, minilm: Path, tmp_path: Path) -> None:
    settings = {
        "search.steps": 2,
        "retrain.steps": 60,
        "retrain.batch_size": 16,
        "retrain.weights.learning_rate": "5e-3",
        "data.max_length": 48,
        "data.limits.eval": 200,
    }
    short = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = succeed("run", "ner-mini/ncbi_disease", "--data-root", shared_data, *short, cwd=tmp_path)
    run = only_run(tmp_path / "runs", "ner-mini/ncbi_disease")
    assert stage_states(run) == {"search": "success", "retrain": "success", "eval": "success"}
    rows = read(run / "metrics.json")
    assert [(row["type"], row["examples"]) for row in rows] == [("all", 200), ("Disease", 200)]
    assert rows[0]["f1"] > 0.2
    assert rows[0]["accuracy"] > 0.9
    assert rows[0]["cut-off words"] > 0  # 48 pieces are too few for the longest sentences
    assert f"{rows[0]['f1']:.4f}" in done.stdout
    before = {path: (run / path).read_bytes() for path in ("metrics.json", "predictions/test.jsonl")}
    succeed("eval", run, cwd=tmp_path)
    assert before == {path: (run / path).read_bytes() for path in before}
