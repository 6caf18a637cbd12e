"""Trials whose searches are the same do it once; what comes of it is what each would have come to alone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from autolora.comparison.execute import execute
from autolora.comparison.executor import Resources
from autolora.comparison.plan import Trial, plan, search_key
from autolora.comparison.processes import Processes
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.methods import sharing
from autolora.methods.sharing import has_search, offer
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Recipe
from autolora.runs.listing import runs
from autolora.runs.results import read_result
from autolora.runs.store import Run
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.finetune import Finetuning
from tests.cli.support import contents, finish, freeze_when, read, start, succeed, succeed_here
from tests.laboratory import flip_bit, of_an_earlier_version, tiny_run, write_laboratory

STEPS = ("search.steps=6", "retrain.steps=12")
SEED = 3
SHARING = (
    "squeeze:budget=rank=1",
    "squeeze-uniform:budget=rank=1",
    "squeeze-shuffled:budget=rank=1",
    "fisher-scratch:budget=fraction=0.5",
)
TOLERANT = ("squeeze:budget=tolerance=0.5", "squeeze-uniform:budget=tolerance=0.5")
SEARCHING = ("autolora", "autolora:budget=rank=1")
COMPARED = (*SHARING[:2], SHARING[3], *SEARCHING)
TABLES = ("comparison.md", "scores.csv", "differences.csv", "table.tex")


def finished(run: Run, context: Context | None = None) -> Run:
    """The run, done to its end as a comparison's worker does it."""
    run_stages(run, context or Context(run.recipe, show=False))
    for checkpoint in run.path.rglob("checkpoint.safetensors"):
        checkpoint.unlink()
    return run


def searched(run: Run) -> Mapping[str, object]:
    """What the manifest says of the search."""
    noted: Mapping[str, object] = read(run.path / "manifest.json")["stages"]["search"]
    return noted


