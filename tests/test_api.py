"""What ``import autolora`` offers. The examples of docs/python-api.md are the functions here that it names."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F

import autolora
from autolora.bilevel.loop import BilevelSearch
from autolora.lora.selection import add_selection
from autolora.training.batches import Batch
from autolora.training.gradients import Gradients
from autolora.training.seeds import derive, seed_torch

EPOCHS_NEED_A_LENGTH = "train_batches has no length"


class Net(nn.Module):
    """Two layers of a user's own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.dropout(torch.relu(self.first(x)))
        output: torch.Tensor = self.head(torch.relu(self.second(hidden)))
        return output.squeeze(-1)


Pair = tuple[torch.Tensor, torch.Tensor]


def loss(model: nn.Module, batch: Pair) -> torch.Tensor:
    x, y = batch
    return F.mse_loss(model(x), y)


def batches(count: int, seed: int) -> list[Pair]:
    rng = torch.Generator().manual_seed(seed)
    xs = [torch.randn(8, 6, generator=rng) for _ in range(count)]
    return [(x, x[:, 0] * x[:, 1]) for x in xs]


def find(model: nn.Module, **more: object) -> autolora.Ranks:
    settings = autolora.Search(steps=12, rank=4, lora_dropout=0.0)
    options = {"settings": settings, "target_modules": ["first", "second"], "trainable": ["head"], **more}
    given = {"train_batches": batches(5, 1), "validation_batches": batches(3, 2), "loss": loss, **options}
    return autolora.find_ranks(model, **given)  # type: ignore[arg-type]


