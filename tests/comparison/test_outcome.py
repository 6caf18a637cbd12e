"""All tables of a comparison together, and their files."""

import json
from pathlib import Path

import pytest

from autolora.comparison.estimate import in_words
from autolora.comparison.outcome import default_baseline, outcome, write_outcome
from autolora.errors import UserError
from tests.comparison.support import cell

METHODS = ("autolora", "lora:4", "lora-matched")
RESULTS = [
    cell(recipe=recipe, method=method, seed=seed, score=0.5 + 0.01 * seed + 0.02 * place)
    for recipe in ("glue/cola", "glue/rte")
    for place, method in enumerate(METHODS)
    for seed in (0, 1, 2)
]


@pytest.mark.parametrize(
    ("methods", "baseline"),
    [
        (["autolora", "lora:8", "lora:4", "lora-matched"], "lora-matched"),
        (["autolora", "svd", "lora:8", "lora:4"], "lora:8"),
        (["autolora", "svd", "full"], "svd"),
        (["squeeze:k=2:budget=rank=1", "lora:8", "lora-matched:budget=rank=1"], "lora-matched:budget=rank=1"),
        (["lora:8", "lora-matched:budget=rank=2", "lora-matched:budget=rank=1"], "lora-matched:budget=rank=2"),
        (["squeeze:budget=parameters=9216", "autolora", "lora:8:learning_rate=0.001"], "lora:8:learning_rate=0.001"),
        (["autolora", "squeeze:budget=rank=1", "squeeze-uniform:budget=rank=1"], "squeeze-uniform:budget=rank=1"),
        (["squeeze:budget=rank=1", "autolora:budget=rank=1"], "autolora:budget=rank=1"),
        (["squeeze:budget=rank=2", "squeeze:budget=rank=1"], "squeeze:budget=rank=2"),
        (["autolora"], None),
        (["lora-matched:budget=rank=1"], None),
        ([], None),
    ],
)
def test_methods_are_compared_with_the_budgets_match_or_a_uniform_lora(
    methods: list[str], baseline: str | None
) -> None:
    assert default_baseline(methods) == baseline


def test_what_depends_on_the_machine_is_in_the_costs_only() -> None:
    tables = {table.stem: table for table in outcome(RESULTS)}
    assert list(tables) == ["by_task", "scores", "differences", "costs"]
    timed = {"search s", "retrain s", "total s", "memory MiB"}
    assert timed <= set(tables["costs"].rows[0])
    for stem in ("by_task", "scores", "differences"):
        assert all(timed.isdisjoint(row) for row in tables[stem].rows)
    assert {row["baseline"] for row in tables["differences"].rows} == {"lora-matched"}


def test_published_figures_are_shown_only_when_asked_for_and_marked() -> None:
    assert "published" not in {table.stem for table in outcome(RESULTS)}
    (table,) = [table for table in outcome(RESULTS, published=True) if table.stem == "published"]
    assert table.rows
    assert all(str(row["method"]).endswith("(published)") and row["source"] for row in table.rows)


def test_every_table_has_its_files_and_an_earlier_times_failures_go(tmp_path: Path) -> None:
    failed = [cell(recipe="glue/cola", method="svd", seed=0, score=None, state="failed", reason="boom")]
    results = [*RESULTS, *failed]
    write_outcome(outcome(results), results, tmp_path)
    assert "boom" in (tmp_path / "failures.md").read_text()
    written = write_outcome(outcome(RESULTS), RESULTS, tmp_path)
    assert not list(tmp_path.glob("failures.*"))
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    whole = (tmp_path / "comparison.md").read_text()
    assert "## Scores" in whole
    assert "memory" not in whole
    assert len(json.loads((tmp_path / "trials.json").read_text())) == len(RESULTS)
    before = {path: path.read_bytes() for path in written}
    write_outcome(outcome(RESULTS), RESULTS, tmp_path)
    assert {path: path.read_bytes() for path in written} == before


def test_differences_of_an_earlier_time_go_where_there_are_none_now(tmp_path: Path) -> None:
    write_outcome(outcome(RESULTS), RESULTS, tmp_path)
    assert len(list(tmp_path.glob("differences.*"))) == 3
    alone = [result for result in RESULTS if result.method == "autolora"]
    written = write_outcome(outcome(alone), alone, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("lora:4:learning_rate=3e-4", "lora:4:learning_rate=0.0003"),
        ("squeeze:8", "squeeze:k=8"),
        ("squeeze:budget=0.25", "squeeze:budget=fraction=0.25"),
        ("lora:4 search.rank=8", "lora:4 search.rank=8"),  # an arm of a sweep
    ],
)
def test_a_baseline_may_be_spelt_as_the_methods_were(said: str, known: str) -> None:
    results = [cell("rte", method, seed, 0.5 + seed / 10) for method in ("autolora", known) for seed in (0, 1)]
    (table,) = [table for table in outcome(results, said) if table.stem == "differences"]
    assert [(row["method"], row["baseline"]) for row in table.rows] == [("autolora", known)]


def test_a_baseline_that_is_not_compared_is_refused() -> None:
    with pytest.raises(UserError, match="there is no 'lora:16'"):
        outcome(RESULTS, "lora:16")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3569, "59 min"), (7500, "2 h 05 min")]
)
def test_times_are_said_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
