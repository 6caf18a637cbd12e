"""rsLoRA, DoRA, LoRA-FA, LoRA+: they are PEFT's, what is trained is what they say, and stock PEFT loads the result."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from torch import Tensor, nn

from autolora.comparison.plan import check_plan
from autolora.context.base import Context
from autolora.errors import RecipeError, UserError
from autolora.experiment.line import evaluate, run_stages
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.methods.base import Method, method_of
from autolora.recipe.method import VARIANTS, label, parse_method
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning, Training
from autolora.training.optimizers import ScheduledOptimizer
from tests.laboratory import tiny_run
from tests.methods.linked import LAYERS, layer_of, reopened, spent
from tests.methods.support import interrupted_run, logits, trained_and_loaded_logits
from tests.methods.test_squeeze_families import MODELS
from tests.methods.test_squeeze_families import logits as family_logits
from tests.methods.test_squeeze_families import stock as stock_of
from tests.model.folders import write_model
from tests.model.recipes import made

PLAIN = ("retrain.lora_dropout=0", "retrain.weights.learning_rate=3e-2", "retrain.steps=12")
ALPHA, K, R = 16.0, 4, 2  # of tiny.yaml, and of the words below
HEAD = 32 * 2 + 2
CONFIGS: dict[str, dict[str, Any]] = {
    "rslora": {"lora_alpha": ALPHA, "use_rslora": True},
    "dora": {"lora_alpha": ALPHA * R / K, "use_dora": True},
    "lora-fa": {"lora_alpha": ALPHA * R / K},
    "lora-plus": {"lora_alpha": ALPHA * R / K},
    "pissa": {"lora_alpha": ALPHA * R / K, "init_lora_weights": "pissa"},
    "olora": {"lora_alpha": ALPHA * R / K, "init_lora_weights": "olora"},
}
TRAINED = {"dora": 4 * (R * 64 + 32), "lora-fa": 4 * R * 32}  # of four layers of 32 x 32; the others train both factors


def begun(laboratory: Path, output: Path, method: str, *overrides: str) -> tuple[Training, Context]:
    """What a method trains, before its first step; drawn from seed 0."""
    run, context = tiny_run(laboratory, output, method, *PLAIN, *overrides)
    model = context.model()
    torch.manual_seed(0)
    return method_of(run).adapt(model, context.head(model), context, 12), context


def of_peft(context: Context, name: str, r: int = R) -> PeftModel:
    """The same through PEFT alone, drawn from the same seed."""
    config = LoraConfig(r=r, target_modules=LAYERS, modules_to_save=["classifier"], **CONFIGS[name])
    model = context.model()
    torch.manual_seed(0)
    return get_peft_model(model, config)


def gradients(model: nn.Module, context: Context) -> dict[str, Tensor]:
    batch = context.task.collate(context.examples("train")[:6], tokenizer=context.tokenizer)
    model.eval().zero_grad()
    model(**batch).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and "original" not in n}


@torch.no_grad()
def move(model: nn.Module) -> None:
    torch.manual_seed(1)
    for name in LAYERS:
        for part in (layer_of(model, name).lora_A, layer_of(model, name).lora_B):
            weight = part["default"].weight
            weight.add_(0.1 * torch.randn_like(weight))


@pytest.mark.parametrize("name", VARIANTS)
def test_it_begins_as_pefts_own(laboratory: Path, tmp_path: Path, name: str) -> None:
    """Logits and first gradients, where A, B and the head have moved off their beginnings alike, too."""
    training, context = begun(laboratory, tmp_path, f"{name}:{R}")
    ours, theirs = training.model, of_peft(context, name)
    assert torch.equal(logits(ours.eval(), context), logits(theirs.eval(), context))
    for moved in (False, True):
        if moved:
            move(ours)
            move(theirs)
        mine, other = gradients(ours, context), gradients(theirs, context)
        if name == "lora-fa":
            other = {key: value for key, value in other.items() if ".lora_A." not in key}
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], other[key]) for key in mine)
        assert any(value.abs().max() > 0 for key, value in mine.items() if ".lora_B." in key)


@pytest.mark.parametrize("name", VARIANTS)
def test_stock_peft_loads_on_the_original_model_what_was_trained(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run, context = tiny_run(laboratory, tmp_path, f"{name}:{R}", *PLAIN)
    trained, ours = trained_and_loaded_logits(run, context, monkeypatch)
    stock = PeftModel.from_pretrained(context.model(), run.path / "adapter").eval()
    assert torch.equal(logits(stock, context), ours)
    assert (trained - ours).abs().max() <= 1e-5 * trained.abs().max()
    assert (trained - logits(context.model().eval(), context)).abs().max() > 1e-2 * trained.abs().max()
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert (config["use_rslora"], config["use_dora"]) == (name == "rslora", name == "dora")
    lora = TRAINED.get(name, 4 * R * 64)
    counts = spent(run, "retrain")
    assert (counts["trainable_parameters"], counts["head_parameters"]) == (lora + HEAD, HEAD)
    (row,) = evaluate(run, context)
    assert (row["total rank"], row["LoRA parameters"]) == (4 * R, lora)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Even where what is drawn or decomposed at the beginning would be another the second time."""
    whole, context = tiny_run(laboratory, tmp_path / "whole", f"{name}:{R}", "retrain.steps=8")
    retrain(whole, context)
    run = interrupted_run(laboratory, tmp_path / "parts", f"{name}:{R}", monkeypatch, "retrain.steps=8")
    monkeypatch.setattr("autolora.experiment.retrain.seed_torch", lambda seed: torch.manual_seed(12345))
    monkeypatch.setattr("autolora.methods.residual.Pissa.factors", lambda *_: pytest.fail("decomposed again"))
    monkeypatch.setattr("autolora.methods.residual.Olora.factors", lambda *_: pytest.fail("decomposed again"))
    again, context = reopened(run)
    retrain(again, context)
    for file in ("adapter/adapter_model.safetensors", "retrain/ranks.json", "retrain/log.jsonl"):
        assert (run.path / file).read_bytes() == (whole.path / file).read_bytes()


