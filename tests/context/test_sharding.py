"""What cannot be had with a base that is shared out is refused at once, by one message that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from autolora.context.base import Context
from autolora.context.device import check_device
from autolora.context.sharding import sharding_faults
from autolora.errors import UserError
from autolora.evaluation.in_step import in_step
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method
from autolora.training.compute import Compute
from autolora.training.sharding import launch_faults, shard
from tests.laboratory import tiny_run


class Processes:
    """As `Compute` has it, of one of several processes."""

    sharded = True

    def __init__(self, *counts: int) -> None:
        self.counts = counts

    def gather(self, items: list[int]) -> list[int]:
        return [*items, *self.counts]


def faults(laboratory: Path, method: str, *overrides: str) -> list[str]:
    recipe = load_recipe(laboratory / "tiny.yaml", overrides, seed=3)
    recipe = recipe.model_copy(update={"method": parse_method(method)})
    return list(sharding_faults(recipe, cast(Compute, Processes())))


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As accelerate launch --use_fsdp --fsdp_version 2 sets it."""
    given = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_OFFLOAD_PARAMS": "false",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
        "FSDP_SYNC_MODULE_STATES": "true",
        "FSDP_ACTIVATION_CHECKPOINTING": "false",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_what_the_launcher_sets_by_itself_is_no_fault(laboratory: Path) -> None:
    assert not list(launch_faults())
    for method in ("autolora", "squeeze:budget=0.5", "lora:4", "lora-matched:budget=rank=1", "no-meta"):
        assert not faults(laboratory, method)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FSDP_VERSION", "1", "add --fsdp_version 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", "--fsdp_offload_params is not supported; leave it out"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "set model.gradient_checkpointing: true"),
        ("FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP", "SIZE_BASED_WRAP is not supported"),
        ("FSDP_TRANSFORMER_CLS_TO_WRAP", "LlamaMLP", "it is every block"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed is not supported"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM is not supported"),
    ],
)
def test_a_launch_of_another_kind_is_refused(
    name: str, value: str, said: str, launched: pytest.MonkeyPatch, laboratory: Path, tmp_path: Path
) -> None:
    launched.setenv(name, value)
    run, context = tiny_run(laboratory, tmp_path, "autolora")
    for refuse in (check_device, Context.model):
        with pytest.raises(UserError, match=said):
            refuse(context)
    assert not (run.path / "search").exists()


def test_without_a_version_it_is_the_first_which_is_refused(launched: pytest.MonkeyPatch) -> None:
    launched.delenv("FSDP_VERSION")
    assert len(list(launch_faults())) == 1


@pytest.mark.parametrize(
    ("method", "override", "said"),
    [
        ("dora", "model.dtype=float32", "method.name: dora"),
        ("pissa", "model.dtype=float32", "method.name: pissa"),
        ("full", "model.dtype=float32", "method.name: full"),
        ("autolora", "model.torch_compile=true", "model.torch_compile"),
        ("autolora", "model.quantization=nf4", "model.quantization: nf4"),
        ("autolora", "model.quantization=int8", "model.quantization: int8"),
        ("autolora", "search.estimator=exact", "search.estimator: exact"),
    ],
)
def test_what_needs_a_whole_base_is_refused(method: str, override: str, said: str, laboratory: Path) -> None:
    (fault,) = faults(laboratory, method, override)
    assert fault.startswith(said)
    assert fault.endswith("or launch without --use_fsdp")


def test_one_process_has_nothing_to_share(laboratory: Path, tmp_path: Path) -> None:
    _, context = tiny_run(laboratory, tmp_path, "dora")
    assert not context.compute.sharded
    check_device(context)
    assert all(type(parameter) is nn.Parameter for parameter in context.model().parameters())


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has no blocks"):
        shard(nn.Linear(2, 2), [], torch.device("cpu"), 2)


def test_every_process_makes_as_many_passes_as_the_one_with_the_most() -> None:
    compute: Any = Processes(3, 1)
    assert list(in_step([[4, 5]], compute, [7])) == [([4, 5], True), ([7], False), ([7], False)]
    compute.sharded = False
    assert list(in_step([[4, 5]], compute, [7])) == [([4, 5], True)]
