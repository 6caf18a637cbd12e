"""The loss of tokens whose logits are made a chunk at a time is the loss of all logits; so are its derivatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from autolora.lora.selection import add_selection
from autolora.tasks import token_loss as tokens
from autolora.tasks.hidden_states import HiddenStates, before_head
from autolora.tasks.token_loss import Pass, sampled_token_loss, token_loss, token_scores
from autolora.training.gradients import twice_differentiable_attention
from autolora.training.live import LiveBytes
from autolora.training.seeds import generator

VOCABULARY = 67
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
T5: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    **{
        f"{part}_{what}": size
        for part in ("encoder", "decoder")
        for what, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
    },
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SMALL),
    "llama, tied": ("LlamaConfig", {**SMALL, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", SMALL),
    "gemma2, a soft cap": ("Gemma2Config", {**SMALL, "final_logit_softcapping": 0.5}),
    "gemma3": ("Gemma3TextConfig", {**SMALL, "final_logit_softcapping": 0.5}),
    "mixtral": ("MixtralConfig", {**SMALL, "num_local_experts": 2}),
    "gpt2": ("GPT2Config", GPT),
    "phi, a bias": ("PhiConfig", {**SMALL, "num_key_value_heads": 2}),
    "cohere, a scale": ("CohereConfig", {**SMALL, "logit_scale": 3.0}),
    "granite, a scale": ("GraniteConfig", {**SMALL, "logits_scaling": 0.3}),
    "falcon h1, a scale": ("FalconH1Config", {**SMALL, "lm_head_multiplier": 2.5, "mamba_d_ssm": 16,
                                             "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_n_groups": 1,
                                             "mamba_d_state": 4}),
    "t5, tied": ("T5Config", T5),
    "bart, a bias": ("BartConfig", BART),
}  # fmt: skip
ROWS, WIDTH = 3, 9


def build(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A random model with weights large enough for differences to show."""
    kind, options = MODELS[name]
    config = getattr(transformers, kind)(**{**options, "initializer_range": 0.2})
    config.pad_token_id = 0
    config._experts_implementation = "eager"  # the grouped product has no float64
    torch.manual_seed(0)
    auto = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    model: nn.Module = getattr(transformers, auto).from_config(config).to(dtype).eval()
    for label, tensor in (*model.named_parameters(), *model.named_buffers()):
        if label.endswith(("lm_head.bias", "final_logits_bias")):  # which begin at zero
            tensor.data.normal_()
    return model


def passed(model: Any) -> tuple[Pass, Tensor]:
    """A pass over padded examples, and labels at some of its positions."""
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (ROWS, WIDTH), generator=rng)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    labels = torch.randint(3, VOCABULARY, (ROWS, 5), generator=rng).masked_fill(mask[:, -5:] == 0, -100)
    labels[1, 0] = -100
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        return Pass({**inputs, "decoder_input_ids": ids[:, :5]}, slice(None)), labels
    return Pass({**inputs, "use_cache": False}, slice(-6, -1)), labels


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives chunks a number of positions."""

    def rows(count: int) -> None:
        monkeypatch.setattr(tokens, "WHOLE", 0)
        monkeypatch.setattr(tokens, "CHUNK", 4 * VOCABULARY * count)

    return rows


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was said of models that cannot be taken apart: nothing, unless a test clears it."""
    found: list[str] = []
    monkeypatch.setattr(tokens, "warn", found.append)
    monkeypatch.setattr(tokens, "_said", set())
    yield found
    assert not found


