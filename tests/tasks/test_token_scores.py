"""Perplexity and token accuracy without generation: transformers' own loss, whatever the batch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, T5Config

from autolora.errors import RunError, UserError
from autolora.evaluation.external import score_file
from autolora.evaluation.predict import predict
from autolora.experiment.evaluate import evaluate
from autolora.experiment.prepare import prepare
from autolora.experiment.retrain import retrain
from autolora.recipe.schema import Data, Eval
from autolora.tasks import token_loss
from autolora.tasks.encoder_decoder import EncoderDecoderGeneration
from autolora.tasks.generation import Generation
from autolora.tasks.token_loss import Pass
from autolora.tasks.token_loss import token_scores as scores_of
from autolora.tasks.token_scores import TokenScores
from autolora.training.compute import Compute
from tests.laboratory import tiny_run
from tests.methods.support import write_generation_laboratory
from tests.tasks.test_generation import WORDS, model, tokenizer  # noqa: F401  # a fixture

ROWS = {"input": ["a", "b c d e a", "a", "e"], "output": ["d e", "e", "b", "a b c d"]}
BOTH = 'eval.metrics=["perplexity", "token_accuracy"]'


def encoder_decoder() -> Any:
    torch.manual_seed(0)
    size = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=len(WORDS), pad_token_id=0, eos_token_id=2, **size)
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def task(kind: str) -> Generation:
    family = EncoderDecoderGeneration if kind == "t5" else Generation
    splits = {"train": Dataset.from_dict(ROWS), "test": Dataset.from_dict(ROWS)}
    data = Data(path="x", columns=("input",), label="output", max_length=12)
    return family(data, Eval(metrics=("perplexity", "token_accuracy")), splits)


def own_loss(net: Any, example: Any) -> torch.Tensor:
    """Transformers' mean loss of one sequence alone, and how many labels it is of."""
    ids = torch.tensor([example["input_ids"]])
    if "output_ids" in example:
        return net(input_ids=ids, labels=torch.tensor([example["output_ids"]])).loss
    labels = ids.clone()
    labels[0, : example["prompt"]] = -100
    return net(input_ids=ids, labels=labels).loss


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@torch.no_grad()
def test_the_perplexity_is_that_of_transformers_own_loss_whatever_the_batch(
    tokenizer: Any,  # noqa: F811
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, net = task(kind), encoder_decoder() if kind == "t5" else model(kind)
    sequences, owners = made.teacher_forced(Dataset.from_dict(ROWS), tokenizer, "test")
    assert owners == [0, 1, 0, 2]  # two references of one input
    tokens = [made.units([each]) for each in sequences]
    nll = [float(own_loss(net, each)) * count for each, count in zip(sequences, tokens, strict=True)]
    truth = math.exp(sum(nll) / sum(tokens))
    for size in (1, 3, 4):
        if size == 3:  # three positions at a time
            monkeypatch.setattr(token_loss, "WHOLE", 0)
            monkeypatch.setattr(token_loss, "CHUNK", 4 * 3 * len(WORDS))
        settings = {"tokenizer": tokenizer, "batch_size": size, "compute": Compute("float32", cpu=True)}
        found = predict(net, made, sequences, lambda e: made.collate(e, tokenizer), **settings, say=made.score_tokens)
        assert [record["tokens"] for record in found] == tokens
        assert [-record["log_likelihood"] for record in found] == pytest.approx(nll, rel=1e-5)
        (scored,) = made.metrics(found, [{"references": ["x"]}] * len(found))
        assert scored.row()["perplexity"] == pytest.approx(truth, rel=1e-6)
        assert "empty outputs" not in scored.row()


def token_scores(logits: torch.Tensor, labels: torch.Tensor) -> TokenScores:
    class Says(torch.nn.Module):
        def forward(self) -> SimpleNamespace:
            return SimpleNamespace(logits=logits)

    return scores_of(Says(), Pass({}, slice(None)), labels)


def test_hits_are_where_the_label_is_likeliest_and_nothing_counts_where_there_is_none() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]], [[0.0, 0.0, 1.0], [9.0, 0.0, 0.0]]])
    first, second = token_scores(logits, torch.tensor([[0, 2], [2, -100]])).records()
    assert (first["hits"], first["tokens"]) == (1, 2)
    assert (second["hits"], second["tokens"]) == (1, 1)
    truth = torch.log_softmax(logits.double(), -1)
    assert first["log_likelihood"] == pytest.approx(float(truth[0, 0, 0] + truth[0, 1, 2]), abs=1e-6)


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits = torch.tensor([[[10.0, 1.0, 0.0]]], dtype=torch.bfloat16)
    scores = token_scores(logits, torch.tensor([[0]]))
    assert scores.log_probabilities.dtype == torch.float32
    assert float(scores.log_probabilities) == pytest.approx(
        float(torch.log_softmax(logits.float(), -1)[0, 0, 0]), abs=1e-6
    )


