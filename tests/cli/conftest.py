"""A laboratory of its own for the command line: a tiny random model, a small data set, a recipe and one whole run."""

import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import TINY_RECIPE, Call, only_run, succeed

SUBJECTS = ["cat", "dog", "bird", "child", "teacher", "author", "pilot", "king"]
VERBS = ["sees", "hears", "likes", "finds", "calls", "helps"]
EXTRAS = ["again", "in the garden", "today", "with great care on a very long day"]


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, model/ (random BERT) and data/ (train: 60 sentences, validation: 23)."""
    folder = tmp_path_factory.mktemp("laboratory")
    _write_data(folder / "data")
    _write_model(folder / "model")
    (folder / "tiny.yaml").write_text(TINY_RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def finished(laboratory: Path) -> Path:
    """A run of tiny.yaml with seed 3 that nothing interrupted. To be read only."""
    succeed("run", "tiny.yaml", "--seed", "3", "--output", "finished", cwd=laboratory)
    return only_run(laboratory / "finished")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "tiny" / finished.name))


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs a command in this process, which spares the seconds that importing torch takes."""
    from autolora.cli import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    terminate = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, terminate)


def _write_data(folder: Path) -> None:
    rng = random.Random(0)
    folder.mkdir()
    for split, count in {"train": 60, "validation": 23}.items():
        rows = []
        for i in range(count):
            words = ["the", rng.choice(SUBJECTS), rng.choice(VERBS), "the", rng.choice(SUBJECTS), rng.choice(EXTRAS)]
            if i % 2:
                words[0], words[1] = words[1], words[0]
            rows.append({"sentence": " ".join(words), "label": 1 - i % 2})
        rng.shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def _write_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word for text in (*SUBJECTS, *VERBS, *EXTRAS, "the") for word in text.split()}
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words)])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **size)).save_pretrained(folder)