@pytest.mark.parametrize("r", [1, 2, 9])
def test_rslora_is_scaled_by_the_root_of_its_rank(laboratory: Path, tmp_path: Path, r: int) -> None:
    training, _ = begun(laboratory, tmp_path, f"rslora:{r}", "retrain.lora_alpha=6")
    scalings = {layer_of(training.model, name).scaling["default"] for name in LAYERS}
    assert scalings == {6 / math.sqrt(r)}


def test_doras_magnitudes_begin_as_the_norms_and_are_trained(laboratory: Path, tmp_path: Path) -> None:
    training, context = begun(laboratory, tmp_path, f"dora:{R}")
    for name in LAYERS:
        magnitude = layer_of(training.model, name).lora_magnitude_vector["default"].weight
        norms = context.model().get_submodule(name).weight.norm(dim=1)
        assert torch.allclose(magnitude, norms, rtol=1e-6)
    run, context = tiny_run(laboratory, tmp_path, f"dora:{R}", *PLAIN)
    retrain(run, context)
    stored = load_file(run.path / "adapter" / "adapter_model.safetensors")
    for name in LAYERS:
        norms = context.model().get_submodule(name).weight.norm(dim=1)
        moved = (stored[f"base_model.model.{name}.lora_magnitude_vector"] - norms).abs().max()
        assert 1e-3 < moved < 1


def test_lora_fa_leaves_a_as_it_was_drawn(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, f"lora-fa:{R}", *PLAIN)
    firsts: list[dict[str, Tensor]] = []
    method = type(method_of(run))
    with pytest.MonkeyPatch.context() as patch:
        adapt = method.adapt

        def kept(self: Any, *more: Any) -> Training:
            training = adapt(self, *more)
            firsts.append({n: p.detach().clone() for n, p in training.model.named_parameters() if ".lora_" in n})
            return training

        patch.setattr(method, "adapt", kept)
        retrain(run, context)
    last = load_file(run.path / "adapter" / "adapter_model.safetensors")
    for name, value in firsts[0].items():
        same = torch.equal(value, last[name.replace(".default", "")])
        assert same == (".lora_A." in name)


def test_lora_plus_takes_pefts_steps(laboratory: Path, tmp_path: Path) -> None:
    """A and B after the first; the ratio is 16 unless it is said."""
    for word, ratio in ((f"lora-plus:{R}", 16.0), (f"lora-plus:{R}:ratio=4", 4.0)):
        training, context = begun(laboratory, tmp_path, word)
        settings = context.recipe.retrain.weights.model_copy(update={"schedule": "constant", "warmup": 0.0})
        trained = {name: p for name, p in training.model.named_parameters() if p.requires_grad}
        ours = ScheduledOptimizer(trained, settings, 12, factors=training.factors)
        other = of_peft(context, "lora-plus")
        theirs = create_loraplus_optimizer(other, torch.optim.AdamW, lr=settings.learning_rate, loraplus_lr_ratio=ratio)
        move(training.model)
        move(other)
        found = gradients(training.model, context)
        ours.apply([found[name] for name in trained], 0)
        gradients(other, context)
        theirs.step()
        second = dict(other.named_parameters())
        for name, value in trained.items():
            if ".lora_" in name:
                assert torch.allclose(value, second[name], rtol=1e-5, atol=1e-7), name
        assert set(training.factors.values()) == {ratio}
        assert {name for name in trained if ".lora_B." in name} == set(training.factors)


