"""A stored adapter made smaller with data: what is written is what was measured, and stock PEFT reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

import autolora
from autolora.context.base import Context
from autolora.errors import RunError, UserError
from autolora.evaluation.loss import mean_loss
from autolora.experiment import compress as module
from autolora.experiment.adapter_fit import fitting, load_stored
from autolora.experiment.compress import compress_with_data
from autolora.experiment.compressed import Compressed
from autolora.experiment.stored_adapter import read_stored
from autolora.lora.ranks import Ranks
from autolora.lora.stored import TENSORS, lora_shapes, rank_in, read_config, read_shapes, scaling_in
from autolora.methods import measure
from autolora.methods.measure import held_out, sample
from autolora.tasks.scored import over_splits
from autolora.training.finetune import Finetuning
from autolora.training.seeds import derive
from tests.experiment.adapters import MODELS, NAMES, brought, edit_config, logits, recipe_of, stock, write_adapter


def keeping(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is written from here on: the models themselves."""
    kept: list[Any] = []
    write = module._write
    monkeypatch.setattr(module, "_write", lambda adapted, *rest: (kept.append(adapted.eval()), write(adapted, *rest)))
    return kept


def loss_of(model: nn.Module, context: Context, examples: Sequence[Any] | None = None) -> float:
    return mean_loss(
        model,
        context.task,
        context.examples("train") if examples is None else examples,
        lambda each: context.task.collate(each, tokenizer=context.tokenizer),
        batch_size=4,
        compute=context.compute,
    )


