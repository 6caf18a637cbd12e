"""The ablations are AutoLoRA with exactly those settings of the search changed that they are named after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autolora.experiment.line import search
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_of
from tests.laboratory import tiny_run
from tests.methods.linked import spent

# Not the defaults, so that whatever an ablation resets shows.
SETTINGS = ("search.steps=4", "search.threshold=0.3", "search.estimator=forward_difference", "search.epsilon=0.02")
CHANGES: dict[str, dict[str, Any]] = {
    "autolora": {},
    "no-constraint": {"constraint": "none", "threshold": None},
    "sigmoid": {"constraint": "sigmoid", "threshold": None},
    "no-meta": {"meta_learning": False},
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_these_settings_and_no_others(laboratory: Path, tmp_path: Path, name: str) -> None:
    run, _ = tiny_run(laboratory, tmp_path, name, *SETTINGS)
    before = run.recipe.search.model_dump()
    after = method_of(run).recipe.search.model_dump()
    assert {key: value for key, value in after.items() if value != before[key]} == CHANGES[name]


@pytest.mark.parametrize("name", CHANGES)
def test_the_ranks_say_how_they_were_found(laboratory: Path, tmp_path: Path, name: str) -> None:
    run, context = tiny_run(laboratory, tmp_path, name, *SETTINGS)
    ranks = search(run, context)
    assert Ranks.load(run.path / "search" / "ranks.json") == ranks
    rule = ranks.rule
    settings = {"constraint": "softmax", "threshold": 0.3} | CHANGES[name]
    assert (rule["constraint"], rule["threshold"]) == (settings["constraint"], settings["threshold"])
    for values in rule["selection"].values():
        if rule["constraint"] == "softmax":
            assert sum(values) == pytest.approx(1)
        else:  # they begin at 0.5, or at 1/k, and nothing holds their sum
            start = 0.5 if name == "sigmoid" else 0.25
            assert 0 < max(abs(value - start) for value in values) < 0.1


@pytest.mark.parametrize(("name", "passes"), [("autolora", 3), ("no-meta", 1)])
def test_without_meta_learning_a_step_is_one_pass_over_all_of_the_data(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, passes: int
) -> None:
    run, context = tiny_run(laboratory, tmp_path, name, *SETTINGS)
    counts, stream = dict[str, int](), context.stream

    def spied(examples: Any, settings: Any, label: str, *more: Any) -> Any:
        counts[label] = len(examples)
        return stream(examples, settings, label, *more)

    monkeypatch.setattr(context, "stream", spied)
    search(run, context)
    whole = name == "no-meta"
    assert counts == {"train": 60 if whole else 30, "validation": 60 if whole else 30}
    assert spent(run, "search")["forward_passes"] == spent(run, "search")["backward_passes"] == 4 * passes


def test_every_ablation_finds_selection_variables_of_its_own(laboratory: Path, tmp_path: Path) -> None:
    found = [str(search(*tiny_run(laboratory, tmp_path, name, *SETTINGS)).rule["selection"]) for name in CHANGES]
    assert len(set(found)) == len(CHANGES)
