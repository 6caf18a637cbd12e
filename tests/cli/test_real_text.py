"""The shipped recipes on real text, shortened to what two cores do in a minute."""

from pathlib import Path

import pytest

from tests.cli.support import only_run, read, served, settings, stage_states, succeed


def test_mrpc_shortened_ends_in_success_with_ranks_adapter_and_table(
    shared_data: Path, minilm: Path, tmp_path: Path
) -> None:
    batches = {"search__batch_size": 8, "retrain__batch_size": 8}
    short = settings(search__steps=2, retrain__steps=2, data__limits__train=48, data__limits__eval=20, **batches)
    done = succeed("run", "glue-mini/mrpc", "--data-root", shared_data, *short, cwd=tmp_path, by=served)
    run = only_run(tmp_path / "runs", "glue-mini/mrpc")
    assert stage_states(run) == {"search": "success", "retrain": "success", "eval": "success"}
    found = read(run / "search" / "ranks.json")
    assert len(found["ranks"]) == 12
    assert sum(found["ranks"].values()) > 0
    (row,) = read(run / "metrics.json")
    assert (row["split"], row["examples"], row["total rank"]) == ("validation", 20, sum(found["ranks"].values()))
    assert 0 < row["accuracy"] <= 1
    table = (run / "metrics.md").read_text(encoding="utf-8")
    assert f"{row['accuracy']:.4f}" in table
    assert f"{row['accuracy']:.4f}" in done.stdout
    assert (run / "search" / "ranks.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "search" / "selection.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_stsb_shortened_learns_similarity(shared_data: Path, minilm: Path, tmp_path: Path) -> None:
    # The pooler starts from nothing: 50 steps say nothing yet, 200 gave 0.75 (whole recipe: 0.81).
    short = settings(
        search__steps=3,
        retrain__steps=170,
        retrain__batch_size=16,
        retrain__weights__learning_rate=3e-3,
        data__limits__eval=300,
    )
    succeed("run", "glue-mini/stsb", "--data-root", shared_data, *short, cwd=tmp_path)
    run = only_run(tmp_path / "runs", "glue-mini/stsb")
    (row,) = read(run / "metrics.json")
    assert row["examples"] == 300
    assert row["pearson"] > 0.5