def updates(adapter: Path) -> dict[str, Tensor]:
    """The update s B A of every layer, (m, n)."""
    from safetensors.torch import load_file

    tensors, config = load_file(adapter / TENSORS), read_config(adapter)
    found = {}
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = tensors[key.replace("lora_A", "lora_B")].double()
            found[name] = scaling_in(config, name) * b @ tensors[key].double()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_stock_peft_loads_what_was_measured(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, context = brought(tmp_path, name)
    kept = keeping(monkeypatch)
    found = compress_with_data(adapter, context.recipe, 0.4, tmp_path / "small", heal=3)
    (written,) = kept
    ours, theirs = logits(written, context), logits(stock(found.output, context), context)
    assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()
    assert (ours - logits(stock(adapter, context), context)).abs().max() > 1e-3 * ours.abs().max()
    full = sum(4 * sum(shape) for shape in found.ranks.shapes.values())
    assert found.parameters == (full, found.ranks.parameters)
    assert 0 < found.ranks.parameters <= 0.4 * full
    assert found.before
    assert len(found.before) == len(found.squeezed) == len(found.healed)
    config = read_config(found.output)
    assert {layer: rank_in(config, layer) for layer in found.ranks} == dict(found.ranks)
    assert {scaling_in(config, layer) for layer in found.ranks.targets} == {2.0}
    wanted = lora_shapes(found.ranks, found.ranks.shapes)
    assert {key: each for key, each in read_shapes(found.output).items() if ".lora_" in key} == wanted
    assert Ranks.load(found.output / "ranks.json") == found.ranks


def whole(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """With labels at every position, as other people's batches have them."""
    if (labels := batch["labels"]).ndim == 2:
        lacking = batch["input_ids"].shape[1] - labels.shape[1]
        return {**batch, "labels": nn.functional.pad(labels, (lacking, 0), value=-100)}
    return batch


@pytest.mark.parametrize("name", ["classification", "tagging", "llama"])
def test_the_scores_before_are_stock_pefts_and_the_ranks_are_squeezes(name: str, tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, name)
    recipe = context.recipe
    found = compress_with_data(adapter, recipe, 0.4, tmp_path / "small")
    model, examples = stock(adapter, context), context.examples("validation")
    predictions = [
        record
        for i in range(0, len(examples), recipe.eval.batch_size)
        for record in context.task.predict(
            model, context.task.collate(examples[i : i + 3], context.tokenizer), context.tokenizer
        )
    ]
    assert found.before == over_splits(context.task.metrics(predictions, examples))
    rows = sample(context.examples("train"), recipe)
    batches = [whole(batch) for batch, _ in measure._batches(context, rows, recipe.retrain.batch_size)]
    ranks = autolora.squeeze(cast(PeftModel, model), batches, 0.4, seed=derive(recipe.seed, "fisher"))
    assert (dict(ranks), ranks.kept) == (dict(found.ranks), found.ranks.kept)
    assert found.predicted_rise == pytest.approx(ranks.rule["predicted_rise"], rel=1e-4)


def test_every_module_keeps_its_own_rank_and_scaling(tmp_path: Path) -> None:
    adapter, context = brought(
        tmp_path,
        "classification",
        use_rslora=True,
        rank_pattern={"layer.0.attention.self.query": 7},
        alpha_pattern={"intermediate.dense": 3},
    )
    found = compress_with_data(adapter, context.recipe, 1.0, tmp_path / "small")
    before, after = updates(adapter), updates(found.output)
    assert before.keys() == after.keys() == found.ranks.keys()
    for name in before:
        assert torch.allclose(before[name], after[name], atol=1e-6)
    assert max(found.ranks.values()) == 7
    assert found.parameters[0] == found.parameters[1] == 7 * 32 + 4 * 32 + 2 * 4 * 48
    ours, theirs = (logits(stock(each, context), context) for each in (adapter, found.output))
    assert torch.allclose(ours, theirs, atol=1e-5)
    again = compress_with_data(found.output, context.recipe, 0.3, tmp_path / "smaller")  # what was compressed
    assert again.parameters[0] == found.parameters[1] > 3 * again.parameters[1]


def test_the_fraction_is_of_the_adapters_own_parameters(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification", rank_pattern={"query": 2})
    full = 2 * 2 * 32 + 2 * 4 * 48
    found = compress_with_data(adapter, context.recipe, {"fraction": 0.5}, tmp_path / "a", measure=False)
    assert (found.parameters[0], found.before, found.after) == (full, (), ())
    assert 0.5 * full - 32 < found.parameters[1] <= 0.5 * full
    found = compress_with_data(adapter, context.recipe, {"rank": 1}, tmp_path / "b", measure=False)
    assert 160 - 32 < found.parameters[1] <= 160


def test_healing_lowers_the_loss_and_trains_the_head_along(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    squeezed = compress_with_data(adapter, context.recipe, 0.2, tmp_path / "squeezed")
    healed = compress_with_data(adapter, context.recipe, 0.2, tmp_path / "healed", heal=30)
    assert squeezed.ranks == healed.ranks
    assert healed.squeezed == squeezed.after
    losses = [loss_of(stock(each.output, context), context) for each in (squeezed, healed)]
    assert losses[1] < 0.7 * losses[0]
    heads = [stock(each, context).get_submodule(HEAD).weight for each in (adapter, squeezed.output, healed.output)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])


HEAD = "base_model.model.classifier.modules_to_save.default"


def test_the_size_within_a_tolerance_is_measured_on_rows_that_squeeze_holds_out(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    compress_with_data(adapter, context.recipe, 1.0, tmp_path / "trained", heal=40)
    recipe = recipe_of(tmp_path, "classification", ranks={"held_out": 0.5}).recipe
    found = compress_with_data(tmp_path / "trained", recipe, {"tolerance": 0.2}, tmp_path / "small")
    _, rows = held_out(context.examples("train"), recipe)
    assert found.examples == len(rows) == 4
    all_of_it, small = (loss_of(stock(tmp_path / each, context), context, rows) for each in ("trained", "small"))
    model = stock(tmp_path / "trained", context)
    for key, parameter in model.named_parameters():
        if ".lora_B." in key:
            torch.nn.init.zeros_(parameter)  # the head stays: it is no part of what LoRA has gained
    none = loss_of(model, context, rows)
    assert found.measured_rise == pytest.approx(small - all_of_it, abs=1e-5)
    assert small - all_of_it <= 0.2 * (none - all_of_it)
    assert found.parameters[1] < found.parameters[0]


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    calls = [compress_with_data(adapter, context.recipe, 0.3, tmp_path / each, heal=3) for each in ("one", "two")]
    files = [{path.name: path.read_bytes() for path in call.output.iterdir()} for call in calls]
    assert files[0] == files[1]
    assert {"adapter_config.json", "adapter_model.safetensors", "ranks.json", "compressed.json"} <= files[0].keys()
    other = compress_with_data(adapter, context.recipe.model_copy(update={"seed": 5}), 0.3, tmp_path / "three", heal=3)
    assert (other.output / TENSORS).read_bytes() != files[0][TENSORS]


def test_the_record_says_what_it_came_to(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    found = compress_with_data(adapter, context.recipe, 0.3, tmp_path / "small", heal=2, score="spectrum")
    record = json.loads((tmp_path / "small" / "compressed.json").read_text())
    assert record["source"] == read_stored(adapter).hashes
    assert (record["score"], record["budget"], record["heal"]) == ("spectrum", {"fraction": 0.3}, 2)
    assert record["parameters"] == {"before": found.parameters[0], "after": found.parameters[1]}
    for when, scores in {"before": found.before, "squeezed": found.squeezed, "healed": found.healed}.items():
        assert [each["value"] for each in record["scores"][when]] == [each.value for each in scores]
    assert read_config(tmp_path / "small")["base_model_name_or_path"] == str(tmp_path / "model")


def refused(adapter: Path, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """The message, given before any pass and with nothing written."""

    def no_pass(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a pass was made")

    for name in ("predictions_of", "measured_gates", "_heal"):
        monkeypatch.setattr(module, name, no_pass)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        compress_with_data(adapter, recipe, options.pop("budget", 0.4), tmp_path / "small", **options)
    assert sorted(tmp_path.rglob("*")) == before
    return str(error.value)


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "another base": (
        {"base_model_name_or_path": "google-bert/bert-base-uncased"},
        "the adapter was trained on google-bert/bert-base-uncased; where both are the same model, say so with --model",
    ),
    "another task": (
        {"task_type": "TOKEN_CLS"},
        "task_type is TOKEN_CLS, and the recipe's task classification is SEQ_CLS",
    ),
    "AdaLoRA": ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA', and only a LORA has"),
    "DoRA": ({"use_dora": True}, "use_dora is 'True'"),
    "biases of LoRA": ({"lora_bias": True}, "lora_bias is 'True'"),
    "what only a later PEFT has": (
        {"use_whatever": [1]},
        "use_whatever is '[1]', a setting that this version",
    ),
    "trained biases": ({"bias": "all"}, "bias is 'all': a layer that keeps nothing would lose its trained bias"),
    "tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices is '[1]'"),
    "experts": ({"target_parameters": ["experts.down"]}, "target_parameters is \"['experts.down']\""),
    "a changed base": (
        {"init_lora_weights": "pissa"},
        "init_lora_weights is 'pissa': PEFT changes the weights",
    ),
    "no such layer": ({"target_modules": ["quarry"]}, "PEFT makes no adapter of its adapter_config.json"),
    "fewer layers": (
        {"target_modules": ["query"]},
        "bert.encoder.layer.0.intermediate.dense.lora_A.weight is not part of this adapter",
    ),
    "another rank": ({"r": 3}, "has rank 4, and adapter_config.json says 3"),
    "no head": ({"modules_to_save": ["pooler"]}, "bert.pooler.dense.bias is missing"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_does_not_fit_is_refused_by_name(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, context = brought(tmp_path, "classification")
    entries, message = CHANGED[what]
    edit_config(adapter, **entries)
    assert message in refused(adapter, context.recipe, tmp_path, monkeypatch)


def test_a_model_in_another_place_is_the_users_word(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "regression")
    edit_config(adapter, base_model_name_or_path="somebody/model", revision="abc")
    found = compress_with_data(adapter, context.recipe, 0.5, tmp_path / "small", elsewhere=True)
    config = read_config(found.output)
    assert (config["base_model_name_or_path"], config["revision"]) == ("somebody/model", "abc")


SECTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "other layers": (
        "classification",
        {"model": {"target_modules": ["query"]}},
        "model.target_modules leaves out bert.encoder.layer.0.intermediate.dense, "
        "bert.encoder.layer.1.intermediate.dense, which the adapter has",
    ),
    "another head": (
        "classification",
        {"model": {"head": ["classifier", "bert.pooler"]}},
        "model.head is classifier, bert.pooler, and the adapter's modules_to_save are classifier",
    ),
    "more classes": (
        "classification",
        {"data": {"labels": ["a", "b", "c"]}},
        "classifier.weight has the shape (2, 16), but should have (3, 16)",
    ),
    "classes in no order": (
        "classification",
        {"data": {"labels": None}},
        "says which output of the adapter is which of the classes a, b",
    ),
    "tags in no order": ("tagging", {"data": {"labels": None}}, "which of the classes O, B-X"),
}


@pytest.mark.parametrize("what", SECTIONS)
def test_a_recipe_that_does_not_fit_is_refused_by_name(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, sections, message = SECTIONS[what]
    adapter, _ = brought(tmp_path, name)
    recipe = recipe_of(tmp_path, name, **sections).recipe
    assert message in refused(adapter, recipe, tmp_path, monkeypatch)


def test_an_adapter_without_the_head_that_the_task_needs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, context = brought(tmp_path, "classification", task_type=None)
    said = refused(adapter, context.recipe, tmp_path, monkeypatch)
    assert "has no head of its own (modules_to_save)" in said
    assert "classifier.weight" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"budget": {"parameters": 31}},
            "the budget (parameters 31) is 31 of 640 parameters, and the smallest component",
        ),
        ({"score": "saliency"}, "--score: saliency is what a search leaves"),
        ({"score": "fischer"}, "did you mean"),
        ({"heal": -1}, "--heal: must be a whole number of steps, 0 for none, got -1"),
    ],
)
def test_what_is_asked_for_in_vain_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, context = brought(tmp_path, "classification")
    assert message in refused(adapter, context.recipe, tmp_path, monkeypatch, **options)


def test_what_is_no_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, context = brought(tmp_path, "classification")
    (tmp_path / "empty").mkdir()
    assert "has no adapter_config.json" in refused(tmp_path / "empty", context.recipe, tmp_path, monkeypatch)
    assert "has 1 adapter in folders of its own: brought" in refused(tmp_path, context.recipe, tmp_path, monkeypatch)
    (adapter / TENSORS).rename(adapter / "adapter_model.bin")
    assert "is a pickle, which can run code" in refused(adapter, context.recipe, tmp_path, monkeypatch)


def test_an_adapter_that_was_never_trained_or_has_diverged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    adapter, context = brought(tmp_path, "classification")
    tensors = load_file(adapter / TENSORS)
    for value, message in ((0.0, "every update of the adapter is zero"), (float("nan"), "not finite")):
        changed = {key: each * value if "lora_B" in key else each for key, each in tensors.items()}
        save_file(changed, adapter / TENSORS)
        assert message in refused(adapter, context.recipe, tmp_path, monkeypatch)


def test_an_output_that_is_there_stays(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    with pytest.raises(UserError, match=r"--output: .* is there already"):
        compress_with_data(adapter, context.recipe, 0.4, adapter)
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before


@pytest.mark.parametrize("when", ["diverged", "killed"])
def test_a_failure_leaves_nothing_behind(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, context = brought(tmp_path, "classification")
    before = sorted(tmp_path.rglob("*"))
    if when == "diverged":
        advance = Finetuning.advance
        infinite = {"train_loss": torch.tensor(float("inf"))}
        monkeypatch.setattr(Finetuning, "advance", lambda self, step: infinite if step == 3 else advance(self, step))
        said = r"heal, step 4: the train loss is inf .* lower retrain.weights.learning_rate \(it is 0.01\)"
        with pytest.raises(RunError, match=said):
            compress_with_data(adapter, context.recipe, 0.4, tmp_path / "small", heal=5)
    else:
        monkeypatch.setattr(Ranks, "save", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compress_with_data(adapter, context.recipe, 0.4, tmp_path / "small")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_loaded_is_what_stock_peft_loads(tmp_path: Path) -> None:
    context = recipe_of(tmp_path, "gpt2")
    options: dict[str, Any] = {
        "fan_in_fan_out": True,
        "layers_to_transform": [1],
        "target_modules": ["c_attn"],
        "lora_dropout": 0.4,
    }
    write_adapter(tmp_path / "brought", "gpt2", context, **options)
    stored = read_stored(tmp_path / "brought")
    ours = load_stored(stored, Context(fitting(context.recipe, stored), show=False))
    assert torch.equal(logits(ours.eval(), context), logits(stock(stored.folder, context), context))
    assert stored.layers == ("transformer.h.1.attn.c_attn",)


def test_names_of_classes_beside_an_adapter_count(tmp_path: Path) -> None:
    adapter, context = brought(tmp_path, "classification")
    unsaid = recipe_of(tmp_path, "classification", data={"labels": None}).recipe
    turned = dict(enumerate(reversed(NAMES["classification"])))
    (adapter / "config.json").write_text(json.dumps({"id2label": turned}))
    one = compress_with_data(adapter, unsaid, 1.0, tmp_path / "one")
    straight = compress_with_data_as_named(adapter, context, tmp_path / "two")
    assert one.before[0].value == pytest.approx(1 - cast(float, straight.before[0].value))
    with pytest.raises(UserError, match=r"data\.labels: the adapter was trained with the classes b, a, and the recipe"):
        compress_with_data(adapter, context.recipe, 1.0, tmp_path / "three")


def compress_with_data_as_named(adapter: Path, context: Context, output: Path) -> Compressed:
    """By the recipe's names, with none beside the adapter."""
    (adapter / "config.json").rename(adapter.parent / "config.json")
    try:
        return compress_with_data(adapter, context.recipe, 1.0, output)
    finally:
        (adapter.parent / "config.json").rename(adapter / "config.json")


VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "use_dora is 'True'"),
    "biases of LoRA": ({"lora_bias": True}, "lora_bias is 'True'"),
    "biases of its layers": ({"bias": "lora_only"}, "bias is 'lora_only'"),
    "tokens": ({"trainable_token_indices": {"word_embeddings": [1]}}, "trainable_token_indices is"),
    "an embedding": (
        {"target_modules": ["query", "word_embeddings"]},
        "word_embeddings is no linear layer",
    ),
    "PiSSA": (
        {"init_lora_weights": "pissa"},
        "init_lora_weights is 'pissa': PEFT changes the weights",
    ),
}


@pytest.mark.parametrize("what", VARIANTS)
def test_variants_that_peft_has_written_are_refused_by_name(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, message = VARIANTS[what]
    adapter, context = brought(tmp_path, "classification", **options)
    assert message in refused(adapter, context.recipe, tmp_path, monkeypatch)


def test_what_chose_the_layers_and_more_of_the_head_stay_as_they_are(tmp_path: Path) -> None:
    adapter, context = brought(
        tmp_path,
        "classification",
        exclude_modules=["encoder.layer.1.intermediate.dense"],
        modules_to_save=["bert.pooler"],
        lora_dropout=0.2,
    )
    stored = read_stored(adapter)
    assert stored.saved == ("bert.pooler", "classifier")
    assert len(stored.layers) == 3
    found = compress_with_data(adapter, context.recipe, 0.9, tmp_path / "small", heal=2)
    again = read_stored(found.output)
    assert (again.saved, again.names) == (stored.saved, ("a", "b"))
    assert set(again.layers) == set(found.ranks.targets) <= set(stored.layers)
    before, after = (stock(each, context) for each in (adapter, found.output))
    pooler = "base_model.model.bert.pooler.modules_to_save.default.dense.weight"
    assert not torch.equal(before.get_parameter(pooler), after.get_parameter(pooler))
