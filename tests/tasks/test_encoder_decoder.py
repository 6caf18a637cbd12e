"""Encoder-decoders in generation: searched, retrained and evaluated as stock transformers and PEFT have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from torch import Tensor

from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.methods.base import method_of
from autolora.runs.store import Run
from tests.model.folders import write_model
from tests.model.recipes import made, write_recipe
from tests.tasks.test_padding import predictions

SEQ2SEQ = "AutoModelForSeq2SeqLM"
# Some of their attention and feed-forward layers, in encoder and decoder.
TARGETS = {
    "t5": ["q", "EncDecAttention.v", "wi_0", "wo"],
    "bart": ["q_proj", "encoder_attn.out_proj", "fc1", "fc2"],
}


def folder(path: Path, kind: str, **changes: Any) -> Path:
    """T5's tokenizer ends a text with </s>; BART's begins it with <s> too."""
    return write_model(path / "model", kind, SEQ2SEQ, eos=kind == "t5", pair=kind == "bart", **changes)


def equal(found: Tensor, expected: Tensor) -> bool:
    """To 1e-5 of the largest: T5's logits are not scaled."""
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


def stock_loss(own: Context, example: Any) -> Tensor:
    """Transformers' own loss, summed over the output's tokens."""
    labels = torch.tensor([example["output_ids"]])
    output = own.model().eval()(input_ids=torch.tensor([example["input_ids"]]), labels=labels)
    return output.loss * labels.shape[1]


@pytest.mark.parametrize("kind", TARGETS)
def test_the_input_goes_to_the_encoder_and_the_output_to_the_decoder(kind: str, tmp_path: Path) -> None:
    own = made(tmp_path, "generation", folder(tmp_path, kind))
    example = own.examples("train")[1]
    assert list(example["input_ids"]) == own.tokenizer("a b")["input_ids"]
    assert list(example["output_ids"]) == own.tokenizer("b a")["input_ids"]
    assert example["output_ids"][-1] == own.tokenizer.eos_token_id


def test_an_output_ends_where_a_tokenizer_does_not_say_so(tmp_path: Path) -> None:
    own = made(tmp_path, "generation", write_model(tmp_path / "model", "t5", SEQ2SEQ))
    assert list(own.examples("train")[1]["output_ids"]) == [5, 4, 2]
    rows = {"input": ["a"], "output": [f"b {own.tokenizer.eos_token} a"]}  # which is no end, wherever it stands
    assert list(own.task.encode(rows, own.tokenizer, "train", "train")[0]["output_ids"]) == [5, 2, 4, 2]


@pytest.mark.parametrize("kind", TARGETS)
def test_the_loss_is_transformers_own_whatever_the_batch(kind: str, tmp_path: Path) -> None:
    own = made(tmp_path, "generation", folder(tmp_path, kind))
    examples, model = own.examples("train"), own.model().eval()
    with torch.no_grad():
        together = own.task.loss(model, own.task.collate(examples, own.tokenizer))
        apart = sum((stock_loss(own, example) for example in examples), torch.zeros(()))
    assert torch.allclose(together, apart, rtol=1e-5)
    assert own.task.units(examples) == sum(len(example["output_ids"]) for example in examples)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("decoding", [{"beams": 1}, {"beams": 3, "no_repeat_ngram": 2}])
@pytest.mark.parametrize("kind", TARGETS)
def test_texts_are_generated_as_by_stock_transformers_whatever_the_batch(
    kind: str, decoding: dict[str, Any], side: str, tmp_path: Path
) -> None:
    # What a folder says about decoding is not the recipe's: it must not leak in.
    model = folder(tmp_path, kind, tokenizer={"padding_side": side})
    (model / "generation_config.json").write_text(
        '{"min_length": 5, "repetition_penalty": 9.0, "num_beams": 4, "decoder_start_token_id": 5}'
    )
    own = made(tmp_path, "generation", model, eval={"generation": {"max_new_tokens": 6, **decoding}})
    found = predictions(own, 8)
    assert found == predictions(own, 1)
    stock, texts = own.model().eval(), []
    stock.generation_config = type(stock.generation_config)(
        decoder_start_token_id=stock.config.decoder_start_token_id, pad_token_id=0, eos_token_id=2
    )
    for text in dict.fromkeys(own.splits["train"]["input"]):
        settings = {"num_beams": decoding["beams"], "no_repeat_ngram_size": decoding.get("no_repeat_ngram", 0)}
        output = stock.generate(**own.tokenizer(text, return_tensors="pt"), max_new_tokens=6, **settings)
        texts.append(own.tokenizer.decode(output[0], skip_special_tokens=True))
    assert [record["prediction"] for record in found] == texts
    assert len(set(texts)) > 1


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_run_gives_an_adapter_with_the_same_logits_in_stock_peft(kind: str, default: bool, tmp_path: Path) -> None:
    model = folder(tmp_path, kind)
    named: dict[str, Any] = {} if default else {"target_modules": TARGETS[kind]}
    recipe = load_recipe(write_recipe(tmp_path, "generation", model, **{"model": {"name": str(model), **named}}))
    run = Run.create(tmp_path / "runs", recipe)
    run_stages(run, Context(recipe, show=False))
    assert any("encoder." in name for name in run.ranks())
    assert any("decoder." in name for name in run.ranks())
    for target in named.get("target_modules", ["q", "v"] if kind == "t5" else ["q_proj", "v_proj"]):
        assert any(name.endswith(f".{target}") for name in run.ranks())
    config = PeftConfig.from_pretrained(run.path / "adapter")
    assert config.task_type == "SEQ_2_SEQ_LM"
    context = Context(recipe, show=False)
    examples = context.examples("train")
    ids = torch.tensor([examples[2]["input_ids"]])
    decoder = torch.tensor([[context.model().config.decoder_start_token_id, *examples[2]["output_ids"]]])
    with torch.no_grad():
        ours = method_of(run).load(context.model(), context).eval()(input_ids=ids, decoder_input_ids=decoder).logits
        for path in ("adapter", "search/adapter"):
            stock = PeftModel.from_pretrained(context.model(), run.path / path).eval()
            found = stock(input_ids=ids, decoder_input_ids=decoder).logits
            merged = stock.merge_and_unload()(input_ids=ids, decoder_input_ids=decoder).logits  # type: ignore[operator]
            assert equal(found, merged)
            if path == "adapter":
                assert equal(found, ours)
    assert run.manifest()["stages"]["eval"]["score"] is not None


def test_an_input_above_the_maximum_is_refused_with_its_length(tmp_path: Path) -> None:
    own = made(tmp_path, "generation", folder(tmp_path, "t5"), data={"max_length": 4})
    with pytest.raises(Exception, match=r"has 10 tokens, more than data.max_length 4"):
        own.examples("train")
