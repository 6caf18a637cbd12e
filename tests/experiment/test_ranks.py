"""Other ranks off a finished search: those that the search itself would have given, and what they cost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import autolora
from autolora.allocation.store import load_evidence
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.evaluation.loss import mean_loss
from autolora.experiment import ranks as module
from autolora.experiment.ranks import FRACTIONS, other_ranks
from autolora.experiment.search import search
from autolora.lora.ranks import Ranks
from autolora.methods.autolora import AutoLora
from autolora.methods.base import method_of
from autolora.runs.store import Run
from tests.laboratory import change_state, of_an_earlier_version, tiny_run

LEARNS = tuple(
    f"{stage}.{what}" for stage in ("search", "retrain") for what in ("weights.learning_rate=1e-2", "steps=120")
)


def searched(laboratory: Path, output: Path, method: str, *overrides: str) -> Run:
    run, context = tiny_run(laboratory, output, method, *LEARNS, *overrides)
    search(run, context)
    return run


@pytest.fixture(scope="module")
def squeezed(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of squeeze's, to be read only."""
    return searched(laboratory, tmp_path_factory.mktemp("squeezed"), "squeeze:budget=0.5")


@pytest.fixture(scope="module")
def learned(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of AutoLoRA's, to be read only."""
    return searched(laboratory, tmp_path_factory.mktemp("learned"), "autolora")


def copied(run: Run, folder: Path) -> Run:
    """The same run elsewhere, with nothing measured."""
    path = Path(shutil.copytree(run.path, folder / run.path.name))
    (path / "search" / "rises.json").unlink(missing_ok=True)
    return Run.open(path)


def edited(run: Run, section: str, **values: object) -> Run:
    """The run with another recipe in it."""
    of_an_earlier_version(run.path)
    path = run.path / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe[section] |= values
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Run.open(run.path)


@pytest.mark.parametrize(
    ("method", "budget"),
    [("squeeze", {"fraction": 0.25}), ("squeeze", {"rank": 1}), ("squeeze-uniform", {"fraction": 0.25})],
)
def test_they_are_those_of_a_run_with_that_budget(
    squeezed: Run, laboratory: Path, tmp_path: Path, method: str, budget: Mapping[str, float]
) -> None:
    run = squeezed
    if method != "squeeze":
        run = edited(copied(squeezed, tmp_path), "method", name=method)
    ((kind, value),) = budget.items()
    direct = searched(laboratory, tmp_path, f"{method}:budget={kind}={value}")
    found = other_ranks(run, [budget]).asked[0]
    assert found.ranks == Ranks.load(direct.path / "search" / "ranks.json")
    assert found.ranks != Ranks.load(run.path / "search" / "ranks.json")
    assert found.budget == budget


def test_what_is_predicted_is_what_the_gates_say(squeezed: Run) -> None:
    found, gates = other_ranks(squeezed, [0.3]), load_evidence(squeezed.path / "search/evidence.safetensors").gates
    assert gates is not None
    assert found.score == "fisher"
    assert [each.budget for each in found.row] == [{"fraction": each} for each in FRACTIONS]
    for each in (*found.row, *found.asked, found.own):
        assert each.predicted_rise == gates.rise(each.ranks.kept)
        assert each.ranks.parameters <= (each.budget or {})["fraction"] * found.full
        assert found.predicted.count((each.ranks.parameters, each.predicted_rise)) == 1  # the line goes through it
    assert found.own.ranks == Ranks.load(squeezed.path / "search" / "ranks.json")
    assert found.own.budget == {"fraction": 0.5}
    assert found.row[-1].predicted_rise == 0
    assert found.row[0].predicted_rise > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("k", "row"), [(2, [1 / 16, 1 / 8, 1 / 4, 1 / 2]), (3, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4]), (6, FRACTIONS)]
)
def test_shares_are_of_the_recipes_rank_whatever_the_training_began_with(
    laboratory: Path, tmp_path: Path, k: int, row: list[float]
) -> None:
    run = searched(laboratory, tmp_path, f"squeeze:k={k}:budget=rank=1", "retrain.steps=8", "search.steps=8")
    assert run.recipe.search.rank == 4
    found = other_ranks(run, [{"rank": 1}])
    assert [each.budget for each in found.row] == [{"fraction": each} for each in row]
    sizes = [each.ranks.parameters for each in found.row]
    assert sizes == sorted(set(sizes)), "a row that says the same twice"
    assert sizes[-1] == min(k, 4) * found.full // 4
    assert found.asked[0].ranks.parameters == found.full // 4 == found.own.ranks.parameters
    assert found.predicted[-1][0] == k * found.full // 4


