"""``autolora memory``: a recipe and its model's config.json are enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig

from autolora.cli.memory import parse_bytes
from autolora.errors import UserError
from tests.cli.support import Call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of a model that is a config.json and nothing else."""
    LlamaConfig(
        vocab_size=500, hidden_size=64, intermediate_size=160, num_hidden_layers=1, num_attention_heads=4
    ).save_pretrained(tmp_path / "model")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "task: generation\nmodel: {name: ./model, target_modules: all-linear, dtype: float32}\n"
        "data: {path: d, columns: [q], label: a, max_length: 32}\nsearch: {rank: 2, batch_size: 4}\n"
    )
    return path


def test_a_config_is_enough(recipe: Path, call: Call) -> None:
    code, output, _ = call("memory", recipe, "--json")
    found = json.loads(output)
    assert code == 0
    assert found["settings"]["search_examples"] == 4
    assert found["settings"]["retrain_examples"] == 16
    stage = found["stages"]["search"]
    assert stage["total"] == sum(stage["parts"].values())
    assert "fits" not in found


def test_a_search_without_selection_variables_is_a_part_of_the_retraining(recipe: Path, call: Call) -> None:
    code, output, _ = call("memory", recipe, "--set", "search.estimator=none", "--set", "retrain.start=searched")
    assert code == 0
    assert output.splitlines()[2].split() == ["squeeze", "retrain"]
    assert "copies" not in output
    assert "examples at a time: 16\n" in output


def test_what_does_not_fit_is_said_with_what_would_lower_it(recipe: Path, call: Call) -> None:
    code, output, _ = call("memory", recipe, "--device-memory", "100MB")
    assert code == 0
    assert "search: does not fit 0.09766 GiB" in output
    assert "- gradient_accumulation twice as high: " in output
    assert max(len(text) for text in output.splitlines()[1:]) <= 80
    code, output, _ = call("memory", recipe, "--device-memory", "24GB")
    assert "retrain: fits 24 GiB" in output
    assert "would lower" not in output


def test_a_model_of_the_hub_is_refused_without_a_network(recipe: Path, call: Call) -> None:
    code, _, error = call("memory", recipe, "--model", "owner/none-such")
    assert code == 2
    assert "owner/none-such" in error


def test_cards_share_batches_and_base(recipe: Path, call: Call) -> None:
    code, output, _ = call("memory", recipe, "--cards", "4", "--json")
    found = json.loads(output)
    assert code == 0
    assert (found["settings"]["search_examples"], found["settings"]["retrain_examples"]) == (1, 4)
    assert "base weights, a share" in found["stages"]["retrain"]["parts"]
    code, output, _ = call("memory", recipe, "--cards", "4", "--device-memory", "24GB")
    assert "of each of 4 cards, which has a share of the base" in output


@pytest.mark.parametrize(("text", "size"), [("24GB", 24 * 2**30), ("1.5 gib", 3 * 2**29), ("512MB", 2**29)])
def test_sizes_of_cards(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["24", "GB", "-1GB", "nanGB", "1e9GB", "much"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--device-memory: must be a size such as 24GB"):
        parse_bytes(text)
