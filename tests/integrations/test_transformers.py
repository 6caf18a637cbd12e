"""`SqueezeCallback` in transformers' Trainer: what goes on after it, and what a resumed training equals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from autolora.integrations.transformers import SqueezeCallback, loads_squeezed
from tests.allocation.models import randomise
from tests.integrations.trainers import (
    STEPS,
    Rows,
    arguments,
    base,
    factors,
    losses,
    model,
    ranks,
    trained,
    trainer,
)


class Seen(SqueezeCallback):
    """Notes what the optimiser has and which rate it takes a step at."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sizes: list[int] = []
        self.rates: list[float] = []
        self.ages: list[set[int]] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs["optimizer"]
        self.rates.append(optimizer.param_groups[0]["lr"])
        held = [p for group in optimizer.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in kwargs["model"].parameters() if p.requires_grad}
        assert len(held) == len(optimizer.state)
        self.sizes.append(sum(p.numel() for p in held))
        self.ages.append({int(optimizer.state[p]["step"]) for p in held})
        super().on_optimizer_step(args, state, control, **kwargs)


def test_the_lora_is_cut_down_in_the_middle_and_trained_on(tmp_path: Path) -> None:
    callback = Seen(0.5, examples=32, warmup=2)
    found = trainer(tmp_path, callback)
    before = factors(found.model)
    found.train()
    assert callback.ranks is not None
    assert callback.ranks.parameters == factors(found.model) <= before / 2
    assert callback.ranks.targets == list(ranks(found.model))
    assert callback.sizes[:4] == [callback.sizes[0]] * 4
    assert callback.sizes[4:] == [callback.sizes[0] - before + factors(found.model)] * 4
    # The head goes on with its moments, the factors begin anew.
    assert callback.ages == [{1}, {2}, {3}, {4}, {5, 1}, {6, 2}, {7, 3}, {8, 4}]
    # The schedule goes on, under two steps of warm-up, which the log does not show.
    schedule = [2e-2 * (1 - step / STEPS) for step in range(STEPS)]
    factor = [1, 1, 1, 1, 0.5, 1, 1, 1]
    assert callback.rates == pytest.approx([rate * f for rate, f in zip(schedule, factor, strict=True)])
    logged = [entry["learning_rate"] for entry in found.state.log_history if "learning_rate" in entry]
    assert logged == pytest.approx(schedule)
    assert losses(found)[-1] < losses(found)[0]


@pytest.mark.parametrize(
    "more",
    [
        {"gradient_accumulation_steps": 3, "max_grad_norm": 0.1},
        {"bf16": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine", "warmup_steps": 2},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1},
        {"max_steps": -1, "num_train_epochs": 1},
        {"train_sampling_strategy": "group_by_length"},
        {"neftune_noise_alpha": 1.0},
        {"label_smoothing_factor": 0.1},
        {"dataloader_num_workers": 1},
        {"auto_find_batch_size": True},
    ],
    ids=lambda more: "-".join(more),
)
def test_it_goes_on_under_the_trainers_options(more: dict[str, Any], tmp_path: Path) -> None:
    found = trainer(tmp_path, **more)
    before = factors(found.model)
    result = found.train()
    assert result.global_step == STEPS
    assert 0.4 * before < factors(found.model) <= before / 2
    assert all(p.isfinite().all() for p in trained(found.model).values())


def test_the_squeeze_draws_nothing_from_the_trainings_generators(tmp_path: Path) -> None:
    """With everything kept, the training before and after has the same batches and dropout as one without."""
    found = []
    for callback in (Nothing(), SqueezeCallback(1.0, examples=16, warmup=0)):
        one = trainer(tmp_path, callback, learning_rate=0.0, max_steps=12, per_device_train_batch_size=16)
        randomise(one.model)
        one.train()
        found.append(losses(one))
    assert found[1] == pytest.approx(found[0], abs=1e-5)


class Nothing(TrainerCallback):
    pass


@pytest.mark.parametrize("checkpoint", [2, 4, 6])
@pytest.mark.parametrize("more", [{}, {"gradient_accumulation_steps": 2, "bf16": True}], ids=["plain", "accumulated"])
def test_a_resumed_training_equals_an_uninterrupted_one(checkpoint: int, more: dict[str, Any], tmp_path: Path) -> None:
    """From before the squeeze, from its step, and from after it; without a line more in the script."""
    whole = trainer(tmp_path, save_strategy="steps", save_steps=2, **more)
    whole.train()
    resumed = trainer(tmp_path / "resumed", save_strategy="steps", save_steps=2, **more)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    assert ranks(resumed.model) == ranks(whole.model)
    wanted = trained(whole.model)
    assert trained(resumed.model).keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in trained(resumed.model).items())
    assert losses(resumed) == losses(whole)
    callbacks = [each for each in resumed.callback_handler.callbacks if isinstance(each, SqueezeCallback)]
    assert callbacks[0].ranks is not None
    assert dict(callbacks[0].ranks).keys() >= ranks(whole.model).keys()


