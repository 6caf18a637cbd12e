"""Tagging: which pieces carry a tag, what is cut off, what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from autolora.errors import UserError
from autolora.recipe.schema import Data, Eval
from autolora.tasks.tagging import Tagging

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b": 5, "##c": 6, "d": 7}
ROWS = {"tokens": [["a", "bcc", "d"], ["d"]], "tags": [["O", "B-y", "I-y"], ["B-x"]]}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def data(**more: Any) -> Data:
    return Data.model_validate({"path": "x", "columns": ["tokens"], "label": "tags", **more})


def task(rows: Any = ROWS, **more: Any) -> Tagging:
    made = rows if isinstance(rows, Dataset) else Dataset.from_dict(rows)
    return Tagging(data(**more), Eval(metrics=("entities",)), {"train": made})


def place(row: int) -> str:
    return f"test, row {row + 1}"


def stub(logits: torch.Tensor) -> Any:
    return lambda **inputs: SimpleNamespace(logits=logits)


def test_the_tags_that_occur_get_ids_outside_first() -> None:
    assert task().names == ["O", "B-x", "B-y", "I-y"]
    assert task().head_config()["id2label"] == {0: "O", 1: "B-x", 2: "B-y", 3: "I-y"}
    assert task(labels=["I-y", "O", "B-y", "B-x"]).names == ["I-y", "O", "B-y", "B-x"]


def test_numbers_are_ids_of_the_recipes_names() -> None:
    names = ["O", "B-x", "I-x"]
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "tags": [["1", "I-x"]]})
    made = task(rows, labels=names)
    made.check_rows(rows, made.data, place)
    assert made.names == names
    assert [made._tag(tag, "here") for tag in rows["tags"][0]] == ["B-x", "I-x"]


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer: Any) -> None:
    made = task()
    examples = made.encode(Dataset.from_dict(ROWS), tokenizer, "train", "train")
    assert examples[0]["input_ids"] == [2, 4, 5, 6, 6, 7, 3]
    assert made.units(examples) == 4
    batch = made.collate(examples, tokenizer)
    assert batch["labels"].tolist() == [
        [-100, 0, 2, -100, -100, 3, -100],
        [-100, 1, -100, -100, -100, -100, -100],
    ]
    logits = torch.randn(2, 7, 4)
    truth = sum(
        F.cross_entropy(logits[i, j], torch.tensor(tag)) for i, j, tag in ((0, 1, 0), (0, 2, 2), (0, 5, 3), (1, 1, 1))
    )
    assert made.loss(stub(logits), batch).item() == pytest.approx(float(truth), rel=1e-6)


def test_words_cut_off_or_without_a_piece_are_outside_and_counted(tokenizer: Any) -> None:
    made = task(max_length=4)  # [CLS] a b [SEP]: the third word of the first sentence is cut off
    rows = {"tokens": [["a", "bcc", "d"], ["d", " "]], "tags": [["O", "B-y", "I-y"], ["B-x", "O"]]}
    examples = made.encode(Dataset.from_dict(rows), tokenizer, "train", "train")
    batch = made.collate(examples, tokenizer)
    always_y = torch.zeros(2, batch["input_ids"].shape[1], 4)
    always_y[:, :, 2] = 1
    records = made.predict(stub(always_y), batch, tokenizer)
    assert records == [
        {"prediction": ["B-y", "B-y", "O"], "cut_off": 1},
        {"prediction": ["B-y", "O"], "cut_off": 1},
    ]
    rows_of = [scored.row() for scored in made.metrics(records, examples)]
    assert [row["type"] for row in rows_of] == ["all", "x", "y"]
    assert rows_of[0]["cut-off words"] == 2
    assert made.reference_record(examples[1]) == {"tokens": ["d", " "], "reference": ["B-x", "O"]}


def test_roberta_tokenizers_take_words(tmp_path: Any) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["a bcc d"] * 4, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    trained.save_model(str(tmp_path))
    tokenizer = RobertaTokenizerFast.from_pretrained(tmp_path, **Tagging.tokenizer_options)
    made = task()
    assert [len(example["first"]) for example in made.encode(Dataset.from_dict(ROWS), tokenizer, "train", "train")] == [
        3,
        1,
    ]


@pytest.mark.parametrize("kind", ["llama 2", "llama, first", "gemma"])
def test_words_read_as_in_a_text_whatever_marks_their_beginning(kind: str) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "▁", "a", "d", "▁a", "▁d", "▁▁"])}
    words = Tokenizer(models.BPE(vocabulary, [("▁", "a"), ("▁", "d"), ("▁", "▁")], unk_token="<unk>"))
    blanks = normalizers.Replace(" ", "▁")
    if kind == "llama, first":
        words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        own = [normalizers.Prepend("▁"), blanks] if kind == "llama 2" else [blanks]
        words.normalizer = normalizers.Sequence(own)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<s>", unk_token="<unk>")
    rows = {"tokens": [["a", "d", "a"]], "tags": [["O", "B-x", "O"]]}
    (example,) = task(rows).encode(Dataset.from_dict(rows), tokenizer, "train", "train")
    assert example["input_ids"] == tokenizer("a d a")["input_ids"]
    assert example["first"] == [(0, 0), (1, 1), (2, 2)]


def test_a_tokenizer_that_knows_no_words_is_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(UserError, match=r"words need a fast tokenizer, .*; put its tokenizer\.json into the model's"):
        task().encode(Dataset.from_dict(ROWS), ByT5Tokenizer(), "train", "train")


@pytest.mark.parametrize(
    ("tokens", "tags", "labels", "message"),
    [
        (["a", "b"], ["O", "X-y"], None, "row 1, word 2 ('b'): the tag must be O, B-… or I-… (IOB2), got 'X-y'"),
        (["a", "b"], ["O"], None, "test, row 1: 2 words but 1 tags in 'tags'"),
        ([], [], None, "test, row 1: 'tokens' must be a list of words, got []"),
        (["a"], ["B-q"], ["O", "B-x"], "row 1, word 1 ('a'): the tag 'B-q' is none of the 2 tags: O, B-x"),
        (["a"], ["3"], None, "the tag is a number, 3; name the tags in data.labels"),
        (["a"], ["3"], ["O", "B-x"], "the tag '3' is none of the 2 tags: O, B-x"),
        ("a b", ["O", "O"], None, "'tokens' must be a list of words, got 'a b'"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_named(tokens: Any, tags: Any, labels: Any, message: str) -> None:
    rows = Dataset.from_dict({"tokens": [tokens], "tags": [tags]})
    with pytest.raises(UserError) as error:
        Tagging.check_rows(rows, data(labels=labels), place)
    assert message in str(error.value)


def test_labels_outside_the_scheme_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.labels: tags are O, B-… and I-… \(IOB2\), got x, y"):
        task(labels=["x", "y"])