@pytest.fixture(scope="module")
def alone(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Every method's run by itself, in a folder of its own. To be read only."""
    found = {}
    for method in (*SHARING, *TOLERANT, *SEARCHING):
        found[method] = finished(*tiny_run(laboratory, tmp_path_factory.mktemp("alone"), method, *STEPS, seed=SEED))
    return found


def compare(output: Path, *more: str) -> list[str | Path]:
    steps = [part for setting in STEPS for part in ("--set", setting)]
    methods = ",".join(COMPARED)
    return ["compare", "tiny.yaml", "--methods", methods, "--seeds", str(SEED), "--output", output, *steps, *more]


@pytest.fixture(scope="module")
def together(laboratory: Path) -> Path:
    """The output folder of a comparison of several of them. To be read only."""
    output = laboratory / "together"
    succeed_here(*compare(output, "--jobs", "2"), cwd=laboratory)
    return output


def by_method(output: Path) -> dict[str, Run]:
    found = {Trial(run.recipe, True, run).method: run for run in runs(output, "tiny")}
    assert len(found) == len(list((output / "tiny").iterdir()))
    return found


def test_a_comparison_searches_once_and_every_file_is_as_if_each_had_searched(
    alone: dict[str, Run], together: Path
) -> None:
    found = by_method(together)
    assert set(found) == set(COMPARED)
    for method, run in found.items():
        assert contents(run.path) == contents(alone[method].path), method
    made = {method for method, run in found.items() if "shared" not in searched(run)}
    assert made == {COMPARED[0], "autolora"}
    for method in set(COMPARED) - made:
        source = (found[method].path / str(searched(found[method])["shared"])).resolve()
        assert source == found["autolora" if method in SEARCHING else COMPARED[0]].path.resolve()


def test_costs_are_those_of_the_method_run_alone(alone: dict[str, Run], together: Path) -> None:
    found = by_method(together)
    for method, run in found.items():
        mine, other = read_result(run), read_result(alone[method])
        assert (mine.forward_passes, mine.backward_passes) == (other.forward_passes, other.backward_passes)
        squeezed = (18 if "scratch" in method else 12) + 60 // 6  # and as many as it takes to measure 60 examples
        assert mine.forward_passes == (12 + 6 * 4 if method in SEARCHING else squeezed)
        assert (searched(run)["steps"], searched(run)["trainable_parameters"]) == (
            6,
            searched(alone[method])["trainable_parameters"],
        )
        source = found["autolora" if method in SEARCHING else COMPARED[0]]
        assert searched(run)["found_seconds"] == searched(source)["found_seconds"]
        assert mine.search_seconds is not None
        assert mine.search_seconds >= float(str(searched(source)["found_seconds"])) > 0
        assert searched(run)["peak_memory_mib"] == searched(source)["peak_memory_mib"]


@pytest.mark.slow
def test_a_comparison_killed_while_one_takes_over_a_search_gives_the_same_tables(
    laboratory: Path, together: Path
) -> None:
    output = laboratory / "killed-sharing"
    process = start(*compare(output), cwd=laboratory)

    def taking_over() -> bool:
        found = [path for path in output.glob("tiny/*squeeze-uniform*") if (path / "manifest.json").exists()]
        return any("shared" in read(run / "manifest.json").get("stages", {}).get("search", {}) for run in found)

    freeze_when(process, taking_over, seconds=280)
    (run,) = output.glob("tiny/*squeeze-uniform*")
    assert not (run / "search" / "ranks.json").exists()
    finish(process, signal.SIGKILL)
    assert not list((output / "comparisons").rglob("trials.json")), "no tables yet: what is planned is all there is"
    succeed(*compare(output, "--jobs", "2"), cwd=laboratory)
    first, second = (folder / "comparisons" / "tiny" for folder in (output, together))
    assert {name: (first / name).read_bytes() for name in TABLES} == {
        name: (second / name).read_bytes() for name in TABLES
    }
    other = by_method(together)
    assert all(contents(run.path) == contents(other[method].path) for method, run in by_method(output).items())


@pytest.mark.parametrize(
    ("methods", "before"), [(SHARING[::2], 0), (SHARING[::2], 1), (SHARING[::2], 2), (TOLERANT, 2), (SEARCHING, 1)]
)
def test_a_run_that_ends_before_any_of_the_files_is_written_goes_on_right(
    laboratory: Path,
    alone: dict[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    methods: tuple[str, str],
    before: int,
) -> None:
    source = Run(shutil.copytree(alone[methods[0]].path, tmp_path / "tiny" / "source"), alone[methods[0]].recipe)
    run, context = tiny_run(laboratory, tmp_path, methods[1], *STEPS, seed=SEED)
    offer(run, source)
    write, left = sharing.write_atomic, iter(range(before, -1, -1))

    def failing(path: Path, data: bytes) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(sharing, "write_atomic", failing)
        with pytest.raises(KeyboardInterrupt):
            run_stages(run, context)
    assert run.stage_state("search") == "cancelled"
    assert not has_search(run), "others must not take over half of it"
    finished(Run.open(run.path))
    assert contents(run.path) == contents(alone[methods[1]].path)
    assert searched(run)["shared"] == "../source"
    assert searched(run)["forward_passes"] == searched(alone[methods[1]])["forward_passes"]


def test_it_does_not_matter_that_the_offered_run_is_gone_later(
    laboratory: Path, alone: dict[str, Run], tmp_path: Path
) -> None:
    source = Run(shutil.copytree(alone[SHARING[0]].path, tmp_path / "tiny" / "source"), alone[SHARING[0]].recipe)
    run, context = tiny_run(laboratory, tmp_path, SHARING[1], *STEPS, seed=SEED)
    offer(run, source)
    from autolora.experiment.search import search

    search(run, context)
    shutil.rmtree(source.path)
    finished(Run.open(run.path))
    assert contents(run.path) == contents(alone[SHARING[1]].path)


@pytest.mark.parametrize("wrong", ["another seed", "gone", "half", "foreign head"])
def test_an_offer_that_is_wrong_is_declined_and_the_run_searches_itself(
    laboratory: Path, alone: dict[str, Run], tmp_path: Path, wrong: str
) -> None:
    source = Run(shutil.copytree(alone[SHARING[0]].path, tmp_path / "tiny" / "source"), alone[SHARING[0]].recipe)
    if wrong == "another seed":
        shutil.rmtree(source.path)
        source = finished(*tiny_run(laboratory, tmp_path, SHARING[0], *STEPS, seed=SEED + 1))
    if wrong == "half":
        (source.path / "search" / "head.safetensors").unlink()
    if wrong == "foreign head":
        tensors, _ = load_checkpoint(source.path / "search" / "head.safetensors")
        save_checkpoint(source.path / "search" / "head.safetensors", tensors, {"identity": "another"})
    run, context = tiny_run(laboratory, tmp_path, SHARING[1], *STEPS, seed=SEED)
    offer(run, source)
    if wrong == "gone":
        shutil.rmtree(source.path)
    finished(run, context)
    assert contents(run.path) == contents(alone[SHARING[1]].path)
    assert searched(run)["shared"] is None


@pytest.mark.parametrize("name", ["head.safetensors", "evidence.safetensors", "log.jsonl"])
def test_an_offered_search_that_is_not_what_was_written_is_refused_and_nothing_is_taken(
    laboratory: Path, alone: dict[str, Run], tmp_path: Path, name: str
) -> None:
    source = Run(shutil.copytree(alone[SHARING[0]].path, tmp_path / "tiny" / "source"), alone[SHARING[0]].recipe)
    flip_bit(source.path / "search" / name, 0.97)
    run, context = tiny_run(laboratory, tmp_path, SHARING[1], *STEPS, seed=SEED)
    offer(run, source)
    with pytest.raises(UserError, match=rf"{source.path.name}/search/{name} is not what was written"):
        run_stages(run, context)
    assert not (run.path / "search").exists()
    shutil.copyfile(alone[SHARING[0]].path / "search" / name, source.path / "search" / name)
    finished(Run.open(run.path))
    assert contents(run.path) == contents(alone[SHARING[1]].path)


def test_what_a_killed_process_left_is_gone_when_the_run_has_been_gone_on_with(
    laboratory: Path, alone: dict[str, Run], tmp_path: Path
) -> None:
    run, context = tiny_run(laboratory, tmp_path, SHARING[0], *STEPS, seed=SEED)
    killed = KeyboardInterrupt()

    def interrupted(*given: object) -> None:
        raise killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Finetuning, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_stages(run, context)
    for leftover in (f".status.json.{'0' * 32}.tmp", f"search/.log.jsonl.{'a1' * 16}.tmp", "adapter.new/half"):
        (run.path / leftover).parent.mkdir(exist_ok=True)
        (run.path / leftover).write_bytes(b"half")
    (run.path / "predictions").mkdir()
    (run.path / "predictions" / ".other-1.part").write_text("of other settings")
    finished(Run.open(run.path))
    assert contents(run.path) == contents(alone[SHARING[0]].path)


def test_a_finished_trial_that_is_not_what_was_written_is_said_before_anything_is_run(
    recipe: Recipe, alone: dict[str, Run], tmp_path: Path
) -> None:
    there = Path(shutil.copytree(alone[SHARING[2]].path, tmp_path / "tiny" / "earlier"))
    flip_bit(there / "metrics.json")
    with pytest.raises(UserError, match=r"metrics\.json is not what was written: .*anew with: autolora eval "):
        plan([recipe], parse_methods(",".join(SHARING)), [SEED], tmp_path)


def test_a_search_on_other_weights_under_the_same_name_is_declined(tmp_path: Path) -> None:
    (tmp_path / "laboratory").mkdir()
    write_laboratory(tmp_path / "laboratory")
    weights = tmp_path / "laboratory" / "model" / "model.safetensors"
    source = finished(*tiny_run(tmp_path / "laboratory", tmp_path / "one", SHARING[0], *STEPS, seed=SEED))
    from safetensors.torch import load_file, save_file

    save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    shared, context = tiny_run(tmp_path / "laboratory", tmp_path / "one", SHARING[1], *STEPS, seed=SEED)
    offer(shared, source)
    finished(shared, context)
    own = finished(*tiny_run(tmp_path / "laboratory", tmp_path / "three", SHARING[1], *STEPS, seed=SEED))
    assert contents(shared.path) == contents(own.path)
    assert searched(shared)["shared"] is None
    evidence = [load_checkpoint(run.path / "search" / "evidence.safetensors")[0] for run in (source, own)]
    assert any(not torch.equal(evidence[0][name], evidence[1][name]) for name in evidence[0]), "the test can fail"


@pytest.fixture
def recipe(laboratory: Path) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", STEPS, seed=SEED)


def test_who_waits_for_a_search_that_fails_searches_itself(
    laboratory: Path, recipe: Recipe, alone: dict[str, Run], tmp_path: Path
) -> None:
    broken, _ = tiny_run(laboratory, tmp_path, SHARING[0], *STEPS, seed=SEED)
    (broken.path / "search").mkdir()
    (broken.path / "search" / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    trials = plan([recipe], parse_methods(",".join(SHARING[:3])), [SEED], tmp_path)
    begun: list[tuple[str, bool]] = []
    seen: list[Run] = []

    def on_begin(trial: Trial, run: Run) -> None:
        begun.append((trial.method, any(has_search(other) for other in seen)))
        seen.append(run)

    first, second, third = execute(trials, tmp_path, Processes(Resources(jobs=2)), on_begin=on_begin)
    assert begun == [(SHARING[0], False), (SHARING[1], False), (SHARING[2], True)]
    assert "is not a checkpoint of autolora" in str(read_result(first).reason)
    assert "shared" not in searched(second)
    assert (third.path / str(searched(third)["shared"])).resolve() == second.path.resolve()
    for method, run in zip(SHARING[1:], (second, third), strict=False):
        assert contents(run.path) == contents(alone[method].path)


def test_a_plan_knows_the_searches_of_all_runs_of_its_recipes(
    recipe: Recipe, alone: dict[str, Run], tmp_path: Path
) -> None:
    there = Path(shutil.copytree(alone[SHARING[2]].path, tmp_path / "tiny" / "earlier"))
    (trial,) = plan([recipe], parse_methods(SHARING[0]), [SEED], tmp_path)
    assert (trial.run, trial.source and trial.source.path) == (None, there)
    (other,) = plan([recipe], parse_methods(SHARING[0]), [SEED + 1], tmp_path)
    assert other.source is None
    of_an_earlier_version(there)
    (there / "search" / "evidence.safetensors").unlink()
    (trial,) = plan([recipe], parse_methods(SHARING[0]), [SEED], tmp_path)
    assert trial.source is None


def keyed(recipe: Recipe, method: str, **more: object) -> str | None:
    return search_key(recipe.model_copy(update={"method": parse_method(method), **more}))


ALIKE = [
    ("squeeze:budget=rank=1", "squeeze-uniform:budget=fraction=0.5"),
    ("squeeze:budget=rank=1", "squeeze-shuffled:budget=parameters=9000"),
    ("squeeze:budget=rank=1", "fisher-scratch:budget=rank=2"),
    ("squeeze:budget=rank=1", "squeeze:k=4:at=0.5:budget=rank=2"),
    ("squeeze:budget=tolerance=0.1", "squeeze-uniform:budget=tolerance=0.2"),
    ("autolora", "autolora:budget=rank=1"),
    ("autolora", "autolora:learning_rate=1e-3"),
]
UNLIKE = [
    ("squeeze:budget=rank=1", "squeeze:k=2:budget=rank=1"),
    ("squeeze:budget=rank=1", "squeeze:at=0.75:budget=rank=1"),
    ("squeeze:budget=rank=1", "squeeze:budget=rank=1:learning_rate=1e-3"),
    ("squeeze:budget=rank=1", "squeeze:budget=tolerance=0.1"),
    ("squeeze:budget=rank=1", "autolora"),
    ("autolora", "sigmoid"),
    ("autolora", "no-meta"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_searches_that_are_the_same_have_one_key(recipe: Recipe, one: str, other: str) -> None:
    assert keyed(recipe, one) is not None
    assert keyed(recipe, one) == keyed(recipe, other)


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_searches_that_differ_have_two(recipe: Recipe, one: str, other: str) -> None:
    assert None not in (keyed(recipe, one), keyed(recipe, other))
    assert keyed(recipe, one) != keyed(recipe, other)


def changes(recipe: Recipe) -> Iterator[tuple[str, object]]:
    yield "name", "another"
    yield "seed", SEED + 1
    yield "model", recipe.model.model_copy(update={"target_modules": ("query",)})
    yield "data", recipe.data.model_copy(update={"max_length": 64})
    yield "data", recipe.data.model_copy(update={"splits": recipe.data.splits.model_copy(update={"train": "all"})})
    yield "loss", recipe.loss.model_copy(update={"label_smoothing": 0.1})
    yield "ranks", recipe.ranks.model_copy(update={"examples": 7})
    yield "retrain", recipe.retrain.model_copy(update={"steps": 14})


def test_another_recipe_has_another_key(recipe: Recipe) -> None:
    found = [keyed(recipe, SHARING[0]), *(keyed(recipe, SHARING[0], **{k: v}) for k, v in changes(recipe))]
    assert len(set(found)) == len(found)


def test_methods_without_such_a_search_share_nothing(recipe: Recipe) -> None:
    for method in ("lora:4", "lora-matched", "shuffled", "svd", "adalora", "lora-grid", "full"):
        assert keyed(recipe, method) is None
