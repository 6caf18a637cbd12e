"""What is not the model that was meant ends a command with one message and exit code 2, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM

from tests.cli.support import Call
from tests.laboratory import of_an_earlier_version
from tests.model.checkpoints import checkpoint, edit_weights
from tests.model.checkpoints import copied as copy_of


def test_a_checkpoint_without_its_pooler_begins_no_run(call: Call, laboratory: Path, tmp_path: Path) -> None:
    model = checkpoint(laboratory, tmp_path / "mlm", BertForMaskedLM)
    code, _, err = call("run", laboratory / "tiny.yaml", "--model", model, "--output", tmp_path / "runs")
    assert code == 2
    assert "bert.pooler.dense.weight; train them along with model.head: [pooler, classifier]" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/*/*/search/log.jsonl"))


def test_an_adapter_that_lacks_a_factor_is_not_measured(call: Call, copied: Path) -> None:
    file = copied / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in sorted(tensors) if "lora_B" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file)
    of_an_earlier_version(copied)  # which has no list of files that would tell
    for command in ("eval", "export"):
        code, out, err = call(command, copied)
        assert (code, out) == (2, "")
        assert f"{lost} is missing" in err
        assert f"autolora retrain {copied}" in err


def test_a_scaling_that_was_edited_is_not_measured(call: Call, copied: Path) -> None:
    file = copied / "adapter" / "adapter_config.json"
    config = json.loads(file.read_text())
    config["alpha_pattern"] = {name: 2 * alpha for name, alpha in config["alpha_pattern"].items()}
    config["lora_alpha"] *= 2
    file.write_text(json.dumps(config))
    of_an_earlier_version(copied)
    code, _, err = call("eval", copied)
    assert code == 2
    assert "has the scaling 8, but should have 4" in err


def test_a_run_is_not_gone_on_with_on_other_weights(call: Call, copied: Path, laboratory: Path, tmp_path: Path) -> None:
    model = copy_of(laboratory / "model", tmp_path / "model")
    assert call("eval", copied, "--model", model)[0] == 0
    edit_weights(model, lambda tensors: {name: tensor * 1.01 for name, tensor in tensors.items()})
    for command in ("eval", "retrain"):
        code, _, err = call(command, copied, "--model", model)
        assert code == 2
        assert "was begun on another model than" in err
        assert "put the former one back" in err
