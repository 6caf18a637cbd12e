"""What `SqueezeCallback` cannot do is refused before the first step, by one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import TrainerControl, TrainerState

from autolora.errors import UserError
from autolora.integrations.checks import check
from autolora.integrations.transformers import SqueezeCallback
from tests.integrations.trainers import Rows, base, model, trained, trainer


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"at": 0}, "at: must be a number above 0 and up to 1"),
        ({"at": 1.5}, "at: must be a number above 0 and up to 1"),
        ({"at": True}, "at: must be a number above 0 and up to 1"),
        ({"at": float("nan")}, "at: must be a number above 0 and up to 1"),
        ({"budget": 2.0}, "budget fraction: must be a number above 0 and up to 1"),
        ({"budget": {"ranks": 1}}, "a budget is one of"),
        ({"score": "fischer"}, "fischer"),
        ({"examples": 0}, "examples: must be a whole number from 1"),
        ({"warmup": -1}, "warmup: must be a whole number from 0"),
        ({"batch_size": 0}, "batch_size: must be a whole number from 1"),
        ({"batches": iter([1])}, "batches: a list_iterator can be read only once, and is read before the first step"),
        ({"batches": {"input_ids": 1}}, "batches: must be a list of batches, or a DataLoader, got one dict"),
    ],
)
def test_a_setting_is_refused_where_it_is_made(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SqueezeCallback(**more)


class Unlabelled(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": Rows().ids[i]}


def _adapted(config: Any) -> Any:
    return get_peft_model(base(), config)


MODELS = {
    "plain": (base, "needs a model with LoRA .*got a BertForSequenceClassification"),
    "loha": (lambda: _adapted(LoHaConfig(r=2, target_modules=["query"])), "no LoRA layer"),
    "dora": (lambda: model(use_dora=True), "only a plain LoRA on a linear layer"),
    "bias": (lambda: model(bias="lora_only"), "bias='lora_only'"),
    "embedding": (
        lambda: _adapted(LoraConfig(r=2, target_modules=["query", "word_embeddings"])),
        "word_embeddings: ",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_squeezed_is_refused(name: str, tmp_path: Path) -> None:
    build, message = MODELS[name]
    found = trainer(tmp_path, adapted=build())
    with pytest.raises(UserError, match=message):
        found.train()
    assert found.state.global_step == 0


def test_a_quantised_base_is_refused() -> None:
    adapted = model()
    adapted.get_base_model().is_quantized = True
    with pytest.raises(UserError, match="quantised"):
        check(adapted, SqueezeCallback().budget, None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"budget": {"parameters": 3}}, "that is 3 parameters of .*, and the smallest component has"),
        ({"likelihood": "poisson"}, "likelihood: must be"),
        ({"batches": []}, "batches has no batch in it"),
    ],
)
def test_what_the_model_makes_wrong_of_a_setting_is_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    found = trainer(tmp_path, SqueezeCallback(**more))
    with pytest.raises(UserError, match=message):
        found.train()
    assert found.state.global_step == 0


def test_a_tolerance_without_labels_is_refused(tmp_path: Path) -> None:
    found = trainer(tmp_path, SqueezeCallback({"tolerance": 0.1}))
    found.train_dataset = Unlabelled()
    with pytest.raises(UserError, match="no 'labels'"):
        found.train()


def test_compiling_is_refused(tmp_path: Path) -> None:
    found = trainer(tmp_path, torch_compile=True, torch_compile_backend="eager")
    with pytest.raises(UserError, match="torch_compile"):
        found.train()


def test_an_optimizer_without_the_factors_is_refused(tmp_path: Path) -> None:
    found = trainer(tmp_path)
    head = [p for name, p in found.model.named_parameters() if p.requires_grad and "lora_" not in name]
    found.optimizer = torch.optim.SGD(head, lr=0.1)
    with pytest.raises(UserError, match=r"does not hold .*lora_A.* \(nor .* others\)"):
        found.train()


PROGRAM = """\
import sys
from pathlib import Path
import torch
from autolora.errors import UserError
from tests.integrations.trainers import trained, trainer

found = trainer(Path(sys.argv[1]), ddp_backend="gloo")
before = trained(found.model)
try:
    found.train()
except UserError as error:
    assert found.state.global_step == 0
    Path(f"refused-{torch.distributed.get_rank()}").write_text(str(error))  # what both print may come out mixed
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("given", "message"),
    [({"world_size": 2}, "2 processes"), ({"fsdp": "full_shard"}, "FSDP"), ({"deepspeed": "ds.json"}, "DeepSpeed")],
    ids=str,
)
def test_wrappers_that_hold_the_factors_are_refused(given: dict[str, Any], message: str) -> None:
    arguments: Any = SimpleNamespace(
        **{"world_size": 1, "fsdp": None, "deepspeed": None, "torch_compile": False, **given}
    )
    with pytest.raises(UserError, match=f"does not work with {message}: the wrapper"):
        SqueezeCallback().on_train_begin(arguments, TrainerState(), TrainerControl(), model=model(), optimizer=None)


@pytest.mark.slow
def test_several_processes_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "program.py", "out"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    message = "SqueezeCallback does not work with 2 processes: the wrapper around the model"
    assert all((tmp_path / f"refused-{rank}").read_text().startswith(message) for rank in range(2))


def test_nothing_of_the_model_changes_by_a_refusal(tmp_path: Path) -> None:
    found = trainer(tmp_path, SqueezeCallback({"parameters": 3}))
    before = trained(found.model)
    with pytest.raises(UserError):
        found.train()
    assert all(torch.equal(value, before[name]) for name, value in trained(found.model).items())
