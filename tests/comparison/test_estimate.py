"""What a comparison is estimated to take: shared steps counted once, and only what is needed timed."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autolora.comparison import estimate, probe_rows, probe_steps
from autolora.comparison.estimate import Estimate, Times, _of, _search_of, estimates, wall_seconds
from autolora.comparison.executor import Resources
from autolora.comparison.plan import Trial, plan
from autolora.comparison.probe import Probe, _together, probe, run_probe
from autolora.comparison.probe_rows import NEW_TOKENS
from autolora.comparison.probe_steps import spread
from autolora.comparison.processes import Processes
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.methods.autolora import LOSSES
from autolora.methods.base import method_class
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Decoding, Eval, Recipe, Retrain
from autolora.runs.store import Run

TIMED = ("plain", "search", "loading", "model", "measuring", "evaluation")
RETRAIN, END = Retrain(steps=20), 0
EXAMPLES = 60  # of the laboratory's training split
SQUEEZING = (
    "search={estimator: none, rank: 4}",
    "ranks={score: fisher, rule: budget, budget: {rank: 1}}",
    "retrain.start=searched",
)
MEASURED = 10  # steps of 6 examples, in which all of them are measured on


@pytest.fixture
def recipe(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", ("search.steps=7", "retrain.steps=20"))


@pytest.fixture
def squeezing(laboratory: Path) -> Recipe:
    """Of a recipe whose search is the beginning of its training."""
    return load_recipe(laboratory / "tiny.yaml", (*SQUEEZING, "retrain.steps=20"))


def counted(
    recipe: Recipe, methods: str, root: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...] = (0,)
) -> Estimate:
    """The estimate, where a plain step takes a second, a search step a hundred, and loading a thousandth."""
    measured = Probe(EXAMPLES, 1.0, 100.0, 0.001, adapter_bytes=2**20, model_bytes=2**24)
    monkeypatch.setattr(estimate, "run_probe", lambda recipes, jobs, threads: measured)
    (found,) = estimates(plan([recipe], parse_methods(methods), seeds, root))
    return found


def steps(found: Estimate) -> tuple[int | None, int | None]:
    return found.search_steps, found.retrain_steps


HALF = 10 + MEASURED  # of a squeeze: the beginning, and measuring


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("lora:2", (0, 20)),
        ("squeeze:budget=rank=1", (0, HALF + 10)),
        ("squeeze:budget=rank=1,squeeze-uniform:budget=rank=1,squeeze:budget=rank=2", (0, HALF + 3 * 10)),
        ("squeeze:budget=rank=1,fisher-scratch:budget=rank=1", (0, HALF + 10 + 20)),
        ("squeeze:budget=rank=1,squeeze:k=2:budget=rank=1", (0, 2 * (HALF + 10))),
        ("squeeze:at=0.25:budget=rank=1", (0, 5 + MEASURED + 15)),
        # a tolerance measures on 5 % of the rows, three of them, and brings the squeeze that finds the size
        ("lora-matched:budget=tolerance=0.1", (0, 20 + 20 + 1)),
        ("squeeze-uniform:budget=tolerance=0.1,lora-matched:budget=tolerance=0.1", (0, 11 + 10 + 10 + 20)),
        ("autolora", (7, 20)),
        ("autolora,autolora:budget=rank=1,sigmoid", (14, 60)),
        ("lora-matched", (7, 40)),
        ("lora-matched:budget=rank=1,lora:4", (0, 40)),
    ],
)
def test_what_is_shared_counts_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: str, expected: tuple[int, int]
) -> None:
    found = counted(recipe, methods, tmp_path, monkeypatch)
    assert steps(found) == expected
    assert found.seconds == pytest.approx(100 * expected[0] + expected[1] + 0.001 * found.trials)
    twice = counted(recipe, methods, tmp_path, monkeypatch, seeds=(0, 1))
    assert steps(twice) == (2 * expected[0], 2 * expected[1])


def test_a_search_that_is_there_counts_nothing(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeeze = recipe.model_copy(update={"method": parse_method("squeeze:budget=rank=1")})
    run = Run.create(tmp_path, squeeze)
    (run.path / "search").mkdir()
    for name in ("head", "evidence"):
        (run.path / "search" / f"{name}.safetensors").touch()
    methods = "squeeze:budget=rank=1,squeeze-shuffled:budget=rank=1"
    assert steps(counted(recipe, methods, tmp_path, monkeypatch)) == (0, 10 + 10)
    assert steps(counted(recipe, methods, tmp_path, monkeypatch, seeds=(0, 1))) == (0, 10 + 10 + HALF + 10 + 10)
    shutil.rmtree(run.path / "search")
    assert steps(counted(recipe, methods, tmp_path, monkeypatch)) == (0, HALF + 10 + 10)


def test_the_evidence_of_a_search_is_on_the_disk_with_each_that_shares_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniform = counted(recipe, "lora:4,lora:2", tmp_path, monkeypatch).size
    shared = counted(recipe, "squeeze:budget=rank=1,squeeze-uniform:budget=rank=1", tmp_path, monkeypatch).size
    assert uniform is not None
    assert shared is not None
    assert shared - uniform == 2 * (estimate.LEFT_BY_SEARCH - 1) * 2**20


@pytest.mark.parametrize("method", ["squeeze:budget=rank=1", "squeeze:budget=tolerance=0.1", "autolora", "no-meta"])
def test_the_search_is_a_part_of_the_whole(recipe: Recipe, method: str) -> None:
    one = recipe.model_copy(update={"method": parse_method(method)})
    cls = method_class(one.method.name)
    part, whole = cls.search_workload(one, EXAMPLES), cls.workload(one, EXAMPLES)
    assert sum(part) > 0
    assert all(p <= w for p, w in zip(part, whole, strict=True))
    assert sum(whole) > sum(part)


def test_no_search_is_timed_where_none_is_made(recipe: Recipe, squeezing: Recipe) -> None:
    def of(one: Recipe, *methods: str) -> Probe:
        return probe([one.model_copy(update={"method": parse_method(method)}) for method in methods])

    plain = of(recipe, "lora:4", "squeeze:budget=rank=1", "lora-matched:budget=rank=1")
    both = of(recipe, "lora:4", "autolora")
    without = of(squeezing, "squeeze", "lora:4")
    assert (plain.search, without.search) == (0.0, 0.0)
    assert both.search > 0.0
    assert all(found.plain > 0.0 for found in (plain, both, without))
    assert (plain.measuring > 0.0, both.measuring, without.measuring > 0.0) == (True, 0.0, True)
    assert all(found.evaluation > 0.0 for found in (plain, both, without))
    assert len({replace(found, **dict.fromkeys(TIMED, 0.0)) for found in (plain, both, without)}) == 1


def test_a_recipe_that_squeezes_is_estimated(
    squeezing: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "squeeze,squeeze-uniform,lora-matched,lora:4"
    assert steps(counted(squeezing, methods, tmp_path, monkeypatch)) == (0, HALF + 10 + 10 + 20 + 20)


@pytest.mark.parametrize("method", ["autolora", "shuffled", "no-meta"])
def test_what_searches_is_refused_on_a_recipe_that_squeezes(squeezing: Recipe, method: str) -> None:
    from autolora.comparison.plan import check_plan

    with pytest.raises(
        UserError, match=rf"tiny, method {method}: search.estimator: none learns no selection variables"
    ):
        check_plan([squeezing], parse_methods(method))


def test_a_search_step_takes_the_mean_of_those_with_and_without_selection_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    class Searching:
        settings = SimpleNamespace(selection=SimpleNamespace(every=4))

        def advance(self, step: int) -> None:
            now[0] += 3.0 if (step + 1) % 4 == 0 else 1.0

    monkeypatch.setattr(probe_steps, "clock", lambda context: now[0])
    stage: Any = Searching()
    assert probe_steps.seconds_of_step(stage, None) == 1.5  # type: ignore[arg-type]


def trial(recipe: Recipe, method: str, **more: object) -> Trial:
    return replace(Trial(recipe.model_copy(update={"method": parse_method(method)}), True, None), **more)  # type: ignore[arg-type]


def times(one: Trial, **measured: object) -> Times:
    """Of a trial alone, where what is not named takes nothing."""
    found = Probe(EXAMPLES, 0.0, 0.0, 0.0, 1, 1)
    (each,) = _of(("tiny", 1, 0), [one], replace(found, **measured), whole=True).each or ()  # type: ignore[arg-type]
    return each


@pytest.mark.parametrize(
    ("method", "looks"), [("lora:2", 4), ("squeeze:budget=rank=1", 3)]
)  # after 6, 12, 18, 20 steps
def test_weights_are_chosen_as_often_as_the_training_looks(laboratory: Path, method: str, looks: int) -> None:
    chosen = load_recipe(
        laboratory / "tiny.yaml", ("retrain.steps=20", "retrain.keep=best", "retrain.evaluate_every=6")
    )
    assert times(trial(chosen, method), looking=5.0) == Times(choosing=5.0 * looks)
    assert times(trial(chosen.model_copy(update={"retrain": RETRAIN}), method), looking=5.0).choosing == 0.0


def test_measuring_is_counted_as_what_it_takes(recipe: Recipe) -> None:
    one, other = trial(recipe, "squeeze:budget=rank=1"), trial(recipe, "squeeze:budget=tolerance=0.1")
    assert times(one, plain=1.0, measuring=3.0).training == 20 + 3.0 * MEASURED
    assert times(one, losing=1.0).training == 0.0
    assert times(other, losing=1.0).training == 3 * LOSSES  # of three rows


def test_a_trial_of_tuning_is_evaluated_on_its_part_of_the_training_split(recipe: Recipe) -> None:
    splits = recipe.data.splits.model_copy(update={"eval": ("held-out",), "held_out": 0.25})
    tried = recipe.model_copy(update={"data": recipe.data.model_copy(update={"splits": splits})})
    measured = {"evaluation": 8.0, "rows": 20, "inputs": 40}  # a part of 10 rows, which have 20 in all
    assert times(trial(tried, "lora:2", tuning=True), **measured).evaluation == 4.0
    assert times(trial(recipe, "lora:2"), **measured).evaluation == 8.0


def test_searches_at_rates_that_are_to_come_are_those_of_other_rates(recipe: Recipe) -> None:
    def key(method: str, place: int) -> str | None:
        return _search_of(trial(recipe, method, tuning=True, point=f"trial {place} of 3"))

    assert key("autolora", 2) == key("autolora", 3)  # its search has rates of its own
    assert key("squeeze:budget=rank=1", 2) != key("squeeze:budget=rank=1", 3)


def test_trials_begin_as_soon_as_there_is_room() -> None:
    found = Estimate("tiny", 3, 0, 0, 0, (Times(3.0), Times(training=3.0), Times(evaluation=2.0)), 0)
    assert [wall_seconds([found], jobs) for jobs in (1, 2, 3)] == [8.0, 5.0, 3.0]


def test_probes_beside_each_other_give_their_mean_or_the_reason_that_is_one() -> None:
    one, other = Probe(EXAMPLES, 1.0, 0.0, 2.0, 3, 4), Probe(EXAMPLES, 3.0, 0.0, 2.0, 3, 4)
    assert _together([one, other]) == replace(one, plain=2.0)
    assert _together([one, "", "no memory"]) == "no memory"
    assert isinstance(_together(["", UserError("no data")]), UserError)


def test_probes_beside_each_other_time_nothing_before_all_are_there(recipe: Recipe) -> None:
    found = run_probe([trial(recipe, "lora:2").recipe], jobs=2)
    assert isinstance(found, Probe)
    assert min(found.plain, found.evaluation, found.model) > 0.0


def test_a_few_tokens_are_decoded_and_the_rest_is_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second after the one before: a pass takes one."""
    seconds = itertools.count()
    monkeypatch.setattr(probe_rows, "clock", lambda context: float(next(seconds)))

    class Model(nn.Module):
        def forward(self) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.zeros(1, 1, 5))

    def said(context: object, model: nn.Module, task: Any, batch: object) -> None:
        for _ in range(task.evaluation.generation.max_new_tokens):
            assert model().logits[0, 0].argmax() != END

    monkeypatch.setattr(probe_rows, "_said", said)
    monkeypatch.setattr(probe_rows, "end_tokens", lambda *given: [END])
    task = SimpleNamespace(evaluation=Eval(generation=Decoding(max_new_tokens=50)), units=lambda each: sum(each))
    context = SimpleNamespace(recipe=SimpleNamespace(eval=SimpleNamespace(batch_size=2)), tokenizer=None)
    examples = [{"input_ids": [0] * length} for length in (4, 3, 2, 1)]
    references = ([9, 12, 30, 70], [0, 0, 1, 2])  # tokens of each, and whose they are; the last row has none
    found = probe_rows._decoding(context, Model(), task, examples, references)  # type: ignore[arg-type]
    a_token = NEW_TOKENS / (NEW_TOKENS - 1)  # the last look at the clock is a second, too
    assert found == pytest.approx((1 + 29 * a_token) + (1 + 49 * a_token))


@pytest.mark.parametrize(("count", "parts", "expected"), [(9, 3, [1, 4, 7]), (2, 3, [0, 1]), (1, 3, [0])])
def test_what_is_timed_lies_in_the_middle_of_equal_parts(count: int, parts: int, expected: list[int]) -> None:
    assert spread(count, parts) == expected


def test_what_is_timed_has_the_threads_of_a_trial_however_few_trials_are_left(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, int | None]]()
    measured = Probe(EXAMPLES, 1.0, 100.0, 0.001, adapter_bytes=2**20, model_bytes=2**24)
    monkeypatch.setattr(estimate, "run_probe", lambda recipes, *given: asked.append(given) or measured)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 128)  # of the whole node
    for resources in (Resources(jobs=8), Resources(jobs=1, cpus=2), Resources()):
        executor = Processes(resources)
        estimates(plan([recipe], parse_methods("lora:2"), [0], tmp_path), executor.size, executor.threads)
    assert asked == [(1, 2), (1, 2), (1, None)]