def test_ranks_are_found_for_a_model_and_batches_of_ones_own() -> None:
    model = Net().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ranks = find(model)
    assert list(ranks) == ["first", "second"]
    assert ranks.shapes == {"first": (6, 10), "second": (10, 10)}
    assert all(0 < rank <= 4 for rank in ranks.values())
    assert {name: len(kept) for name, kept in ranks.kept.items()} == dict(ranks)
    assert max(max(a) for a in ranks.rule["selection"].values()) > 0.2501  # it has learned something
    # The model is what it was.
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_running_means_and_generators_are_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Linear(10, 1), nn.Flatten(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(7)
    drawn = torch.rand(3)
    torch.manual_seed(7)
    find(model, target_modules=["0"], trainable=["2"])
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_finds_the_same(context: Any) -> None:
    model, train, validation = Net(), batches(5, 1), batches(3, 2)
    with context():
        found = find(model, train_batches=train, validation_batches=validation)
    assert found == find(Net())


def test_the_same_call_finds_the_same_and_another_seed_something_else() -> None:
    assert find(Net()) == find(Net())
    first, other = find(Net()), find(Net(), seed=1)
    assert first.rule["selection"] != other.rule["selection"]


def test_the_configuration_is_a_stock_one_with_these_ranks() -> None:
    model = Net()
    ranks = find(model)
    config = ranks.to_lora_config()
    assert type(config) is LoraConfig
    adapted = get_peft_model(model, config)  # type: ignore[arg-type]
    layers = {name: module for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
    assert {name.rpartition(".")[2]: layer.r["default"] for name, layer in layers.items()} == dict(ranks)
    factors = [p for name, p in adapted.named_parameters() if "lora_" in name]
    assert sum(p.numel() for p in factors) == ranks.parameters


def test_ranks_are_kept_in_a_file(tmp_path: Path) -> None:
    ranks = find(Net())
    ranks.save(tmp_path / "ranks.json")
    assert autolora.Ranks.load(tmp_path / "ranks.json") == ranks


def test_the_search_is_the_one_of_a_recipe() -> None:
    """Put together by hand from its parts, with the batches of the same steps."""
    settings = autolora.Search(steps=12, rank=4, lora_dropout=0.0)
    model, train, validation = Net(), batches(5, 1), batches(3, 2)
    seed_torch(derive(7, "model"))
    layers = add_selection(model, ["first", "second"], rank=4, lora_alpha=16.0)
    model.head.requires_grad_(True)
    streams = [Steps(each) for each in (train, validation)]
    search = BilevelSearch(model.train(), layers, Gradients(partial(loss, model)), *streams, settings, total=12, seed=7)
    for step in range(12):
        search.advance(step)
    assert find(Net(), seed=7, settings=settings) == search.ranks()


class Steps:
    """Batches by step."""

    def __init__(self, batches: list[Pair]) -> None:
        self.batches = batches

    def at(self, step: int) -> Batch:
        return Batch((self.batches[step % len(self.batches)],), units=1)  # type: ignore[arg-type]


def test_an_iterator_that_ends_is_said() -> None:
    model = Net()
    with pytest.raises(autolora.UserError, match=r"train_batches ended after 5 steps.*pass a list or a DataLoader"):
        autolora.find_ranks(
            model, iter(batches(5, 1)), batches(3, 2), loss, autolora.Search(steps=9), target_modules=["first"]
        )
    assert isinstance(model.first, nn.Linear)  # put back all the same


SHORTENED = autolora.Search.model_validate({"steps": 2, "weights": {"max_grad_norm": 1.0}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": autolora.Search(steps=2, batch_size=4)}, "Search.batch_size does not apply here"),
        ({"target_modules": ["frist"]}, r"target module 'frist' matches no layer of the model; did you mean 'first'\?"),
        ({"trainable": ["haed"]}, "trainable: the model has no module 'haed'"),
        ({"train_batches": iter(batches(2, 1)), "settings": autolora.Search(epochs=1)}, EPOCHS_NEED_A_LENGTH),
        ({"train_batches": []}, "train_batches has no batch in it"),
        ({"loss": lambda model, batch: model(batch[0])}, "loss must give a batch's mean loss, a scalar"),
        ({"settings": SHORTENED}, "Search.weights.max_grad_norm: the search differentiates through its steps"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "train_batches": batches(2, 1),
        "validation_batches": batches(2, 2),
        "loss": loss,
        "settings": autolora.Search(steps=2),
        "target_modules": ["first"],
        **change,
    }
    with pytest.raises(autolora.UserError, match=message):
        autolora.find_ranks(Net(), **given)  # type: ignore[arg-type]


def test_epochs_are_counted_over_batches() -> None:
    steps: list[int] = []
    settings = autolora.Search(epochs=2, rank=2)
    autolora.find_ranks(
        Net(),
        batches(4, 1),
        batches(2, 2),
        loss,
        settings,
        target_modules=["first"],
        on_step=lambda step, losses: steps.append(step),
    )
    assert steps == list(range(1, 9))


def test_a_recipe_runs_from_python(laboratory: Path, tmp_path: Path) -> None:
    result = autolora.run(laboratory / "tiny.yaml", output=tmp_path, seed=3, search__steps=4, retrain__steps=4)
    assert result.state == "success"
    assert result.ranks is not None
    assert result.ranks.total == sum(result.ranks.values())
    assert [(score.name, score.higher_is_better) for score in result.scores] == [
        ("accuracy", True),
        ("matthews_correlation", True),
    ]
    assert result.metric == "accuracy"
    assert result.score == result.scores[0].value
    assert result.adapter is not None
    assert (result.adapter / "adapter_config.json").is_file()
    records = result.predictions("validation")
    assert len(records) == 23
    right = sum(record["prediction"] == record["reference"] for record in records)
    assert result.score == pytest.approx(right / 23)
    assert result.total_seconds is not None
    assert result.total_seconds > 0


def test_a_run_from_python_is_gone_on_with(laboratory: Path, tmp_path: Path) -> None:
    options = {"output": tmp_path, "search__steps": 3, "retrain__steps": 2}
    ranks = autolora.search(laboratory / "tiny.yaml", **options)  # type: ignore[arg-type]
    result = autolora.run(laboratory / "tiny.yaml", resume=True, **options)  # type: ignore[arg-type]
    assert len(list((tmp_path / "tiny").iterdir())) == 1
    assert result.ranks == ranks


def test_a_recipe_object_is_run_with_other_values(laboratory: Path, tmp_path: Path) -> None:
    recipe = autolora.load_recipe(laboratory / "tiny.yaml", {"search.steps": 3, "retrain.steps": 3})
    result = autolora.run(recipe, output=tmp_path, retrain__steps=2, method={"name": "lora", "size": 2})
    assert result.method == "lora:2"
    assert set(result.ranks.values()) == {2}  # type: ignore[union-attr]
    assert result.manifest["stages"]["retrain"]["steps"] == 2


def test_faults_are_raised_together(laboratory: Path, tmp_path: Path) -> None:
    with pytest.raises(autolora.RecipeError) as error:
        autolora.run(laboratory / "tiny.yaml", output=tmp_path, search__stepz=3, retrain__batch_size=-1)
    assert [str(fault) for fault in error.value.faults] == [
        "search.stepz: search.stepz: unknown key (did you mean 'search.steps'?)",
        "retrain.batch_size: retrain.batch_size: must be at least 1, got -1 "
        "(from 1 to 1048576: the examples of a step are in memory at once)",
    ]
    recipe = autolora.load_recipe(laboratory / "tiny.yaml")
    with pytest.raises(autolora.RecipeError, match="no column 'text'"):
        autolora.run(recipe, output=tmp_path, data__columns=["text"])
    assert not list(tmp_path.iterdir())


def test_runs_of_different_precision_follow_each_other_in_one_process(laboratory: Path, tmp_path: Path) -> None:
    options = {"output": tmp_path, "search__steps": 2, "retrain__steps": 2}
    precise, rough = (
        autolora.run(laboratory / "tiny.yaml", model__dtype=dtype, **options)  # type: ignore[arg-type]
        for dtype in ("float32", "bfloat16")
    )
    assert precise.state == rough.state == "success"
    logits = [[record["logits"] for record in result.predictions("validation")] for result in (precise, rough)]
    assert logits[0] != logits[1]


@pytest.mark.slow
def test_methods_are_compared_from_python(laboratory: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import autolora\n"
        "if __name__ == '__main__':\n"
        f"    found = autolora.compare({str(laboratory / 'tiny.yaml')!r}, ['lora:1', 'lora:2'], [0, 1],\n"
        f"        output={str(tmp_path / 'runs')!r}, retrain__steps=2)\n"
        "    print([(r.method, r.seed, r.state) for r in found.results])\n"
        "    print([row['method'] for row in found.rows('differences')])\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[('lora:1', 0, 'success'), ('lora:1', 1, 'success'), ('lora:2', 0, 'success'), ('lora:2', 1, 'success')]",
        "['lora:2']",
    ]


def test_importing_autolora_imports_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import autolora; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(done.stdout)) - {"__future__"} == {"autolora"}


def test_everything_that_is_offered_is_there() -> None:
    for name in autolora.__all__:
        assert getattr(autolora, name).__name__ == name
    assert set(autolora.__all__) <= set(dir(autolora))
    with pytest.raises(AttributeError, match="has no attribute 'squeez'"):
        autolora.squeez  # noqa: B018
