"""A checkpoint's own head: mapped by the names of its classes, or drawn anew, and said; never taken as it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.model.heads import settle_head
from autolora.recipe.schema import Recipe
from tests.laboratory import write_named_laboratory
from tests.model.checkpoints import checkpoint, edit_config, loaded, recipe_of

NAMES = ("no", "perhaps", "yes")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A laboratory whose sentences are labelled no, perhaps or yes."""
    return write_named_laboratory(tmp_path / "laboratory", NAMES)


def own(
    place: Path, tmp_path: Path, names: Mapping[int, str] | None, kind: type = BertForSequenceClassification
) -> Path:
    """A checkpoint with a head of its own, for classes of these names."""
    folder = checkpoint(place, tmp_path / "own", kind, num_labels=3)
    if names is not None:
        edit_config(folder, id2label={str(i): n for i, n in names.items()}, label2id={n: i for i, n in names.items()})
    return folder


def head_of(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return model.classifier.weight, model.classifier.bias


def recipe(place: Path, folder: Path) -> Recipe:
    return recipe_of(place, folder, "eval.metrics=[accuracy]")


def test_another_order_of_the_same_names_is_mapped_by_name(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {0: "yes", 1: "no", 2: "perhaps"}
    folder = own(place, tmp_path, names)
    context = Context(recipe(place, folder), show=False)
    model = context.model().eval()
    batch = context.task.collate(context.examples("validation")[:5], tokenizer=context.tokenizer)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    stock = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        ours, theirs = model(**inputs).logits, stock(**inputs).logits
    by_name = {name: theirs[:, i] for i, name in names.items()}
    assert torch.equal(ours, torch.stack([by_name[name] for name in context.task.names], dim=1))
    said = capsys.readouterr().err
    assert "has its classes as yes, no, perhaps; classifier is put into the order no, perhaps, yes" in said
    context.model()
    assert capsys.readouterr().err == ""  # it is said once


def test_the_same_order_is_taken_and_nothing_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own(place, tmp_path, dict(enumerate(NAMES)))
    assert torch.equal(loaded(recipe(place, folder)).classifier.weight, head_of(folder)[0])
    assert "head" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (None, "own head does not name its classes; classifier is drawn anew for no, perhaps, yes"),
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, "own head does not name its classes; classifier is drawn anew"),
        (
            {0: "bad", 1: "good", 2: "so-so"},
            "own head is for other classes (bad, good, so-so); classifier is drawn anew",
        ),
        ({0: "no", 1: "yes", 2: "LABEL_2"}, "own head is for other classes (no, yes, LABEL_2); classifier is drawn"),
    ],
)
def test_other_names_or_none_are_drawn_anew_and_said(
    place: Path, tmp_path: Path, names: Mapping[int, str] | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own(place, tmp_path, names)
    model = loaded(recipe(place, folder))
    weight, _ = head_of(folder)
    assert not torch.isclose(model.classifier.weight, weight).any(dim=1).all()
    assert abs(model.classifier.weight.std() - 0.02) < 0.005  # BERT's initializer_range
    assert model.classifier.bias.tolist() == [0, 0, 0]
    assert said in capsys.readouterr().err
    again = loaded(recipe(place, folder))
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_a_head_that_would_change_and_is_not_trained_is_refused(place: Path, tmp_path: Path) -> None:
    folder = own(place, tmp_path, {0: "yes", 1: "no", 2: "perhaps"})
    only = recipe_of(place, folder, "eval.metrics=[accuracy]", "model.head=[pooler]")
    with pytest.raises(UserError, match=r"model.head: .*, and is not trained; add it: \[bert.pooler, classifier\]"):
        loaded(only)


def test_another_number_of_classes_is_drawn_anew_and_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(recipe(place, checkpoint(place, tmp_path / "own", BertForSequenceClassification, num_labels=5)))
    assert "own head is for another number of classes; classifier is drawn anew" in capsys.readouterr().err


def test_a_tagger_does_not_begin_with_a_classifiers_head(place: Path, tmp_path: Path) -> None:
    folder = own(place, tmp_path, {0: "B-X", 1: "I-X", 2: "O"}, BertForTokenClassification)
    model = BertForTokenClassification.from_pretrained(folder, num_labels=3)
    drawn, said = settle_head(model, {0: "no", 1: "perhaps", 2: "yes"}, ["O", "B-X", "I-X"], ())
    assert drawn == {"classifier.weight", "classifier.bias"}
    assert "is drawn anew for O, B-X, I-X" in said


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_heads_of_other_architectures_are_mapped_too(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "roberta":
        size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = RobertaForSequenceClassification(RobertaConfig(vocab_size=20, num_labels=3, **size))
    else:
        size = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20}
        model = GPT2ForSequenceClassification(GPT2Config(vocab_size=20, num_labels=3, pad_token_id=0, **size))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model.eval()(input_ids=ids).logits
        drawn, _ = settle_head(model, {0: "c", 1: "a", 2: "b"}, ["a", "b", "c"], ())
        assert not drawn
        assert torch.equal(model(input_ids=ids).logits, before[:, [1, 2, 0]])


def test_a_head_that_is_drawn_is_left_alone(place: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(place / "model", num_labels=3)
    kept = model.classifier.weight.clone()
    assert settle_head(model, None, NAMES, {"classifier.weight", "classifier.bias"}) == (frozenset(), "")
    assert torch.equal(model.classifier.weight, kept)
