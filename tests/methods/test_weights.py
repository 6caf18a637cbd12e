"""What the methods with trained weights by name have in common: they are saved as a whole, loaded and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autolora.files import replace_folder
from tests.laboratory import tiny_run
from tests.methods.support import logits, resumed_run, trained_and_loaded_logits, trained_run

METHODS = ["full", "head", "bitfit", "houlsby:3", "pfeiffer:3"]


def test_a_folder_that_could_not_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    with replace_folder(place) as fresh:
        (fresh / "old").touch()
    with pytest.raises(IsADirectoryError), replace_folder(place) as fresh:
        fresh.write_text("fails")
    assert [path.name for path in place.iterdir()] == ["old"]
    with replace_folder(place) as fresh:  # what was left of it is no obstacle
        (fresh / "newer").touch()
    assert [path.name for path in place.iterdir()] == ["newer"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_loaded_is_what_was_trained(
    laboratory: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, method, "retrain.steps=6")
    truth, found = trained_and_loaded_logits(run, context, monkeypatch)
    assert torch.equal(found, truth)
    assert not torch.equal(truth, logits(context.model().eval(), context))


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_gone_on_with_gives_the_same_weights(
    laboratory: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = trained_run(laboratory, tmp_path / "whole", method, "retrain.steps=10")
    parts, _ = resumed_run(laboratory, tmp_path / "parts", method, monkeypatch, "retrain.steps=10")
    files = [run.path / "adapter" / "weights.safetensors" for run in (whole, parts)]
    assert files[0].read_bytes() == files[1].read_bytes()
