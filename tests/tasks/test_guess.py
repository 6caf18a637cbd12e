"""The loss of guessing, against the best constant that an optimiser finds, and torch's own loss of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from autolora.tasks import guess
from tests.model.folders import write_model
from tests.model.recipes import made


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 2, 2], [1, 1, 1, 1]])
def test_no_constant_has_a_smaller_loss(labels: list[int], smoothing: float) -> None:
    targets = torch.tensor(labels)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)  # a class without an example among them

    def loss() -> torch.Tensor:
        return F.cross_entropy(logits.expand(len(targets), 4), targets, label_smoothing=smoothing)

    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    counts = [labels.count(label) for label in sorted(set(labels))]
    assert guess.of_classes(counts, 4, smoothing) == pytest.approx(float(loss().detach()), abs=2e-3)
    assert guess.of_classes(counts, 4, smoothing) <= float(loss().detach()) + 1e-9


def test_of_numbers_it_is_the_variance() -> None:
    numbers = [0.5, 1.5, 4.0, -2.0]
    found = F.mse_loss(torch.full((4,), 1.0), torch.tensor(numbers))
    assert guess.of_numbers(numbers) == pytest.approx(float(found))


@pytest.mark.parametrize(
    ("family", "wanted"), [("classification", 0.6931), ("regression", 5.25), ("tagging", None), ("generation", None)]
)
def test_every_family_has_its_own(family: str, wanted: float | None, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert" if family != "generation" else "gpt2", _HEAD[family])
    context = made(tmp_path, family, model)
    examples = context.examples("train")
    found = context.task.guess(examples)
    if family == "tagging":  # of every word that the model sees
        tags = [example["tags"][word] for example in examples for _, word in example["first"]]
        wanted = guess.of_classes([tags.count(tag) for tag in set(tags)], len(context.task.names))
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-3))


_HEAD: dict[str, Any] = {"generation": "AutoModelForCausalLM", "classification": "AutoModel", "regression": "AutoModel"}
_HEAD["tagging"] = "AutoModel"
