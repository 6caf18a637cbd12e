"""`SqueezeCallback` in the Trainer: adapters of other names, warm-ups that overlap, precisions, the first batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback

from autolora.allocation.budget import Budget
from autolora.errors import UserError
from autolora.integrations.checks import check_passes
from autolora.integrations.transformers import SqueezeCallback
from tests.allocation.models import plain
from tests.integrations.trainers import STEPS, Rows, arguments, base, factors, losses, model, trained, trainer


def named(name: str) -> PeftModel:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], modules_to_save=["classifier"])
    torch.manual_seed(1)
    return get_peft_model(base(), config, adapter_name=name)  # type: ignore[return-value]


@pytest.mark.parametrize("checkpoint", [2, 6])
def test_an_adapter_of_any_name_is_resumed(checkpoint: int, tmp_path: Path) -> None:
    """Which PEFT writes to a folder of that name, below the trainer's state."""
    whole = trainer(tmp_path, adapted=named("task"), save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer(tmp_path / "resumed", adapted=named("task"))
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    wanted, found = trained(whole.model), trained(resumed.model)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


class Rates(TrainerCallback):
    """Notes which rate a step is taken at; before the callbacks that give it back."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.found.append(kwargs["optimizer"].param_groups[0]["lr"])


@pytest.mark.parametrize("shares", [(0.25,), (0.25, 0.5)], ids=["one", "two"])
def test_warm_ups_give_a_schedule_that_steps_from_the_present_rate_its_rate_back(
    shares: tuple[float, ...], tmp_path: Path
) -> None:
    adapted = model()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.5)
    rates, callbacks = Rates(), [SqueezeCallback(0.7, at=at, examples=16, warmup=4) for at in shares]
    found = Trainer(
        model=adapted,
        args=arguments(tmp_path),
        train_dataset=Rows(),
        callbacks=[rates, *callbacks],
        optimizers=(optimizer, schedule),
    )
    found.train()
    factor = [1, 1, 0.25, 0.5, 0.75, 1, 1, 0.5] if len(shares) == 1 else [1, 1, 0.25, 0.5, 0.75 / 4, 0.5, 0.75, 0.5]
    assert rates.found == pytest.approx([1e-2 * each for each in factor])
    (group,) = optimizer.param_groups
    assert group["lr"] == pytest.approx(5e-3)
    assert "squeeze_lr" not in group


def test_a_base_in_bfloat16_with_a_head_in_float32_is_squeezed_as_it_is_trained(tmp_path: Path) -> None:
    adapted = model().to(torch.bfloat16)  # type: ignore[arg-type]
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    before = factors(adapted)
    found = trainer(tmp_path, adapted=adapted, bf16=True)
    assert found.train().global_step == STEPS
    assert factors(found.model) <= before / 2
    assert {p.dtype for p in trained(found.model).values()} == {torch.float32}


class Changed(Dataset[dict[str, Tensor]]):
    """Rows with something else in them."""

    def __init__(self, **more: Tensor) -> None:
        self.rows, self.more = Rows(), more

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {**self.rows[i], **self.more}


class Popping(Trainer):
    """Takes out of a batch what is not for the model, as a loss of one's own may."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, {k: v for k, v in inputs.items() if k != "position_ids"}, *args, **kwargs)


def bad(logits: Tensor) -> Tensor:
    raise IndexError("no such class")


@pytest.mark.parametrize(
    ("more", "callback", "message"),
    [
        ({"labels": torch.tensor([1.0, 0.0])}, {}, "the labels are floating point, as those of several classes"),
        (
            {"position_ids": torch.ones(3, dtype=torch.long)},
            {},
            r"first batch \(with input_ids, attention_mask, labels, position_ids\).*RuntimeError: ",
        ),
        ({}, {"likelihood": bad}, r"first batch \(with input_ids, .* IndexError: no such class; give .*likelihood="),
        ({}, {"budget": {"tolerance": 0.1}, "loss": lambda model, batch: batch}, "loss= must give a batch's mean loss"),
    ],
    ids=["several-labels", "other-shape", "likelihood", "loss"],
)
def test_what_the_passes_would_fail_at_is_refused_before_the_first_step(
    more: dict[str, Tensor], callback: dict[str, Any], message: str, tmp_path: Path
) -> None:
    found = Popping(
        model=model(),
        args=arguments(tmp_path, remove_unused_columns=False),
        train_dataset=Changed(**more),
        callbacks=[SqueezeCallback(examples=16, **callback)],
    )
    with pytest.raises(UserError, match=message) as caught:
        found.train()
    assert "\n" not in str(caught.value)
    assert found.state.global_step == 0


class Drawing(nn.Module):
    """Draws in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inside(x * torch.rand_like(x))
        return found


def test_the_first_passes_leave_model_and_generators_as_they_are() -> None:
    adapted: Any = get_peft_model(Drawing(), LoraConfig(r=2, target_modules=["inside"]))  # type: ignore[arg-type]
    adapted.train()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    check_passes(adapted, Budget.of(0.5), torch.ones(4, 6), "categorical", None)
    assert torch.equal(torch.rand(3), wanted)
    assert all(module.training for module in adapted.modules())
    assert all(parameter.grad is None for parameter in adapted.parameters())


def test_short_memory_is_no_fault_of_the_batch() -> None:
    def short(model: nn.Module, batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        check_passes(plain(), Budget.of({"tolerance": 0.1}), torch.ones(4, 6), "gaussian", short)


def test_the_first_passes_change_nothing_of_the_training(tmp_path: Path) -> None:
    """Up to the squeeze, at the last step here, every loss is that of a training without it."""
    found = []
    for callback in (Rates(), SqueezeCallback(1.0, at=1.0, examples=16)):
        one = trainer(tmp_path, callback)
        one.train()
        found.append(losses(one))
    assert found[0] == found[1]