def test_lora_plus_at_a_ratio_of_one_is_lora(laboratory: Path, tmp_path: Path) -> None:
    files = []
    for word in (f"lora:{R}", f"lora-plus:{R}:ratio=1", f"lora-plus:{R}"):
        run, context = tiny_run(laboratory, tmp_path, word, "retrain.steps=5", "eval.batch_size=8")
        run_stages(run, context)
        files.append((run.path / "adapter" / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_are_trained_and_stock_peft_loads_them(name: str, family: str, tmp_path: Path) -> None:
    trained_in_a_family(tmp_path, family, name)


@pytest.mark.parametrize(
    ("family", "name"), [("regression", "olora"), ("regression", "lora-fa"), ("tagging", "dora"), ("t5", "pissa")]
)
def test_all_other_families_are(name: str, family: str, tmp_path: Path) -> None:
    run, context = trained_in_a_family(tmp_path, family, name)
    assert evaluate(run, context)


def trained_in_a_family(tmp_path: Path, family: str, name: str) -> tuple[Run, Context]:
    run, context = ended(tmp_path, family, {"name": name, "size": 3})
    ours = family_logits(method_of(run).load(context.model(), context).eval(), context)
    assert (ours - family_logits(stock_of(run, context), context)).abs().max() <= 1e-5 * ours.abs().max()
    assert (ours - family_logits(context.model().eval(), context)).abs().max() > 1e-4 * ours.abs().max()
    sides = [run.ranks().shapes[layer] for layer in run.ranks()]
    per = {"dora": lambda n, m: 3 * (n + m) + m, "lora-fa": lambda n, m: 3 * m}.get(name, lambda n, m: 3 * (n + m))
    counts = spent(run, "retrain")
    assert counts["trainable_parameters"] - counts["head_parameters"] == sum(per(n, m) for n, m in sides)
    return run, context


def ended(folder: Path, family: str, method: dict[str, Any]) -> tuple[Run, Context]:
    kind, auto_class, targets = MODELS[family]
    model = write_model(folder / "model", kind, auto_class, eos=kind == "t5", pair=kind == "bert")
    context = made(
        folder,
        family if kind == "bert" else "generation",
        model,
        model={"name": str(model), "target_modules": targets, "dtype": "float32"},
        retrain={"steps": 2, "batch_size": 4, "weights": {"learning_rate": 2e-2}},
        method=method,
    )
    run = Run.create(folder / "runs", context.recipe)
    retrain(run, context)
    return run, context


@pytest.mark.parametrize("name", VARIANTS)
def test_words_are_read_and_written_and_tuned_like_all_others(laboratory: Path, tmp_path: Path, name: str) -> None:
    method = parse_method(f"{name}:{R}:learning_rate=1e-3:targets=key")
    assert parse_method(label(method)) == method
    recipe = load_recipe(laboratory / "tiny.yaml")
    check_plan([recipe], [method])
    run, _ = tiny_run(laboratory, tmp_path, label(method))
    assert method_of(run).weights().learning_rate == 1e-3
    assert method_of(run).workload(recipe, 60) == (0, 30)
    with pytest.raises(UserError, match=f"method '{name}' needs a size: {name}:4"):
        check_plan([recipe], [parse_method(name)])
    with pytest.raises(RecipeError, match=r"method.size: rank 33 is above the smaller side of .*\(32\)"):
        load_recipe(laboratory / "tiny.yaml", [f"method.name={name}", "method.size=33", "method.targets=[key]"])


def test_a_ratio_is_lora_pluss_alone(laboratory: Path) -> None:
    recipe = load_recipe(laboratory / "tiny.yaml")
    assert label(parse_method("lora-plus:4:ratio=8")) == "lora-plus:4:ratio=8"
    with pytest.raises(UserError, match=r"method\.ratio: lora trains A and B at one rate"):
        check_plan([recipe], [parse_method("lora:4:ratio=8")])
    with pytest.raises(UserError, match=r"ratio: .*1 to 10000"):
        parse_method("lora-plus:4:ratio=0.5")


def test_a_run_without_a_ratio_is_what_it_was_before_there_was_one(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path, f"lora:{R}")
    (settings,) = Method.identity(method_of(run))
    assert settings == {
        **{"name": "lora", "size": R, "learning_rate": None, "at": None, "targets": None},
        "budget": dict.fromkeys(["fraction", "parameters", "rank", "tolerance"]),
    }


def test_what_peft_cannot_adapt_is_refused_before_the_first_step(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = tiny_run(laboratory, tmp_path, f"dora:{R}", *PLAIN)
    monkeypatch.setattr(
        "autolora.methods.peft.add_adapter", lambda *_: (_ for _ in ()).throw(ValueError("Foo does not support DoRA"))
    )
    monkeypatch.setattr(Finetuning, "advance", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(
        UserError, match=r"dora: PEFT makes no such adapter of these layers \(Foo does not support DoRA"
    ):
        retrain(run, context)
