"""Sweeps: which trials there are, what the tables say, and which point is chosen, from results that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolora.comparison.arms import CAUTION, Arms, read_arms
from autolora.comparison.asked import Asked
from autolora.comparison.compare import comparison_folder
from autolora.comparison.keys import trial_key
from autolora.comparison.outcome import outcome, write_outcome
from autolora.comparison.plan import plan
from autolora.comparison.precision import settle, settled
from autolora.comparison.select import Selected
from autolora.comparison.sweep import Leg, arms_of, legs_of
from autolora.errors import RecipeError, UserError
from autolora.experiment.preflight import load_recipe
from autolora.plots.figures import styles
from autolora.plots.sweep import SweepLine, save_png
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.sweeping import Point, parse_sweep
from autolora.recipe.tuning import RateRange, parse_tune
from autolora.report.document import write_report
from tests.comparison.support import cell

LORA = parse_method("lora:2")


def legs(laboratory: Path, *texts: str) -> list[Leg]:
    def read(point: Point) -> list[Recipe]:
        return [load_recipe(laboratory / "tiny.yaml", point.overrides)]

    return legs_of(parse_sweep(texts), read)


def asked(laboratory: Path, root: Path, methods: str, *texts: str, **more: object) -> Asked:
    recipes = [load_recipe(laboratory / "tiny.yaml")]
    return Asked(recipes, parse_methods(methods), [0, 1], root, swept=tuple(legs(laboratory, *texts)), **more)  # type: ignore[arg-type]


def test_a_leg_has_its_settings_and_says_whose_own_they_are(laboratory: Path) -> None:
    found = legs(laboratory, "search.rank=2,4", "retrain.steps=30")
    assert [leg.recipes[0].search.rank for leg in found] == [2, 4]
    assert [leg.own for leg in found] == [(), ("tiny",)]


def test_faults_of_all_points_are_raised_together_under_the_sweep(laboratory: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        legs(laboratory, "search.rank=2,0,x", "retrain.steps=-1,5")
    assert sorted(fault.where for fault in caught.value.faults) == [
        "--sweep retrain.steps=-1",
        "--sweep search.rank=0",
        "--sweep search.rank=x",
    ]


def test_two_points_of_one_experiment_are_refused(laboratory: Path) -> None:
    with pytest.raises(UserError, match="are the same experiment of tiny; leave one out"):
        legs(laboratory, "data.splits.train=train,[train]")


def test_what_a_baseline_is_called_in_the_plan_is_what_the_user_writes(laboratory: Path, tmp_path: Path) -> None:
    recipes = [load_recipe(laboratory / "tiny.yaml")]
    question = Asked(recipes, parse_methods("lora:2:learning_rate=3e-4,lora:4"), [0], tmp_path)
    assert len(question.checked_plan("lora:2:learning_rate=3e-4", "t")) == 2
    with pytest.raises(UserError, match="'lora:3' is not one of the methods compared"):
        question.checked_plan("lora:3", "t")


def test_the_recipes_own_point_is_the_trial_that_it_has_alone(laboratory: Path, tmp_path: Path) -> None:
    trials = asked(laboratory, tmp_path, "lora:2", "search.rank=2,4").checked_plan(None, "t")
    alone = plan([load_recipe(laboratory / "tiny.yaml")], [LORA], [0, 1], tmp_path)
    assert len(trials) == 4
    assert {trial_key(trial.recipe) for trial in alone} < {trial_key(trial.recipe) for trial in trials}
    assert [trial.name for trial in trials] == [
        f"tiny lora:2 search.rank={rank} seed {seed}" for seed in (0, 1) for rank in (2, 4)
    ]


def test_what_a_method_builds_on_is_of_the_same_point(laboratory: Path, tmp_path: Path) -> None:
    trials = asked(laboratory, tmp_path, "lora-matched", "search.rank=2,4").checked_plan(None, "t")
    assert [(trial.method, trial.recipe.search.rank, trial.point) for trial in trials[:4]] == [
        (method, rank, f"search.rank={rank}") for rank in (2, 4) for method in ("autolora", "lora-matched")
    ]


def test_a_sweep_of_the_rate_is_refused_where_a_method_trains_at_another(laboratory: Path, tmp_path: Path) -> None:
    rates = "retrain.weights.learning_rate=1e-4,1e-3"
    for methods, more, said in (
        ("lora:2,full", {}, "full trains at a rate of its own, 2e-05"),
        ("lora:2:learning_rate=3e-4", {}, "as in --methods lora:2:learning_rate=1e-5,lora:2:learning_rate=1e-4"),
        ("lora:2", {"rates": (1e-4, 1e-3)}, "--tune both say the methods' learning rates"),
    ):
        with pytest.raises(UserError, match=said):
            asked(laboratory, tmp_path, methods, rates, **more).checked_plan(None, "t")
    assert len(asked(laboratory, tmp_path, "lora:2", rates).checked_plan(None, "t")) == 4
    assert len(asked(laboratory, tmp_path, "lora:2,full", "retrain.steps=3,4").checked_plan(None, "t")) == 8


def test_a_fault_of_every_point_is_said_once(laboratory: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        asked(laboratory, tmp_path, "lora", "search.rank=2,4").checked_plan(None, "t")
    assert str(caught.value) == "method 'lora' needs a size: lora:4, or method.size in a recipe"
    with pytest.raises(UserError, match="--baseline: a sweep compares every setting with the recipe's own"):
        asked(laboratory, tmp_path, "lora:2", "search.rank=2,4").checked_plan("lora:2", "t")


def test_choosing_a_point_or_a_rate_never_names_the_evaluation_splits(laboratory: Path, tmp_path: Path) -> None:
    selecting = asked(laboratory, tmp_path, "lora:2,lora:4", "search.rank=2,4", select=True).checked_plan(None, "t")
    trying = [trial for trial in selecting if trial.tuning]
    assert len(trying) == 4
    assert {trial.recipe.data.splits.eval for trial in trying} == {("held-out",)}
    assert {trial.recipe.seed for trial in trying} == {2**32 - 1}
    reported = [trial for trial in selecting if not trial.tuning]
    assert {trial.point for trial in reported} == {"at the settings that will be chosen"}
    tuning = asked(laboratory, tmp_path, "lora:2", "search.rank=2,4", rates=(1e-4, 1e-3)).checked_plan(None, "t")
    assert sum(trial.tuning for trial in tuning) == 4
    assert sum(trial.undecided for trial in tuning) == 4


def test_the_precision_that_a_point_says_is_its_own(laboratory: Path, tmp_path: Path) -> None:
    trials = asked(laboratory, tmp_path, "lora:2", "model.dtype=bfloat16,float32").checked_plan(None, "t")
    found = settle(trials)
    assert {trial.recipe.model.dtype for trial in trials} == {"bfloat16", "float32"}
    assert all(settled(trial.recipe, found) == trial.recipe.model.dtype for trial in trials)


@pytest.fixture
def swept(laboratory: Path) -> Arms:
    return arms_of(legs(laboratory, "search.rank=2,4"), parse_methods("lora:2,lora:3"))


SCORES = {
    "lora:2 search.rank=2": [0.5, 0.6, 0.7],
    "lora:2 search.rank=4": [0.7, 0.8, 0.9],
    "lora:3 search.rank=2": [0.1, 0.3, 0.2],
    "lora:3 search.rank=4": [0.4, 0.4, 0.4],
}
RESULTS = [
    cell("tiny", arm, seed, score, adapter_parameters=9)
    for arm, row in SCORES.items()
    for seed, score in enumerate(row)
]


def test_the_tables_have_a_column_for_each_setting_and_differences_within_a_method(swept: Arms) -> None:
    tables = {table.stem: table for table in outcome(RESULTS, arms=swept)}
    assert list(tables) == ["scores", "settings", "costs"]
    scores = [(row["method"], row["search.rank"], round(float(row["mean"] or 0), 6)) for row in tables["scores"].rows]
    assert scores == [("lora:2", "2", 0.6), ("lora:2", "4", 0.8), ("lora:3", "2", 0.2), ("lora:3", "4", 0.4)]
    assert tables["scores"].notes == (CAUTION,)
    found = [(row["method"], row["search.rank"], row["difference"], row["verdict"]) for row in tables["settings"].rows]
    assert found[1] == ("lora:2", "4", None, "the recipe's own")
    assert found[3] == ("lora:3", "4", None, "the recipe's own")
    assert found[0][2] == pytest.approx(-0.2)
    assert found[2][2:] == (pytest.approx(-0.2), "no difference found")


def test_where_the_recipes_own_is_not_swept_the_first_is_compared_with(laboratory: Path) -> None:
    arms = arms_of(legs(laboratory, "search.rank=2,8"), [LORA])
    results = [cell("tiny", f"lora:2 search.rank={rank}", seed, rank / 10 + seed) for rank in (2, 8) for seed in (0, 1)]
    rows = next(table for table in outcome(results, arms=arms) if table.stem == "settings").rows
    assert (rows[0]["search.rank"], rows[0]["verdict"]) == ("2", "the first")
    assert rows[1]["difference"] == pytest.approx(0.6)


def test_the_arms_are_read_back_and_drawn(swept: Arms, tmp_path: Path) -> None:
    tables = outcome(RESULTS, arms=swept)
    write_outcome(tables, RESULTS, tmp_path, arms=swept)
    assert read_arms(tmp_path) == swept
    files = write_report(RESULTS, tmp_path, tables, "A sweep", swept)
    assert any(path.name.startswith("sweep") and path.stat().st_size > 2000 for path in files)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "A sweep of search.rank: 2 settings of lora:2, lora:3, over 3 seeds." in page
    write_outcome(outcome(RESULTS), RESULTS, tmp_path)
    assert read_arms(tmp_path) is None, "what was a sweep is a plain comparison now"
    assert not (tmp_path / "settings.md").exists()
    (tmp_path / "sweep.json").write_text(json.dumps([{"label": 1}]), encoding="utf-8")
    with pytest.raises(UserError, match="is not the list of a sweep's settings"):
        read_arms(tmp_path)


def test_the_figure_takes_numbers_and_words_and_is_the_same_each_time(tmp_path: Path) -> None:
    for values in ([1e-5, 1e-3], ["adam", "plain"], [2.0, "null"]):
        lines = [SweepLine("a", {values[0]: (0.1, 0.2), values[1]: (0.3,)}), SweepLine("b", {values[1]: (0.2,)})]
        places = [tmp_path / name for name in ("1.png", "2.png")]
        for place in places:
            save_png(lines, place, x_label="x", y_label="y", title="t", values=values, looks=styles(["a", "b"]))
        assert places[0].read_bytes() == places[1].read_bytes()
    with pytest.raises(UserError, match="no scores to draw"):
        save_png([SweepLine("a", {})], tmp_path / "3.png", x_label="", y_label="", title="", values=[], looks={})


@pytest.mark.parametrize(
    ("scores", "up", "rank"),
    [((0.5, 0.7), True, "4"), ((0.5, 0.7), False, "2"), ((0.5, 0.5), True, "2"), ((None, 0.1), True, "4")],
)
def test_the_best_point_is_chosen_the_first_of_equals(
    laboratory: Path, scores: tuple[float | None, ...], up: bool, rank: str
) -> None:
    of_it = legs(laboratory, "search.rank=2,4")
    results = [cell("tiny", "lora:2", 9, score, higher_is_better=up) for score in scores]
    chosen = Selected({("tiny", LORA): tuple(zip(of_it, results, strict=True))})
    leg = chosen.leg(("tiny", LORA))
    assert leg is not None
    assert dict(leg.point.settings) == {"search.rank": rank}
    table = chosen.table()
    assert [row["search.rank"] for row in table.rows if row["chosen"]] == [rank]
    assert "no evaluation split has a part in them" in table.notes[0]


def test_no_point_is_chosen_where_none_has_a_score(laboratory: Path) -> None:
    of_it = legs(laboratory, "search.rank=2,4")
    chosen = Selected({("tiny", LORA): tuple((leg, cell("tiny", "lora:2", 9, None)) for leg in of_it)})
    assert chosen.leg(("tiny", LORA)) is None


def test_a_sweep_has_a_folder_of_its_own(laboratory: Path, tmp_path: Path) -> None:
    recipes = [load_recipe(laboratory / "tiny.yaml")]
    assert comparison_folder(tmp_path, recipes).name == "tiny"
    assert comparison_folder(tmp_path, recipes, ["search.rank", "retrain.steps"]).name == (
        "tiny-by-retrain.steps-search.rank"
    )


def test_a_range_of_rates() -> None:
    assert parse_tune("learning_rate=log:1e-5..1e-2") == RateRange(1e-5, 1e-2, True, 20)
    assert parse_tune("learning_rate=.001..0.01", 7) == RateRange(1e-3, 1e-2, False, 7)
    for text, trials, said in (
        ("learning_rate=log:1e-2..1e-5", None, "from its smaller end to its larger"),
        ("learning_rate=ln:1e-5..1e-2", None, "a range is log:LOW..HIGH"),
        ("learning_rate=log:x..1", None, "a learning rate is a finite number"),
        ("learning_rate=log:1e-5..1e-2", 1, "from 2 to 1000"),
        ("learning_rate=1e-5,1e-2", 5, "a grid has as many trials as rates"),
    ):
        with pytest.raises(UserError, match=said):
            parse_tune(text, trials)
