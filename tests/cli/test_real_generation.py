"""The shipped E2E recipe on real text with a real decoder, shortened to what two cores do in a minute."""

import json
from pathlib import Path

import pytest

from tests.cli.support import only_run, read, settings, stage_states, succeed


@pytest.mark.slow
def test_e2e_shortened_ends_in_success_with_ranks_adapter_and_table(
    shared_data: Path, smollm2: Path, tmp_path: Path
) -> None:
    short = settings(
        search__steps=2,
        search__batch_size=2,
        retrain__steps=12,
        retrain__batch_size=4,
        retrain__log_every=1,
        retrain__weights__learning_rate=2e-3,
        data__limits__train=64,
        data__limits__eval=16,
        eval__generation__max_new_tokens=24,
        eval__metrics="[bleu, chrf]",
    )
    succeed("run", "nlg-mini/e2e", "--data-root", shared_data, *short, cwd=tmp_path)
    run = only_run(tmp_path / "runs", "nlg-mini/e2e")
    assert stage_states(run) == {"search": "success", "retrain": "success", "eval": "success"}
    found = read(run / "search" / "ranks.json")
    assert len(found["ranks"]) == 60
    assert read(run / "adapter" / "adapter_config.json")["modules_to_save"] is None
    losses = [json.loads(line)["train_loss"] for line in (run / "retrain" / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-3:]) < sum(losses[:3]) - 1.0, losses
    (row,) = read(run / "metrics.json")
    lines = (run / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert row["examples"] == len(lines)
    assert row["chrf++"] > 0.1
    assert not list((run / "predictions").glob(".*"))  # what was kept for going on is gone