def full(model: nn.Module, given: Pass, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The truth: one cross-entropy of all logits."""
    logits = model(**given.inputs).logits[:, given.positions].flatten(0, 1)
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return F.cross_entropy(logits, labels.flatten(), reduction="sum", label_smoothing=smoothing)


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, trained, materialize_grads=True))


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_the_loss_and_the_gradients_of_all_logits(name: str, chunked: Callable[[int], None]) -> None:
    model = build(name)
    given, labels = passed(model)
    expected = full(model, given, labels, 0.1)
    chunked(3)
    found = token_loss(model, given, labels, 0.1)
    assert isinstance(before_head(model, given.inputs), HiddenStates)
    assert close(found, expected, 1e-12)
    for mine, truth in zip(gradients(found, model), gradients(expected, model), strict=True):
        assert (mine - truth).abs().max() <= 1e-12 * max(1, float(truth.abs().max()))


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_chunk_may_have_any_size(
    rows: int, dtype: torch.dtype, tolerance: float, chunked: Callable[[int], None]
) -> None:
    model = build("gemma2, a soft cap", dtype)
    given, labels = passed(model)
    expected = full(model, given, labels)
    chunked(rows)
    found = token_loss(model, given, labels)
    assert close(found, expected, tolerance)
    both = zip(gradients(found, model), gradients(expected, model), strict=True)
    largest = max(float(truth.abs().max()) for truth in gradients(full(model, given, labels), model))
    assert all((mine - truth).abs().max() <= tolerance * largest for mine, truth in both)


def test_small_logits_are_made_whole_and_give_the_same_bits() -> None:
    model = build("llama", torch.float32)
    given, labels = passed(model)
    assert torch.equal(token_loss(model, given, labels), full(model, given, labels))


def lora_on_the_head(model: Any) -> nn.Module:
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def head_in_full(model: Any) -> nn.Module:
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    return get_peft_model(model, config)


def prefix(model: Any) -> nn.Module:
    return get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))


def selected(model: Any) -> nn.Module:
    layers = add_selection(model, ["v_proj", "lm_head"], rank=2)
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("adapted", [lora_on_the_head, head_in_full, prefix, selected])
def test_adapted_heads_and_prefixes(adapted: Callable[[Any], nn.Module], chunked: Callable[[int], None]) -> None:
    model = adapted(build("llama")).double()
    given, labels = passed(model)
    if adapted is prefix:  # PEFT's hands its own cache to the model
        given = Pass({key: value for key, value in given.inputs.items() if key != "use_cache"}, given.positions)
    expected = full(model, given, labels)
    chunked(4)
    found = token_loss(model, given, labels)
    assert close(found, expected, 1e-12)
    for mine, truth in zip(gradients(found, model), gradients(expected, model), strict=True):
        assert (mine - truth).abs().max() <= 1e-12 * max(1, float(truth.abs().max()))


def test_mixed_second_derivatives_are_those_of_all_logits(chunked: Callable[[int], None]) -> None:
    model = selected(build("gemma2, a soft cap"))
    given, labels = passed(model)
    named = dict(model.named_parameters())
    z = [tensor for name, tensor in named.items() if "selection_logits" in name]
    weights = [tensor for name, tensor in named.items() if "lora_" in name]

    def mixed(loss: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(loss, weights, create_graph=True)
        return list(torch.autograd.grad(torch.stack([(g * g.detach()).sum() for g in first]).sum(), z))

    with twice_differentiable_attention():
        expected = mixed(full(model, given, labels))
        chunked(4)
        found = mixed(token_loss(model, given, labels))
    assert all(truth.abs().max() > 1e-3 for truth in expected)
    assert all(close(mine, truth, 1e-10) for mine, truth in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["gemma2, a soft cap", "cohere, a scale"])
def test_autocast_rounds_as_it_does_for_all_logits(name: str, chunked: Callable[[int], None]) -> None:
    model = build(name, torch.float32)
    given, labels = passed(model)
    with torch.autocast("cpu", torch.bfloat16):
        expected = full(model, given, labels)
        chunked(4)
        found = token_loss(model, given, labels)
    assert found.dtype == torch.float32
    assert close(found, expected, 1e-5)
    for mine, truth in zip(gradients(found, model), gradients(expected, model), strict=True):
        assert (mine - truth).abs().max() <= 2e-2 * max(1e-3, float(truth.abs().max()))


def test_dropout_and_gradient_checkpointing_change_nothing(chunked: Callable[[int], None]) -> None:
    model: Any = build("gpt2")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    given, labels = passed(model)
    torch.manual_seed(5)
    expected = full(model, given, labels)
    truths = gradients(expected, model)
    chunked(4)
    torch.manual_seed(5)
    found = token_loss(model, given, labels)
    after = torch.rand(1)
    assert close(found, expected, 1e-12)
    assert all(close(mine, truth, 1e-10) for mine, truth in zip(gradients(found, model), truths, strict=True))
    torch.manual_seed(5)
    full(model, given, labels)
    assert torch.equal(torch.rand(1), after)  # the chunks draw nothing


def test_draws_and_scores_are_the_same_whatever_the_chunks(chunked: Callable[[int], None]) -> None:
    model = build("cohere, a scale")
    given, labels = passed(model)
    truth = sampled_token_loss(model, given, labels, generator(3))
    gradient = gradients(truth.loss, model)[0]
    other = sampled_token_loss(model, given, labels, generator(4))
    whole = token_scores(model, given, labels)
    assert not close(other.loss, truth.loss, 1e-3)
    logits = model(**given.inputs).logits[:, given.positions]
    wanted = labels != -100
    assert close(-whole.log_probabilities.sum(), full(model, given, labels), 1e-12)
    assert torch.equal(whole.hits, (logits.argmax(-1) == labels) & wanted)
    for rows in (1, 4):
        chunked(rows)
        found = sampled_token_loss(model, given, labels, generator(3))
        assert found.units == truth.units == int(wanted.sum())
        assert close(found.loss, truth.loss, 1e-12)
        assert close(gradients(found.loss, model)[0], gradient, 1e-10)
        scores = token_scores(model, given, labels)
        assert close(scores.log_probabilities, whole.log_probabilities, 1e-12)
        assert torch.equal(scores.hits, whole.hits)


def test_a_batch_without_labels_has_no_loss(chunked: Callable[[int], None]) -> None:
    model = build("llama")
    given, labels = passed(model)
    chunked(4)
    loss = token_loss(model, given, torch.full_like(labels, -100))
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(loss, model))


class Odd(nn.Module):
    """Around a model: its forward, with something done to the logits."""

    def __init__(self, inner: Any, change: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.config, self.change = inner, inner.config, change

    def get_output_embeddings(self) -> nn.Module:
        found: nn.Module = self.inner.lm_head
        return found

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        output.logits = self.change(self, output.logits)
        return output


def masked(self: Odd, logits: Tensor) -> Tensor:
    logits[:, :, 3:9] = -5.0
    return logits.mul_(1.5)


def over_positions(self: Odd, logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


def shifted(self: Odd, logits: Tensor) -> Tensor:
    return logits[:, -8:]


def by_value(self: Odd, logits: Tensor) -> Tensor:
    return logits / 2 if bool(logits.max() > 0) else logits


def twice(self: Odd, logits: Tensor) -> Tensor:
    return logits + self.inner.lm_head(self.inner.model.embed_tokens(torch.ones(1, 1, dtype=torch.long)))


def elsewhere(self: Odd, logits: Tensor) -> Tensor:
    return torch.from_numpy(logits.detach().numpy() * 2) + 0 * logits.sum()


def test_a_mask_over_the_vocabulary_is_made_again(chunked: Callable[[int], None]) -> None:
    model = Odd(build("llama"), masked)
    given, labels = passed(model)
    expected = full(model, given, labels)
    chunked(4)
    assert close(token_loss(model, given, labels), expected, 1e-12)
    assert isinstance(before_head(model, given.inputs), HiddenStates)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (over_positions, "depends on other positions"),
        (by_value, "looks at the values of its logits"),
        (twice, "several times"),
        (elsewhere, "looks at the values|something else"),
        (shifted, ""),
    ],
)
def test_what_cannot_be_made_piece_by_piece_is_made_whole_and_said_once(
    change: Callable[[Any, Tensor], Tensor], reason: str, chunked: Callable[[int], None], said: list[str]
) -> None:
    model = Odd(build("llama"), change)
    given, labels = passed(model)
    expected = full(model, given, labels)
    chunked(4)
    for _ in range(2):
        assert close(token_loss(model, given, labels), expected, 1e-12)
    if reason:
        assert len(said) == 1
        assert re.search(reason, said[0])
    said.clear()


def test_hooks_at_the_head_count_on_all_positions(chunked: Callable[[int], None], said: list[str]) -> None:
    model: Any = build("llama")
    given, labels = passed(model)
    shapes: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    chunked(4)
    token_loss(model, given, labels)
    assert shapes == [(ROWS, WIDTH, VOCABULARY)]
    assert "hooks at its output head" in said.pop()


def test_a_refused_pass_leaves_no_trace_in_the_random_numbers(chunked: Callable[[int], None], said: list[str]) -> None:
    model = Odd(build("gpt2").train(), over_positions)
    model.inner.lm_head = model.inner.lm_head
    given, labels = passed(model)
    chunked(4)
    found = []
    for _ in range(2):  # the first finds out that the model cannot be taken apart
        torch.manual_seed(2)
        found.append(token_loss(model, given, labels))
    assert torch.equal(*found)
    said.clear()


def peak(positions: int, vocabulary: int) -> int:
    """Bytes that a loss and its gradient take at most, beside the weights."""
    config = transformers.LlamaConfig(**{**SMALL, "vocab_size": vocabulary, "max_position_embeddings": 2000})
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    model.requires_grad_(False)
    wanted = model.model.layers[0].self_attn.q_proj.weight.requires_grad_()
    ids = torch.randint(3, vocabulary, (1, positions))
    given = Pass({"input_ids": ids, "use_cache": False}, slice(0, -1))
    with LiveBytes(model) as counted:
        torch.autograd.grad(token_loss(model, given, ids[:, 1:]), wanted)
    return counted.peak


def test_memory_does_not_grow_with_positions_times_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    positions, vocabulary = 400, 4001
    plain = peak(positions, vocabulary)
    assert plain > 2 * 4 * positions * vocabulary  # the logits and their gradient
    monkeypatch.setattr(tokens, "WHOLE", 0)
    monkeypatch.setattr(tokens, "CHUNK", 4 * vocabulary * 30)
    few = peak(positions, vocabulary)
    assert few < 4 * positions * vocabulary / 2
    # Twice the vocabulary at the same positions: chunks are of the same size, the rest does not depend on it.
    assert peak(positions, 2 * vocabulary) < 1.1 * few
