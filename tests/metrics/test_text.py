"""Metrics of generated text, against published scores and cases worked out by hand."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from autolora.metrics import text
from autolora.metrics.bleu import bleu
from autolora.metrics.chrf import chrf
from autolora.metrics.meteor import meteor
from autolora.metrics.nist import nist, nist_of_tokens
from autolora.metrics.ter import ter
from autolora.metrics.text import one_meteor, ptb
from tests.metrics.values import compute

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR, ROUGE-L and CIDEr need a Java runtime")
PUBLISHED = {"bleu": 0.6593, "nist": 8.6094, "meteor": 0.4483, "rouge_l": 0.6850, "cider": 2.2338}


@pytest.fixture(scope="module")
def tgen(shared_data: Path) -> tuple[list[str], list[list[str]]]:
    """The outputs of the E2E challenge's baseline, and the references."""
    references: dict[str, list[str]] = {}
    with (shared_data / "e2e" / "test.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            references.setdefault(row["meaning_representation"], []).append(row["human_reference"])
    with (shared_data / "e2e_challenge" / "tgen.tsv").open(encoding="utf-8", newline="") as file:
        outputs = {row["MR"]: row["output"] for row in csv.DictReader(file, delimiter="\t")}
    return [outputs[key] for key in references], list(references.values())


@pytest.mark.usefixtures("one_begun")
@pytest.mark.parametrize(
    "name", ["bleu", "nist", *(pytest.param(n, marks=needs_java) for n in ("meteor", "rouge_l", "cider"))]
)
def test_the_published_scores_are_met_to_the_fourth_digit(tgen: tuple[list[str], list[list[str]]], name: str) -> None:
    assert len(tgen[0]) == 630
    assert round(compute([name], *tgen)[name] or 0, 4) == PUBLISHED[name]


def test_nist_by_hand() -> None:
    # References: "a b", "a c" of the first output, "a b" of the second. 6 words: a 3, b 2, c 1; pairs: a b 2, a c 1.
    # Unigrams: a log2(6/3) = 1, b log2(6/2) = 1.585; pairs: a b log2(3/2) = 0.585.
    # Outputs: "a a" has one a (clipped) of 2 unigrams and no pair of 1; "a b" has both and its pair.
    found = nist_of_tokens([["a", "a"], ["a", "b"]], [[["a", "b"], ["a", "c"]], [["a", "b"]]])
    unigrams = (1 + 1 + math.log2(3)) / 4
    pairs = math.log2(1.5) / 2
    assert found == pytest.approx(unigrams + pairs)  # 4 words against 6 / 1.5 = 4: no penalty


def test_nist_halves_the_score_at_two_thirds_of_the_length() -> None:
    # Unigrams a, b: log2(3/1) each, of 2; the pair a b: log2(1/1) = 0.
    assert nist_of_tokens([["a", "b"]], [[["a", "b", "c"]]]) == pytest.approx(0.5 * math.log2(3))


def test_perfect_and_empty_outputs() -> None:
    references = [["A cat sat on the mat.", "There was a cat."], ["The dog runs, fast."]]
    perfect = [texts[0].upper() for texts in references]
    assert bleu(perfect, references) == {"bleu": pytest.approx(1.0)}
    assert ter(perfect, references) == {"ter": 0.0}
    whole = [texts[0] for texts in references]
    assert chrf(whole, references) == {"chrf++": pytest.approx(1.0)}
    for metric, worst in ((bleu, 0.0), (chrf, 0.0), (nist, 0.0)):
        (score,) = metric(["", ""], references).values()
        assert score == pytest.approx(worst)


def test_ter_counts_edits_for_each_reference_word() -> None:
    # One word of six replaced (the full stop is one); the nearest reference counts, the mean length is the divisor.
    assert ter(["a cat sat on it."], [["A dog sat on it."]]) == {"ter": pytest.approx(1 / 6)}


@needs_java
@pytest.mark.usefixtures("one_begun")
def test_java_metrics_of_empty_and_odd_texts() -> None:
    outputs = ["", "Café ||| Zürich\ncosts £20-25"]
    references = [["A cat sat on the mat."], ["Café Zürich costs £20-25", "It costs £20-25."]]
    assert ptb(outputs, references)[0] == ["", "café zürich costs # 20-25"]  # as in the treebank, a pound is a #
    scores = compute(["meteor", "rouge_l", "cider"], outputs, references)
    assert scores["rouge_l"] == pytest.approx(0.5)
    assert 0 < (scores["meteor"] or 0) < 1
    assert (scores["cider"] or 0) > 0
    assert compute(["meteor", "rouge_l", "cider"], outputs, references) == scores


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([["a"], []], "example 2: references must be a list of one or more texts"),
        ([["a"], "b"], "example 2: references must be a list of one or more texts, got 'b'"),
        ([["a"], ["b", " "]], "example 2: a reference is empty"),
        ([["a"]], "2 predictions but 1 references"),
    ],
)
def test_wrong_references_are_refused(references: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute(["bleu"], ["a", "b"], references)


@needs_java
def test_scores_of_several_parts_take_one_meteor(monkeypatch: pytest.MonkeyPatch, kept_meteor: text._Kept) -> None:
    """The one is a METEOR of its own; where each would begin one, the tests' shared one stands for it."""
    outputs, references = ["a cat sat on it .", "the dogs ran"], [["the cat sat here ."], ["a dog ran off", "dogs run"]]
    parts = [slice(None), slice(1), slice(1, 2)]
    begun: list[object] = []
    begin = text._begun

    def counted() -> AbstractContextManager[subprocess.Popen[str]]:
        begun.append(1)
        return begin() if len(begun) == 1 else nullcontext(kept_meteor.process)

    monkeypatch.setattr(text, "_begun", counted)
    with one_meteor():
        with one_meteor():
            together = [meteor(outputs[part], references[part]) for part in parts[:2]]
        together.append(meteor(outputs[parts[2]], references[parts[2]]))
    assert len(begun) == 1
    assert together == [meteor(outputs[part], references[part]) for part in parts]
    assert len(begun) == 4
    assert len({score["meteor"] for score in together}) == 3