def loss_at(run: Run, ranks: Ranks | None) -> float:
    """Of the model that is cut down to these ranks, on the rows that the run measures on; None: without LoRA."""
    context = Context(run.recipe, show=False)
    method = method_of(run)
    assert isinstance(method, AutoLora)
    model, evidence = context.model(), load_evidence(run.path / "search" / "evidence.safetensors")
    whole = Ranks.load(run.path / "search" / "ranks.json") if ranks is None else ranks
    adapted, _ = method.filled(whole, model, context, evidence)
    if ranks is None:
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data.zero_()

    def collate(examples: object) -> object:
        return context.task.collate(examples, tokenizer=context.tokenizer)  # type: ignore[arg-type]

    examples = method.measured(context)
    return mean_loss(adapted, context.task, examples, collate, batch_size=64, compute=context.compute)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["squeezed", "learned"])
def test_what_is_measured_is_the_loss_of_the_model_that_is_cut_down(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = copied(request.getfixturevalue(kind), tmp_path)
    found = other_ranks(run, [0.25], measure=True)
    full = loss_at(run, found.row[-1].ranks)
    assert found.loss == pytest.approx(full, abs=1e-6)
    assert found.gain == pytest.approx(loss_at(run, None) - full, abs=1e-6)
    assert found.gain > 0.05  # type: ignore[operator]
    for each in (*found.row, *found.asked, found.own):
        assert each.measured_rise == pytest.approx(loss_at(run, each.ranks) - full, abs=1e-6)
    assert found.examples == (60 if kind == "squeezed" else 30)


def test_what_was_measured_is_kept_and_takes_no_model_again(
    squeezed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(squeezed, tmp_path)
    before = other_ranks(run, [0.25])
    assert {each.measured_rise for each in (*before.row, *before.asked, before.own)} == {None}
    assert (before.gain, before.loss, before.examples) == (None, None, None)
    assert not (run.path / "search" / "rises.json").exists()
    first = other_ranks(run, [0.25, {"tolerance": 0.3}], measure=True)
    monkeypatch.setattr(module, "Context", lambda *given, **more: pytest.fail("the data was loaded again"))
    for measure in (True, False):
        assert other_ranks(run, [0.25, {"tolerance": 0.3}], measure=measure) == first
    path = run.path / "search" / "rises.json"
    change_state(path, identity="another search")
    assert other_ranks(run, [0.25]) == before


def test_a_tolerance_is_found_by_measuring(squeezed: Run, tmp_path: Path) -> None:
    run = copied(squeezed, tmp_path)
    with pytest.raises(UserError, match=r"has not been measured there yet.*--measure, or measure=True"):
        other_ranks(run, [{"tolerance": 0.3}])
    found = other_ranks(run, [{"tolerance": 0.3}], measure=True)
    asked = found.asked[0]
    assert asked.measured_rise <= 0.3 * found.gain  # type: ignore[operator]
    assert asked.ranks.rule["measured_rise"] == asked.measured_rise
    assert 0 < asked.ranks.parameters < found.full


def test_a_rise_of_pairs_is_not_predicted_and_the_runs_own_ranks_stay_pairs(learned: Run, tmp_path: Path) -> None:
    run = copied(learned, tmp_path)
    found = other_ranks(run, [0.25])
    assert found.score == "saliency"
    assert found.predicted == ()
    assert {each.predicted_rise for each in (*found.row, found.own)} == {None}
    assert found.remarks == ("saliency values pairs of columns, for which no rise of the loss is predicted.",)
    assert found.own.ranks == Ranks.load(run.path / "search" / "ranks.json")
    assert found.own.budget is None
    pairs = other_ranks(run, measure=True)
    singular = other_ranks(run, score="spectrum", measure=True)
    assert singular.own == pairs.own  # whatever the others are chosen by
    assert singular.row[2].ranks.kept != pairs.row[2].ranks.kept
    assert singular.gain == pytest.approx(pairs.gain, abs=1e-6)


def test_another_score_chooses_others(squeezed: Run) -> None:
    fisher, spectrum = (other_ranks(squeezed, [0.3], score=score) for score in (None, "spectrum"))
    assert spectrum.asked[0].ranks.rule["score"] == "spectrum"
    assert spectrum.asked[0].predicted_rise is not None
    assert fisher.own == spectrum.own


@pytest.mark.parametrize(
    ("score", "budget", "message"),
    [
        ("fishr", 0.5, r"there is no score 'fishr'; did you mean 'fisher'"),
        ("fisher", 0.5, r"needs derivatives to the components' gates, .* has: saliency, spectrum$"),
        ("selection", 0.5, r"selection variables of different layers cannot be compared, .* has: saliency, spectrum$"),
        (None, 0.001, r"the budget \(fraction 0\.001\) is smaller than one component of any layer"),
        (None, 2.0, r"budget fraction: must be a number above 0 and up to 1, got 2\.0"),
        (None, {"size": 2}, r"a budget is one of fraction, parameters, rank, tolerance, got 'size'"),
    ],
)
def test_scores_and_budgets_that_there_are_not(
    learned: Run, score: str | None, budget: float | Mapping[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        other_ranks(learned, [budget], score=score)


def test_runs_without_evidence_are_refused(learned: Run, laboratory: Path, tmp_path: Path) -> None:
    uniform, _ = tiny_run(laboratory, tmp_path, "lora:4")
    with pytest.raises(UserError, match=r"no search to read other ranks off: lora:4 values no .*autolora, .*squeeze"):
        other_ranks(uniform)
    begun, _ = tiny_run(laboratory, tmp_path, "squeeze:budget=0.5")
    with pytest.raises(UserError, match=r"no finished search .*; run: autolora search .* --resume$"):
        other_ranks(begun.path)
    older = copied(learned, tmp_path)
    (older.path / "search" / "evidence.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no evidence\.safetensors, .*an earlier version of autolora made"):
        other_ranks(older)


def test_other_settings_or_data_are_not_measured_on(squeezed: Run, laboratory: Path, tmp_path: Path) -> None:
    run = edited(copied(squeezed, tmp_path), "ranks", examples=20)
    with pytest.raises(UserError, match=r"holds no search of these settings, data and model"):
        other_ranks(run, measure=True, data_root=laboratory, model=str(laboratory / "model"))
    other = tmp_path / "root"
    shutil.copytree(laboratory / "data", other / "data")
    rows = (other / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (other / "data" / "train.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    whole = copied(squeezed, tmp_path / "whole")
    with pytest.raises(UserError, match=r"holds no search of these settings, data and model"):
        other_ranks(whole, measure=True, data_root=other)
    assert not (whole.path / "search" / "rises.json").exists()


def test_a_model_that_gained_nothing_has_no_shares(squeezed: Run, tmp_path: Path) -> None:
    run = copied(squeezed, tmp_path)
    other_ranks(run, measure=True)
    path = run.path / "search" / "rises.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change_state(path, rises={key: -abs(rise) for key, rise in content["rises"].items()})
    found = other_ranks(run, measure=True)
    assert found.gain is None
    assert "without its LoRA the model's loss is no higher" in found.remarks[0]


def test_it_is_offered_by_the_package(squeezed: Run) -> None:
    assert autolora.other_ranks is other_ranks
    found = autolora.other_ranks(str(squeezed.path), [0.25])
    assert replace(found, run=squeezed.path) == other_ranks(squeezed, [0.25])
