"""Squeeze where there is little: few steps, few rows, layers that learn nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from autolora.errors import UserError
from autolora.experiment.line import search
from autolora.lora.ranks import Ranks
from tests.methods.linked import spent
from tests.methods.squeezed import FULL, done, evidence_of, searched, squeezed, write_learner

DEAD = [f"bert.encoder.layer.1.attention.self.{kind}" for kind in ("query", "value")]
METHODS = ["squeeze", "squeeze-uniform", "squeeze-shuffled", "fisher-scratch"]


def silenced(folder: Path, modules: Sequence[str]) -> Path:
    """A learner in which the weights of these modules are zero, so that what comes before them learns nothing."""
    folder.mkdir()
    write_learner(folder)
    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    names = [name for name in tensors if any(f"{module}.weight" in name for module in modules)]
    assert len(names) == len(modules)
    save_file({name: t * 0 if name in names else t for name, t in tensors.items()}, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_layers_that_learn_nothing_keep_nothing(tmp_path: Path, name: str) -> None:
    laboratory = silenced(tmp_path / "laboratory", ["encoder.layer.1.attention.output.dense"])
    run, _ = done(laboratory, tmp_path / "runs", f"{name}:budget=0.5")
    components, ranks = evidence_of(run).components, run.ranks()
    assert [layer for layer in components if not len(components[layer])] == DEAD
    assert [ranks[layer] for layer in DEAD] == [0, 0]
    assert 0 < ranks.parameters <= FULL // 2
    assert all(len(kept) == ranks[layer] for layer, kept in ranks.kept.items())


@pytest.mark.parametrize("seed", range(3))
def test_controls_have_squeezes_size_where_layers_learn_nothing(tmp_path: Path, seed: int) -> None:
    """What a layer without components cannot have goes to those that have some."""
    laboratory = silenced(tmp_path / "laboratory", ["encoder.layer.1.attention.output.dense"])
    found: dict[str, Ranks] = {}
    for name in METHODS[:3]:
        run, context = squeezed(laboratory, tmp_path / name, f"{name}:budget=0.5", seed=seed)
        found[name] = search(run, context)
        assert [found[name][layer] for layer in DEAD] == [0, 0]
        assert all(len(kept) == found[name][layer] for layer, kept in found[name].kept.items())
    squeezed_to, even, shuffled = found.values()
    assert squeezed_to.parameters - 64 < even.parameters <= squeezed_to.parameters
    assert len({rank for layer, rank in even.items() if layer not in DEAD}) <= 2
    assert shuffled.parameters == squeezed_to.parameters
    for shape in set(shuffled.shapes.values()):
        names = [name for name in shuffled if shuffled.shapes[name] == shape]
        assert Counter(shuffled[name] for name in names) == Counter(squeezed_to[name] for name in names)


def test_autoloras_search_is_read_by_fisher_there_too(tmp_path: Path) -> None:
    laboratory = silenced(tmp_path / "laboratory", ["encoder.layer.1.attention.output.dense"])
    rule = ["ranks.score=fisher", "ranks.rule=budget", "ranks.budget={fraction: 1.0}", "retrain.start=searched"]
    run, _ = done(laboratory, tmp_path / "runs", "autolora", "search.steps=8", *rule)
    assert [run.ranks()[layer] for layer in DEAD] == [0, 0]
    assert run.ranks().total == 16


def test_where_no_layer_learns_anything_it_is_said(tmp_path: Path) -> None:
    modules = [
        f"encoder.layer.{i}.{part}" for i in range(2) for part in ("attention.output.dense", "intermediate.dense")
    ]
    modules += [f"encoder.layer.{i}.output.dense" for i in range(2)]
    laboratory = silenced(tmp_path / "laboratory", modules)
    run, context = squeezed(laboratory, tmp_path / "runs", "squeeze:budget=0.5")
    with pytest.raises(UserError, match="every update is zero after the first steps: nothing has been trained that co"):
        search(run, context)


def test_more_examples_than_there_are_are_all_of_them(learner: Path, tmp_path: Path) -> None:
    one, ranks = searched(learner, tmp_path, "squeeze:budget=0.25", "ranks.examples=60")
    other, found = searched(learner, tmp_path, "squeeze:budget=0.25", "ranks.examples=100000")
    few, _ = searched(learner, tmp_path, "squeeze:budget=0.25", "ranks.examples=7")
    gates = [evidence_of(run).gates for run in (one, other, few)]
    assert [len(each.derivatives) for each in gates if each is not None] == [60, 60, 7]
    assert gates[0].derivatives.equal(gates[1].derivatives)  # type: ignore[union-attr]
    assert ranks == found


def test_a_training_of_two_steps(learner: Path, tmp_path: Path) -> None:
    run, _ = done(learner, tmp_path, "squeeze:budget=0.25", "retrain.steps=2")
    assert (spent(run, "search")["steps"], spent(run, "retrain")["steps"]) == (1, 1)


@pytest.mark.parametrize(
    ("word", "length"),
    [
        ("squeeze:budget=0.25", ["retrain.steps=1"]),
        ("squeeze:at=0.01:budget=0.25", []),
        ("squeeze:at=0.99:budget=0.25", []),
        ("squeeze:at=0.05:budget=0.25", ["retrain.steps=null", "retrain.epochs=1"]),
    ],
)
def test_a_share_of_no_step_or_of_all_is_refused_before_it_begins(
    learner: Path, tmp_path: Path, word: str, length: list[str]
) -> None:
    run, context = squeezed(learner, tmp_path, word, *length)
    with pytest.raises(UserError, match=r"steps is \d+, and both the beginning and what goes on from it need at least"):
        search(run, context)
    assert not (run.path / "search" / "log.jsonl").exists()


@pytest.mark.parametrize("rate", ["1e-6", "2e-2"])
def test_a_squeeze_before_anything_is_learned_is_said_to_be_one(
    learner: Path, tmp_path: Path, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, context = squeezed(learner, tmp_path, "squeeze:budget=0.5", f"retrain.weights.learning_rate={rate}")
    search(run, context)
    noted = run.manifest()["stages"]["search"]
    assert noted["guessing"] == pytest.approx(math.log(2), abs=0.02)  # of two classes, about as many of each
    early = noted["loss"] > 0.97 * noted["guessing"]
    assert early == (rate == "1e-6")
    said = (
        f"training examples is {noted['loss']:.4g}, and saying the same of every one has {noted['guessing']:.4g}: hard"
    )
    assert (said in capsys.readouterr().err) == early
