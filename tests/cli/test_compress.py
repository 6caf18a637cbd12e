"""``autolora compress``: what it prints, what it writes, and what a command line may not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig
from safetensors.torch import load_file

from autolora.errors import FAULT
from autolora.files import read_json
from tests.adapters.support import base, outputs, write_adapter
from tests.adapters.support import loaded as in_peft
from tests.cli.support import Call, served, succeed
from tests.laboratory import tiny_run

TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """One with what people have beside it."""
    folder = tmp_path / "adapter"
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"])
    write_adapter(folder, base("llama"), config, zero="layers.0.self_attn.q_proj")
    (folder / "tokenizer_config.json").write_text('{"a": 1}')
    (folder / "LICENSE").write_text("mine")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "checkpoint-10").mkdir()
    return folder


def test_the_command_prints_the_curve_and_the_ranks_and_writes_an_adapter(adapter: Path, call: Call) -> None:
    small = adapter.parent / "small"
    code, out, err = call("compress", adapter, "--budget", "keep=1", "--output", small)
    assert code == 0
    assert f"{adapter}: 6 modules of rank 4, 768 parameters" in out
    assert "* keep=1" in out
    assert "  keep=0.99" in out
    assert "ranks at keep=1:" in out
    assert "sum 20 of 24" in out
    assert f"wrote {small}: " in err
    assert "1 of 6 modules keep nothing and are no longer adapted" in err
    assert f"not carried over from {adapter}: checkpoint-10, training_args.bin" in err
    assert {path.name for path in small.iterdir()} == {
        *(TENSORS, CONFIG, "ranks.json", "written.json", "README.md", "tokenizer_config.json", "LICENSE")
    }
    assert (small / "README.md").read_bytes() == (adapter / "README.md").read_bytes()
    assert (outputs(in_peft(small, base("llama")), "llama") == outputs(in_peft(adapter, base("llama")), "llama")).all()


def test_a_dry_run_writes_nothing_and_needs_no_budget(adapter: Path, call: Call) -> None:
    before = sorted(adapter.parent.rglob("*"))
    for more in ([], ["--budget", "0.5", "--output", adapter.parent / "small"]):
        code, out, err = call("compress", adapter, "--dry-run", *more)
        assert (code, err) == (0, "")
        assert ("ranks at 0.5" in out) == bool(more)
    assert sorted(adapter.parent.rglob("*")) == before


def test_uniform_pads_to_one_rank_and_one_scaling(adapter: Path, call: Call) -> None:
    code, out, _ = call("compress", adapter, "--budget", "0.5", "--uniform", "--output", adapter.parent / "small")
    config = read_json(adapter.parent / "small" / CONFIG)
    assert code == 0
    assert f"padded to rank {config['r']} everywhere" in out
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert config["lora_alpha"] == 1.5 * config["r"]
    tensors = load_file(adapter.parent / "small" / TENSORS)
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {config["r"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--budget says how small"),
        (["--budget", "0.5"], "--output DIR says where"),
        (["--budget", "keep=2", "--dry-run"], "budget keep: must be a number above 0"),
        (["--budget", "0.5", "--output", "adapter"], "the adapter's own folder"),
    ],
)
def test_what_a_command_line_may_not_say(
    arguments: list[str], said: str, adapter: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adapter.parent)
    code, out, err = call("compress", adapter.name, *arguments)
    assert (code, out) == (FAULT, "")
    assert said in err
    assert "Traceback" not in err


def test_the_adapter_of_a_run(laboratory: Path, tmp_path: Path) -> None:
    from autolora.experiment.retrain import retrain
    from autolora.experiment.search import search

    run, context = tiny_run(laboratory, tmp_path / "runs", "lora:4", "retrain.steps=3")
    search(run, context)
    retrain(run, context)
    done = succeed("compress", run.path, "--budget", "0.5", "--output", "small", cwd=tmp_path, by=served)
    assert "modules of rank 4" in done.stdout
    assert (tmp_path / "small" / "config.json").read_bytes() == (run.path / "adapter" / "config.json").read_bytes()
    assert in_peft(tmp_path / "small", context.model())


def test_an_output_that_cannot_be_written_leaves_nothing(adapter: Path, call: Call) -> None:
    (adapter.parent / "file").write_text("in the way")
    code, _, err = call("compress", adapter, "--budget", "0.5", "--output", adapter.parent / "file" / "small")
    assert code == FAULT
    assert "cannot be written" in err
