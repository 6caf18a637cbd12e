"""What cannot be compressed without its model is refused by name, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, get_peft_model
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, VeloraConfig
from safetensors.torch import load_file, save_file
from torch import nn

import autolora
from autolora import UserError
from tests.adapters.support import Convolutional, base, write_adapter

LLAMA = ["q_proj", "down_proj"]
TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain adapter."""
    folder = tmp_path_factory.mktemp("made") / "adapter"
    write_adapter(folder, base("llama"), LoraConfig(r=4, lora_alpha=6, target_modules=LLAMA))
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "adapter"))


def refused(folder: Path, said: str, budget: Any = 0.5, **options: Any) -> None:
    """Compressing it ends with this message, and nothing is written."""
    output = folder.parent / "output"
    with pytest.raises(UserError, match=said):
        autolora.compress(folder, budget, output, **options)
    assert not [path.name for path in folder.parent.iterdir() if path.name.startswith("output")]


def configure(folder: Path, **settings: Any) -> None:
    """Change settings in a configuration."""
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


class Experts(nn.Module):
    """A stack of experts, whose weights are one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bi,eio->bo", x, self.weight)


class Mixture(nn.Module):
    """A layer of them."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.out = Experts(), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out(self.experts(x))
        return found


WRITTEN: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "adalora": (
        lambda: base("llama"),
        AdaLoraConfig(target_modules=LLAMA, total_step=5, task_type="CAUSAL_LM"),
        "peft_type is 'ADALORA'.*save_as_lora",
    ),
    "ia3": (lambda: base("llama"), IA3Config(target_modules=LLAMA, feedforward_modules=["down_proj"]), "'IA3'"),
    "experts": (
        Mixture,
        LoraConfig(r=2, target_modules=["out"], target_parameters=["experts.weight"]),
        "target_parameters is .*experts.*merge_and_unload",
    ),
    "pissa": (
        lambda: base("llama"),
        LoraConfig(r=2, target_modules=LLAMA, init_lora_weights="pissa"),
        "init_lora_weights is 'pissa'.*path_initial_model_for_weight_conversion",
    ),
    "olora": (lambda: base("llama"), LoraConfig(r=2, target_modules=LLAMA, init_lora_weights="olora"), "'olora'"),
    "velora": (
        lambda: base("llama"),
        LoraConfig(r=2, target_modules=LLAMA, velora_config=VeloraConfig(num_groups=2)),
        "velora_config",
    ),
    "kasa": (lambda: base("llama"), LoraConfig(r=2, target_modules=LLAMA, kasa_config=KasaConfig()), "kasa_config"),
    "block-diagonal": (
        lambda: base("llama"),
        LoraConfig(r=2, target_modules=LLAMA, use_bdlora=BdLoraConfig(target_modules_bd_a=LLAMA, nblocks=2)),
        "use_bdlora",
    ),
    "convolution-in-groups": (
        lambda: Convolutional(groups=2),
        LoraConfig(r=4, target_modules=["second"]),
        "second has factors .* convolution in groups",
    ),
    "tied-factors": (
        lambda: base("llama"),
        LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True),
        "ensure_weight_tying",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.filterwarnings("ignore")
def test_what_peft_has_written(name: str, tmp_path: Path) -> None:
    make, config, said = WRITTEN[name]
    get_peft_model(make(), config).save_pretrained(str(tmp_path / "adapter"))
    refused(tmp_path / "adapter", said)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_qalora": True}, "QA-LoRA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
        ({"monteclora_config": {"num_samples": 2}}, "MonteCLoRA"),
        ({"megatron_config": {"a": 1}}, "import modules"),
        ({"use_hyperlora": True}, "use_hyperlora is 'True', a setting that this version of autolora does not know"),
        ({"use_rslor": True}, "did you mean 'use_rslora'"),
        ({"use_rslora": "false"}, "use_rslora must be true or false"),
        ({"bias": "some"}, "bias must be"),
        ({"r": 5}, "down_proj has rank 4, and adapter_config.json says 5"),
        ({"r": None}, "r is missing"),
        ({"rank_pattern": {"q_proj": 2}}, "q_proj has rank 4, and adapter_config.json says 2"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern must be"),
        ({"rank_pattern": {"q_proj": "4"}}, "rank_pattern must be"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern is"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"init_lora_weights": 3}, "init_lora_weights is '3'"),
        ({"peft_type": None}, "peft_type is 'None'"),
    ],
)
def test_what_a_configuration_says(settings: dict[str, Any], said: str, adapter: Path) -> None:
    configure(adapter, **settings)
    refused(adapter, said)


