"""Training that stops where something is not finite, at the step where it is so first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.errors import RunError, UserError
from autolora.recipe.schema import Weights
from autolora.training import finite
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.finite import Watch, norm, not_finite
from autolora.training.log import MetricLog
from autolora.training.loop import run_steps
from autolora.training.optimizers import ScheduledOptimizer, norms_of

NAN, INF = math.nan, math.inf


class Diverging:
    """Loss 1 / step, and at one step something that is not finite."""

    identity = "same"

    def __init__(self, step: int, loss: float | None = None, norm: float = 1.0, state: float = 1.0) -> None:
        self.bad, self.loss, self.norm, self.state_value = step, loss, norm, state
        self.done = 0

    def advance(self, step: int) -> Mapping[str, Tensor]:
        self.done = step + 1
        bad = self.loss if self.done == self.bad else None
        return {"train_loss": torch.tensor(1.0 / self.done if bad is None else bad)}

    def watched(self) -> Mapping[str, Tensor]:
        return {"norm of the gradient": torch.tensor(self.norm if self.done == self.bad else 1.0)}

    def record(self, step: int) -> Mapping[str, Any]:
        return {}

    def state(self) -> Mapping[str, Tensor]:
        return {"done": torch.tensor(self.done), "w": torch.tensor(self.state_value if self.done >= self.bad else 0.0)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.done = int(tensors["done"])


def run(stage: Diverging, folder: Path, *, total: int = 12, log_every: int = 100, checkpoint_every: int = 5) -> None:
    run_steps(
        stage,
        total=total,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        log=MetricLog(folder / "log.jsonl"),
        checkpoint=folder / "checkpoint.safetensors",
        watch=Watch("search", "lower the rate"),
    )


@pytest.mark.parametrize("log_every", [1, 3, 100])
@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"loss": NAN}, r"the train loss is nan \(the last finite loss was 0\.1429, at step 7\)"),
        ({"loss": -INF}, r"the train loss is -inf \(the last finite loss was 0\.1429, at step 7\)"),
        ({"norm": INF}, r"the norm of the gradient is inf \(the last finite loss was 0\.125, at step 8\)"),
    ],
)
def test_the_first_step_is_named_however_rarely_one_looks(
    what: dict[str, float], found: str, log_every: int, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=rf"^search, step 8: {found}: the training has diverged; lower the rate$"):
        run(Diverging(8, **what), tmp_path, log_every=log_every)
    records = MetricLog(tmp_path / "log.jsonl").records() if log_every < 8 else []
    assert [record["step"] for record in records] == list(range(log_every, 8, log_every))
    assert load_checkpoint(tmp_path / "checkpoint.safetensors")[1]["step"] == 5


def test_a_checkpoint_of_rotten_weights_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^search, step 10: w holds values that are not finite \(the last finite"):
        run(Diverging(8, state=NAN), tmp_path)
    tensors, record = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert record["step"] == 5
    assert not_finite(tensors) is None


def test_going_on_fails_at_the_same_step_and_knows_the_last_loss(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RunError, match=r"step 7: the train loss is nan \(the last finite .* 0\.1667, at step 6"):
            run(Diverging(7, loss=NAN), tmp_path)
    with pytest.raises(RunError, match=r"step 6: the train loss is nan \(the last finite loss was 0\.2, at step 5\)"):
        run(Diverging(6, loss=NAN), tmp_path)  # the step after the checkpoint, which remembers the loss


def test_the_first_loss_of_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 1: the train loss is nan \(no loss was finite before\)"):
        run(Diverging(1, loss=NAN), tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_device_is_not_waited_for_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    whole = Watch.look
    monkeypatch.setattr(Watch, "look", lambda self: (looked.append(len(self._seen)), whole(self))[1])
    run_steps(Diverging(0), total=120, log_every=1000, checkpoint_every=1000, watch=Watch())
    assert looked == [finite.MOST, finite.MOST, 120 - 2 * finite.MOST]


def test_a_run_that_logs_seldom_ends_soon(tmp_path: Path) -> None:
    stage = Diverging(8, loss=NAN)
    with pytest.raises(RunError, match="step 8:"):
        run(stage, tmp_path, total=1000, log_every=1000, checkpoint_every=1000)
    assert stage.done == finite.MOST


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_no_checkpoint_holds_what_is_not_finite(value: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"w": torch.ones(2)}, {"step": 1})
    with pytest.raises(RunError, match="is not written: m holds values that are not finite"):
        save_checkpoint(path, {"w": torch.ones(2), "m": torch.tensor([0.0, value])}, {"step": 2})
    with pytest.raises(ValueError, match="Out of range float"):
        save_checkpoint(path, {}, {"loss": value})
    assert load_checkpoint(path)[1] == {"step": 1}


def test_an_old_checkpoint_of_rotten_weights_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("autolora.training.checkpoint.not_finite", lambda tensors: None)
        save_checkpoint(path, {"w": torch.tensor([NAN])}, {"step": 2})
    with pytest.raises(UserError, match="had diverged: w holds values that are not finite; remove it"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [NAN, INF])
def test_the_log_is_strict_json(value: float, tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match="Out of range float"):
        log.add({"loss": value})
    assert not log.path.exists()


def test_the_norm_is_that_of_all_tensors_together() -> None:
    tensors = [torch.randn(3, 4), torch.randn(5)]
    torch.testing.assert_close(norm(tensors), torch.cat([each.flatten() for each in tensors]).norm())
    assert torch.isnan(norm([*tensors, torch.tensor([0.0, NAN])]))
    assert torch.isinf(norm([*tensors, torch.tensor([INF])]))


def test_an_optimiser_tells_the_norms_of_its_last_step() -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = ScheduledOptimizer({"w": parameter}, Weights(warmup=0).model_copy(update={"learning_rate": 1e30}), 2)
    assert norms_of(optimizer, "gradient", "weights") == {}
    optimizer.apply([torch.tensor([0.6, 0.8])], 0)
    found = norms_of(optimizer, "gradient", "weights")
    assert {name: float(value) for name, value in found.items()} == {
        "norm of the gradient": pytest.approx(1.0),
        "norm of the weights": INF,  # 1e30 squared is beyond float32
    }


@pytest.mark.parametrize(("wrong", "said"), [(3, "the validation loss is nan"), (4, "the train loss is nan")])
def test_steps_need_not_have_the_same_scalars(wrong: int, said: str) -> None:
    watch = Watch("search")
    for step in range(1, 6):
        fine = {"train_loss": torch.tensor(NAN if step == wrong == 4 else 1.0)}
        also = {"validation_loss": torch.tensor(NAN if step == wrong else 1.0)} if step % 3 == 0 else {}
        watch.add({**fine, **also, "norm of the gradient": torch.tensor(2.0)})
    with pytest.raises(RunError, match=f"search, step {wrong}: {said}"):
        watch.look()