def test_a_checkpoint_from_after_the_squeeze_loads_with_peft_alone(tmp_path: Path) -> None:
    found = trainer(tmp_path, save_strategy="steps", save_steps=STEPS)
    found.train()
    loaded = PeftModel.from_pretrained(base(), tmp_path / f"checkpoint-{STEPS}", is_trainable=True)
    assert all(torch.equal(value, trained(loaded)[name]) for name, value in trained(found.model).items())
    # And is resumed in a training that knows of no squeeze.
    plain = trainer(tmp_path / "plain", Nothing(), adapted=loaded, max_steps=STEPS + 2)
    plain.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS}"))
    assert ranks(plain.model) == ranks(found.model)


def test_a_callback_that_is_added_later_needs_a_line_to_resume(tmp_path: Path) -> None:
    whole = trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = Trainer(model=model(), args=arguments(tmp_path / "resumed"), train_dataset=Rows())
    resumed.add_callback(SqueezeCallback(0.5, examples=32, warmup=2))
    loads_squeezed(resumed.model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert all(torch.equal(value, trained(whole.model)[name]) for name, value in trained(resumed.model).items())


def test_the_same_trainer_goes_back_to_a_checkpoint_from_before_the_squeeze(tmp_path: Path) -> None:
    found = trainer(tmp_path, save_strategy="steps", save_steps=2)
    found.train()
    wanted = trained(found.model)
    again = trainer(tmp_path / "again", adapted=found.model)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(value, wanted[name]) for name, value in trained(again.model).items())


def test_a_checkpoint_of_a_training_without_the_callback_is_squeezed_when_it_is_time(tmp_path: Path) -> None:
    plain = trainer(tmp_path, Nothing(), save_strategy="steps", save_steps=2)
    plain.train()
    before = factors(plain.model)
    for step in (2, 6):
        resumed = trainer(tmp_path / "resumed", save_strategy="steps", save_steps=2)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert factors(resumed.model) <= before / 2
        marks = [entry for entry in resumed.state.log_history if "squeeze" in entry]
        assert [(mark["step"], mark["parameters_before"]) for mark in marks] == [(max(4, step + 1), before)]


