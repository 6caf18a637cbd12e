"""Decoding is what the recipe says: nothing of the model's own settings for it has a bearing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.context.base import Context
from autolora.context.predictions import predictions_of
from tests.laboratory import tiny_run
from tests.methods.support import write_generation_laboratory

SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 5.0},
    {"min_length": 30},
    {"min_new_tokens": 4},
    {"suppress_tokens": [4, 5, 6, 7]},
    {"begin_suppress_tokens": [4, 5, 6, 7, 8, 9, 10, 11]},
    {"bad_words_ids": [[4], [5], [6], [7]]},
    {"forced_bos_token_id": 9},
    {"forced_eos_token_id": 2},
    {"exponential_decay_length_penalty": [1, 3.0]},
    {"encoder_repetition_penalty": 3.0},
    {"encoder_no_repeat_ngram_size": 1},
    {"sequence_bias": [[[9], 50.0]]},
    {"guidance_scale": 3.0},
    {"no_repeat_ngram_size": 1},
    {"num_beams": 4, "early_stopping": True, "length_penalty": -3.0},
    {"do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.3},
    {"eos_token_id": [4, 5, 6, 7, 8]},
    {"max_length": 3},
    {"stop_strings": ["b", "c"]},
    {"max_time": 1e-9},
    {"return_dict_in_generate": True, "output_scores": True},
    {"num_return_sequences": 2, "num_beams": 2},
    {"renormalize_logits": True, "remove_invalid_values": True},
    {"use_cache": False},
]


def outputs(place: Path, tmp_path: Path, *overrides: str) -> list[str]:
    run, _ = tiny_run(place, tmp_path / "runs", "head", *overrides)
    context = Context(run.recipe, show=False)
    model = context.model().eval()
    return [record["prediction"] for record in predictions_of(context, model, context.examples("validation"), "eval")]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The laboratory of a decoder, and its outputs with one beam."""
    folder = tmp_path_factory.mktemp("clean")
    place = write_generation_laboratory(folder / "laboratory", "gpt2")
    (place / "model" / "generation_config.json").unlink()
    found = outputs(place, folder, "eval.generation.beams=1")
    assert len({*found}) > 1
    return place, found


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_the_models_own_settings_do_not_leak_in(
    clean: tuple[Path, list[str]], tmp_path: Path, settings: dict[str, Any], file: str
) -> None:
    place, found = clean
    path = place / "model" / file
    kept = path.read_text() if path.exists() else None
    path.write_text(json.dumps({**json.loads(kept or "{}"), **settings}))
    try:
        assert outputs(place, tmp_path, "eval.generation.beams=1") == found
    finally:
        path.unlink() if kept is None else path.write_text(kept)


def greedy(model: torch.nn.Module, ids: list[int], steps: int) -> list[int]:
    """The likeliest token, one after the other, up to </s>."""
    for _ in range(steps):
        logits: Tensor = model(input_ids=torch.tensor([ids])).logits
        ids = [*ids, int(logits[0, -1].argmax())]
        if ids[-1] == 2:
            break
    return ids


@torch.no_grad()
def test_one_beam_is_the_likeliest_token_after_the_other(clean: tuple[Path, list[str]], tmp_path: Path) -> None:
    place, found = clean
    _, context = tiny_run(place, tmp_path / "runs", "head")
    model = context.model().eval()
    for text, example in zip(found, context.examples("validation"), strict=True):
        ids = greedy(model, example["input_ids"], 5)[len(example["input_ids"]) :]
        assert context.tokenizer.decode(ids, skip_special_tokens=True).split() == text.split()


def test_the_model_has_its_own_settings_afterwards(clean: tuple[Path, list[str]], tmp_path: Path) -> None:
    place, _ = clean
    _, context = tiny_run(place, tmp_path / "runs", "head")
    model = context.model().eval()
    model.generation_config.repetition_penalty = 3.0
    predictions_of(context, model, context.examples("validation"), "eval")
    assert model.generation_config.repetition_penalty == 3.0