def test_a_setting_of_a_later_version_that_is_off_says_nothing(adapter: Path) -> None:
    configure(adapter, use_hyperlora=False, hyper_config=None)
    assert autolora.compress(adapter, 0.5, adapter.parent / "small").total


def _with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS, metadata={"format": "pt"})

    return write


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[FIRST][0, 0] = torch.nan


def _drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[FIRST]


def _zero(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.zero_()


def _rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "not finite": (_with_tensors(_nan), "q_proj has values that are not finite"),
    "untrained": (_with_tensors(_zero), "every update is zero"),
    "half a pair": (_with_tensors(_drop), "not both of its factors"),
    "another rank": (
        _with_tensors(lambda tensors: tensors.update({FIRST: tensors[FIRST][:2].clone()})),
        "q_proj has factors of the shapes",
    ),
    "an adapter's name": (_with_tensors(_rename(".lora_A.", ".lora_A.default.")), "kind that this version"),
    "no prefix": (_with_tensors(_rename("base_model.model.", "")), "no name of PEFT's"),
    "one byte numbers": (
        _with_tensors(lambda tensors: tensors.update({FIRST: tensors[FIRST].to(torch.float8_e4m3fn)})),
        "of type F8_E4M3",
    ),
    "experts": (_with_tensors(_rename("mlp.down_proj", "mlp.experts.0.w1")), "LoRA on experts"),
    "cut off": (lambda folder: os.truncate(folder / TENSORS, 3000), "cannot be loaded"),
    "empty": (lambda folder: os.truncate(folder / TENSORS, 0), "cannot be loaded"),
    "huge header": (
        lambda folder: (folder / TENSORS).write_bytes((1 << 60).to_bytes(8, "little")) and None,
        "its header would have 1152921504606846976 bytes",
    ),
    "deep header": (
        lambda folder: (folder / TENSORS).write_bytes((400000).to_bytes(8, "little") + b"[" * 400000) and None,
        "cannot be loaded",
    ),
    "deep configuration": (lambda folder: (folder / CONFIG).write_text("[" * 400000) and None, "nests too deeply"),
    "no tensors": (lambda folder: (folder / TENSORS).unlink(), "weights are missing"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "which has to hold adapter_config.json"),
    "pickle": (
        lambda folder: (folder / TENSORS).rename(folder / "adapter_model.bin") and None,
        "adapter_model.bin is a pickle.*save_pretrained",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files(name: str, adapter: Path) -> None:
    damage, said = DAMAGE[name]
    damage(adapter)
    refused(adapter, said)


@pytest.mark.parametrize("name", [TENSORS, CONFIG, "README.md"])
def test_links_that_lead_out(name: str, adapter: Path) -> None:
    elsewhere = adapter.parent / "elsewhere"
    (adapter / name).rename(elsewhere)
    (adapter / name).symlink_to(elsewhere)
    refused(adapter, "is a link that leads out of")


def test_the_links_of_the_hubs_cache_are_followed(adapter: Path) -> None:
    snapshot, blobs = adapter.parent / "models--a--b" / "snapshots" / "0a1b", adapter.parent / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in adapter.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(blobs / path.name)
    assert autolora.compress(snapshot, 0.5, adapter.parent / "small").total
    assert not any(path.is_symlink() for path in (adapter.parent / "small").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file(adapter: Path) -> None:
    (adapter / "README.md").unlink()
    os.mkfifo(adapter / "README.md")
    refused(adapter, "is no file")


OTHER_FORMATS = {
    "kohya": ({"lora_unet_down_blocks_0_attn1_to_q.lora_down.weight": (4, 8)}, "kohya's format"),
    "diffusers": ({"transformer.blocks.0.attn.to_q.lora_A.weight": (4, 8)}, "a LoRA of diffusers"),
    "old diffusers": ({"unet.down_blocks.0.attn1.to_q.lora.down.weight": (4, 8)}, "kohya's format.*resize_lora"),
    "lycoris": ({"lora_unet_a.hada_w1_a": (4, 8)}, "LyCORIS"),
    "a model": ({"model.embed_tokens.weight": (4, 8)}, "no LoRA that is known"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_other_formats_are_named(name: str, inside: bool, tmp_path: Path) -> None:
    shapes, said = OTHER_FORMATS[name]
    (tmp_path / "lora").mkdir()
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    save_file({key: torch.ones(shape) for key, shape in shapes.items()}, file)
    with pytest.raises(UserError, match=said):
        autolora.compress(tmp_path / "lora" if inside else file, 0.5, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_several_adapters_are_named(adapter: Path) -> None:
    folder = adapter.parent / "several"
    for name in ("one", "other"):
        shutil.copytree(adapter, folder / name)
    refused(folder, "several has 2 adapters in folders of their own: one, other; name the one")
    assert autolora.compress(folder / "other", 0.5, adapter.parent / "small").total


def test_those_of_the_runs_in_a_folder_are_named(adapter: Path) -> None:
    folder = adapter.parent / "recipe"
    shutil.copytree(adapter, folder / "run-0" / "adapter")
    refused(folder, "recipe has 1 adapter in folders of its own: run-0/adapter; name the one")


def test_no_adapter_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no adapter .*hf download"):
        autolora.compress(tmp_path / "org/name", 0.5, tmp_path / "small")
    with pytest.raises(UserError, match=r"has no adapter_config\.json"):
        autolora.compress(tmp_path, 0.5, tmp_path.parent / "small")


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (0, "above 0 and up to 1"),
        (1.5, "above 0 and up to 1"),
        ("half", "above 0 and up to 1"),
        ("keep=0", "keep: must be a number above 0"),
        ("keep=x", "keep: must be a number above 0"),
        ({"keep": 0.9, "rank": 1}, "alone"),
        ("rank=0", "a whole number from 1"),
        ("parameters=1", "keeps nothing: a component has 32 parameters at least"),
        ("tolerance=0.1", "takes data to measure.*keep=0.99"),
        ("kep=0.9", "did you mean 'keep'"),
    ],
)
def test_budgets(budget: Any, said: str, adapter: Path) -> None:
    refused(adapter, said, budget)


def test_a_dora_keeps_a_component_of_every_module(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=LLAMA, use_dora=True)
    write_adapter(tmp_path / "adapter", base("llama"), config)
    refused(tmp_path / "adapter", "must keep a component.*the 4 such modules need parameters=144", "parameters=143")
    ranks = autolora.compress(tmp_path / "adapter", "parameters=144", tmp_path / "small")
    assert set(ranks.values()) == {1}


def test_outputs_that_are_in_the_way(adapter: Path) -> None:
    folder = adapter.parent
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    shutil.copytree(adapter, folder / "foreign")
    (folder / "file").write_text("a file")
    (folder / "linked").symlink_to(folder / "mine")
    (folder / "there.old").mkdir()
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    for name, said in [
        ("mine", "was not written by autolora compress"),
        ("foreign", "was not written by autolora compress"),
        ("file", "is no folder"),
        ("linked", "is no folder"),
        ("there", "there.old is in the way"),
        ("adapter", "the adapter's own folder"),
        ("adapter/inner", "the adapter's own folder"),
        (".", "the adapter's own folder"),
    ]:
        with pytest.raises(UserError, match=said):
            autolora.compress(adapter, 0.5, folder / name)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


def test_what_compress_has_written_is_replaced(adapter: Path) -> None:
    small = adapter.parent / "small"
    (small).mkdir()
    first = autolora.compress(adapter, 0.5, small)
    second = autolora.compress(adapter, 0.25, small)
    assert second.parameters < first.parameters
    again = autolora.compress(small, 0.5, adapter.parent / "smaller")
    assert again.parameters <= second.parameters / 2


@pytest.mark.parametrize("change", ["added", "trained", "card"])
def test_what_has_become_somebodys_work_is_not_replaced(adapter: Path, change: str) -> None:
    small = adapter.parent / "small"
    autolora.compress(adapter, 0.5, small)
    if change == "added":
        (small / "notes.md").write_text("mine")
    elif change == "trained":
        tensors = load_file(small / "adapter_model.safetensors")
        save_file({name: t + 1 for name, t in tensors.items()}, small / "adapter_model.safetensors")
    else:
        with (small / "README.md").open("a") as card:
            card.write("mine")
    before = {path.name: path.read_bytes() for path in small.iterdir()}
    with pytest.raises(UserError, match=r"compress as it is now \(.* has been (add|chang)ed"):
        autolora.compress(adapter, 0.25, small)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before