def test_another_rank_in_the_script_is_still_refused_by_peft(tmp_path: Path) -> None:
    trainer(tmp_path, Nothing(), save_strategy="steps", save_steps=2).train()
    other = model(rank_pattern={"query": 2})
    with pytest.raises(RuntimeError, match="size mismatch"):
        trainer(tmp_path, adapted=other).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_the_best_model_is_the_best_of_the_squeezed(tmp_path: Path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    # At this rate the loss rises after the squeeze: the best of all is from before it.
    found = trainer(tmp_path, **options, load_best_model_at_end=True, metric_for_best_model="loss", save_total_limit=8)
    found.train()
    after = {e["step"]: e["eval_loss"] for e in found.state.log_history if "eval_loss" in e and e["step"] >= STEPS // 2}
    best = min(after, key=lambda step: after[step])
    assert found.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert found.evaluate()["eval_loss"] == pytest.approx(after[best], abs=1e-6)
    assert factors(found.model) == next(e for e in found.state.log_history if "squeeze" in e)["parameters_after"]


def test_the_final_model_is_saved_as_a_stock_adapter(tmp_path: Path) -> None:
    found = trainer(tmp_path)
    found.train()
    found.save_model(str(tmp_path / "final"))
    loaded = PeftModel.from_pretrained(base(), tmp_path / "final").eval()
    batch = {name: torch.stack([row[name] for row in map(Rows().__getitem__, range(4))]) for name in ("input_ids",)}
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, found.model.eval()(**batch).logits)


def test_a_model_of_model_init_is_squeezed_every_time(tmp_path: Path) -> None:
    found = Trainer(
        model_init=lambda: model(),
        args=arguments(tmp_path),
        train_dataset=Rows(),
        callbacks=[SqueezeCallback(0.5, examples=32)],
    )
    sizes = []
    for _ in range(2):
        found.train()
        sizes.append(factors(found.model))
    assert sizes[0] == sizes[1] <= factors(model()) / 2


def test_a_second_train_does_not_squeeze_the_squeezed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = trainer(tmp_path)
    found.train()
    size = factors(found.model)
    found.train()
    assert factors(found.model) == size
    assert "squeezed by this callback in an earlier train()" in caplog.text


def test_two_callbacks_squeeze_in_two_steps(tmp_path: Path) -> None:
    first, second = (SqueezeCallback(0.5, at=at, examples=32, warmup=1) for at in (0.25, 0.75))
    found = trainer(tmp_path, first, second, save_strategy="steps", save_steps=4)
    before = factors(found.model)
    found.train()
    assert factors(found.model) <= before / 4
    wanted = trained(found.model)
    first, second = (SqueezeCallback(0.5, at=at, examples=32, warmup=1) for at in (0.25, 0.75))
    resumed = trainer(tmp_path / "resumed", first, second)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert all(torch.equal(value, wanted[name]) for name, value in trained(resumed.model).items())


def test_a_tolerance_finds_the_size(tmp_path: Path) -> None:
    callback = SqueezeCallback({"tolerance": 0.2}, at=1.0, examples=64)
    found = trainer(tmp_path, callback, max_steps=24, learning_rate=5e-3)
    before = factors(found.model)
    found.train()
    assert callback.ranks is not None
    assert factors(found.model) < before
    assert callback.ranks.rule["budget"] == {"tolerance": 0.2}
    assert "measured_rise" in callback.ranks.rule


def test_what_cannot_be_squeezed_yet_is_said_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = trainer(tmp_path, SqueezeCallback(0.5, examples=16), learning_rate=0.0)
    before = factors(found.model)
    assert found.train().global_step == STEPS
    assert factors(found.model) == before
    assert caplog.text.count("every update is zero") == 2
    assert "(after step 4)" in caplog.text


def test_ones_own_batches_are_used(tmp_path: Path) -> None:
    draws = Rows(8, seed=9)
    batches = [{"input_ids": draws.ids[:4]}, {"input_ids": draws.ids[4:]}]
    callback = SqueezeCallback(0.5, batches=batches)
    found = trainer(tmp_path, callback)
    found.train()
    assert callback.ranks is not None
    assert callback.ranks.parameters == factors(found.model)


def test_an_end_before_the_squeeze_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stop(Nothing):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 2

    found = trainer(tmp_path, SqueezeCallback(0.5), Stop())
    before = factors(found.model)
    found.train()
    assert factors(found.model) == before
    assert "ended after step 2, before the squeeze, which was due after step 4" in caplog.text


def test_an_early_stop_counts_from_the_squeeze(tmp_path: Path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    found = trainer(
        tmp_path,
        SqueezeCallback(0.5, examples=16),
        EarlyStoppingCallback(early_stopping_patience=20),
        **options,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    found.train()
    assert found.state.global_step == STEPS