def test_what_is_not_finite_is_a_diverged_training() -> None:
    with pytest.raises(RunError, match="log-likelihood of a reference is not finite: the training has diverged"):
        token_scores(torch.full((1, 1, 3), math.nan), torch.tensor([[0]])).records()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A laboratory, and a folder of runs."""
    folder = tmp_path_factory.mktemp("tokens")
    return write_generation_laboratory(folder / "laboratory", "llama"), folder / "runs"


def records(run: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "predictions" / "validation.jsonl").read_text().splitlines()]


def test_metrics_of_tokens_alone_decode_nothing(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: Any) -> Any:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Generation, "predict", decoded)
    run, context = tiny_run(*trained, "full", "retrain.steps=1", BOTH)
    retrain(run, context)
    (row,) = evaluate(run, context)
    assert row["perplexity"] > 1
    assert 0 <= row["token_accuracy"] <= 1
    assert all({"log_likelihood", "hits", "tokens", "references"} <= set(each) for each in records(run))
    assert not any("prediction" in each for each in records(run))
    again, _ = score_file(run.recipe, run.path / "predictions" / "validation.jsonl")
    assert again == [{name: row[name] for name in ("split", "examples", "perplexity", "token_accuracy")}]


def test_mixed_metrics_do_both_and_keep_their_order(trained: tuple[Path, Path], tmp_path: Path) -> None:
    mixed = 'eval.metrics=["perplexity", "exact_match", "token_accuracy"]'
    run, context = tiny_run(*trained, "full", "retrain.steps=1", mixed)
    retrain(run, context)
    (row,) = evaluate(run, context)
    assert [name for name in row if name in mixed] == ["perplexity", "exact_match", "token_accuracy"]
    assert all("prediction" in each and each["tokens"] > 0 for each in records(run))
    noted = run.manifest()["stages"]["eval"]
    assert (noted["metric"], noted["higher_is_better"]) == ("perplexity", False)
    file = tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"input": r["input"], "output": "b"}) + "\n" for r in records(run)))
    with pytest.raises(UserError, match=r"out.jsonl:1: perplexity, token_accuracy: a metric of tokens needs a model's"):
        score_file(run.recipe, file)
    file.write_text(json.dumps({"input": "a b", "log_likelihood": 1, "hits": 0, "tokens": 2}) + "\n")
    with pytest.raises(UserError, match=r"out.jsonl:1: a log-likelihood is 0 or less, got 1"):
        score_file(run.recipe, file)


def test_a_reference_without_a_number_is_refused_before_training_with_its_place(trained: tuple[Path, Path]) -> None:
    laboratory, runs = trained
    _, context = tiny_run(laboratory, runs, "lora:1", 'eval.metrics=["last_number"]')
    with pytest.raises(UserError, match=r"validation.jsonl:1: 'output': last_number needs a number .* got 'c c e'; "):
        prepare(context)


def test_a_reference_that_does_not_fit_the_model_is_refused_where_nothing_is_decoded(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, context = tiny_run(*trained, "lora:1", BOTH, "eval.generation.max_new_tokens=39")
    prepare(context)  # which is never decoded
    _, context = tiny_run(*trained, "lora:1", 'eval.metrics=["exact_match"]', "eval.generation.max_new_tokens=39")
    with pytest.raises(UserError, match="40"):
        prepare(context)


def test_references_that_lose_their_end_are_said(
    tokenizer: Any,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = task("gpt2")
    made.data = made.data.model_copy(update={"max_length": 7})
    made.teacher_forced(Dataset.from_dict(ROWS), tokenizer, "test")
    assert "1 of 4 references of split 'test' lose their end at data.max_length 7" in capsys.readouterr().err
    assert made.cut_off == {"test": 1}


def test_a_family_without_tokens_refuses_their_metrics() -> None:
    from autolora.tasks.classification import Classification

    (fault,) = Classification.faults(Data(path="x"), Eval(metrics=("perplexity",)))
    assert fault[:2] == ("eval.metrics.0", "'perplexity' is a metric of tokens, and the task's outputs are classes")
    assert "perplexity" not in fault[2]
    (fault,) = Generation.faults(Data(path="x", columns=("a",)), Eval(metrics=("accuracy",)))
    assert "perplexity" in fault[2]
    assert "last_number" in fault[2]
