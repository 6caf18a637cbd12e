"""`SqueezeCallback` in Lightning: a second training, batches as the module gets them, the best, and refusals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

pytest.importorskip("lightning", reason="pip install 'autolora[lightning]' brings it")
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, StochasticWeightAveraging

from autolora.errors import UserError
from autolora.integrations.lightning import SqueezeCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
STEPS = 8
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, X[:, :1] * X[:, 1:2])
LOGGER = "autolora.integrations.lightning"


def network() -> PeftModel:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 1))
    return get_peft_model(body, LoraConfig(r=4, target_modules=["0", "2"]))


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = ((self.network(batch[0]) - batch[1]) ** 2).mean()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("steps", float(self.trainer.global_step))  # the earliest is the best

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-2)


def squeezing(budget: Any = 0.5, **more: Any) -> SqueezeCallback:
    return SqueezeCallback(budget, examples=16, likelihood="gaussian", **more)


def trainer(*given: Callback, **more: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **more,
    }
    return Trainer(callbacks=list(given), **settings)


def loader(**more: Any) -> DataLoader[Any]:
    return DataLoader(DATA, batch_size=8, **more)


def size(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if "lora_" in name)


WHOLE = size(network())


def refused(message: str, callback: SqueezeCallback, *others: Callback, module: Module, data: Any = None) -> None:
    """It is, before the first step, and nothing is taken off."""
    found = trainer(callback, *others)
    with pytest.raises(UserError, match=message):
        found.fit(module, loader() if data is None else data)
    assert found.global_step == 0
    assert size(module) == WHOLE


def test_one_callback_squeezes_every_module_that_it_is_given() -> None:
    callback = squeezing()
    found = []
    for budget in (0.5, 0.25):
        callback.budget = squeezing(budget).budget
        module = Module()
        trainer(callback).fit(module, loader())
        assert callback.ranks is not None
        assert size(module) == callback.ranks.parameters <= WHOLE * budget
        found.append(callback.ranks)
    assert found[0] != found[1]


def test_a_second_module_has_no_ranks_before_its_squeeze() -> None:
    callback = squeezing()
    trainer(callback).fit(Module(), loader())
    with pytest.raises(UserError):
        trainer(callback).fit(LightningModuleWithoutLora(), loader())
    trainer(callback, Stop()).fit(Module(), loader())
    assert callback.ranks is None


class LightningModuleWithoutLora(Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(6, 1)  # type: ignore[assignment]


def test_a_model_is_not_squeezed_again_by_a_second_fit(caplog: pytest.LogCaptureFixture) -> None:
    callback, module = squeezing(), Module()
    trainer(callback).fit(module, loader())
    ranks, after = callback.ranks, size(module)
    with caplog.at_level(logging.WARNING, LOGGER):
        trainer(callback).fit(module, loader())
    assert size(module) == after
    assert callback.ranks == ranks is not None
    assert [each.message for each in caplog.records if each.name == LOGGER] == [
        "this model has been squeezed by this callback in an earlier fit(), and stays as it is"
    ]


def test_a_checkpoint_from_after_the_squeeze_counts_for_the_fit_that_loads_it_only(tmp_path: Path) -> None:
    first = trainer(squeezing())
    first.fit(Module(), loader())
    first.save_checkpoint(tmp_path / "after.ckpt")
    callback, resumed = squeezing(), Module()
    found = trainer(callback, max_steps=STEPS + 2)
    found.fit(resumed, loader(), ckpt_path=str(tmp_path / "after.ckpt"), weights_only=False)
    assert callback.ranks is not None
    assert size(resumed) == callback.ranks.parameters < WHOLE
    other = Module()
    trainer(callback).fit(other, loader())
    assert size(other) == callback.ranks.parameters < WHOLE


class Stop(Callback):
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = True


def test_a_training_that_ends_before_the_squeeze_says_so(caplog: pytest.LogCaptureFixture) -> None:
    module = Module()
    with caplog.at_level(logging.WARNING, LOGGER):
        trainer(squeezing(), Stop()).fit(module, loader())
    assert size(module) == WHOLE
    assert [each.message for each in caplog.records if each.name == LOGGER] == [
        "the training ended after step 1, before the squeeze, which was due after step 4: "
        "the adapter has its full size; autolora.squeeze(model, batches) squeezes it now"
    ]


def test_a_training_whose_lora_could_not_be_squeezed_says_so_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    class Still(Module):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.0)

    module = Still()
    with caplog.at_level(logging.WARNING, LOGGER):
        trainer(squeezing()).fit(module, loader())
    assert size(module) == WHOLE
    told = [each.message for each in caplog.records if each.name == LOGGER]
    assert told[0].startswith("the LoRA was not squeezed, and the training goes on at its full size: ")
    assert told[0].endswith("(after step 4)")
    assert told[1:] == [
        told[0].replace(
            "the LoRA was not squeezed, and the training goes on at its full size:",
            "the training ended, and its LoRA has its full size:",
        )
    ]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_batches_have_the_precision_that_the_module_gets_them_in(precision: Any) -> None:
    module = Module()
    trainer(squeezing(), precision=precision).fit(module, loader())
    assert size(module) <= WHOLE / 2


class Hooks(Module):
    """The features come under a name and as whole numbers, and its hooks make of them what the model takes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append("before")
        return batch[0]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.calls.append("transfer")
        return batch.to(device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append("after")
        torch.rand(1)  # an augmentation
        return {"input": batch / 2, "target": batch[:, :1]}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = ((self.network(batch["input"]) - batch["target"]) ** 2).mean()
        return loss


class DrawsBeforeAndAfter(SqueezeCallback):
    moved = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before = torch.get_rng_state()
        super().on_train_start(trainer, pl_module)
        self.moved = not torch.equal(before, torch.get_rng_state())


def test_the_modules_own_hooks_make_the_batches_ahead_of_inputs() -> None:
    seen: list[Any] = []

    def inputs(batch: Any) -> Any:
        seen.append(batch)
        return batch["input"]

    module = Hooks()
    callback = DrawsBeforeAndAfter(0.5, examples=16, likelihood="gaussian", inputs=inputs)
    trainer(callback).fit(module, loader())
    assert size(module) <= WHOLE / 2
    assert module.calls == ["before", "transfer", "after"] * (len(module.calls) // 3)
    assert seen
    assert all(batch.keys() == {"input", "target"} for batch in seen)
    assert not callback.moved


def test_a_data_modules_hooks_make_the_batches_too() -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader()

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0]

    class OfTensors(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = (self.network(batch) ** 2).mean()
            return loss

    module = OfTensors()
    trainer(squeezing()).fit(module, datamodule=Data())
    assert size(module) <= WHOLE / 2


def test_rows_that_the_training_leaves_out_are_not_read() -> None:
    read: set[int] = set()

    class Noting(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            read.add(int(index))
            return super().__getitem__(index)  # type: ignore[no-untyped-call]

    half = list(range(16))
    module = Module()
    data: Any = DataLoader(Noting(*DATA.tensors), batch_size=8, sampler=SubsetRandomSampler(half))
    trainer(squeezing()).fit(module, data)
    assert size(module) <= WHOLE / 2
    assert read <= set(half)


class Once(IterableDataset[Any]):
    def __init__(self) -> None:
        self.source = iter(DATA[i] for i in range(len(DATA)))

    def __iter__(self) -> Iterator[Any]:
        return self.source


class Two(Module):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.SGD(trained[:2], lr=0.1), torch.optim.SGD(trained[2:], lr=0.1)


def test_a_stream_that_can_be_read_once_is_refused() -> None:
    refused("can be read only once", squeezing(), module=Module(), data=DataLoader(Once(), batch_size=8))


def test_several_optimizers_are_refused() -> None:
    refused("configure_optimizers.* 2 optimizers.*one", squeezing(), module=Two())


@pytest.mark.parametrize("name", ["StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging", "own"])
def test_averages_of_the_weights_are_refused(name: str) -> None:
    class Own(StochasticWeightAveraging):
        pass

    if name == "StochasticWeightAveraging":
        average: Callback = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1)
    elif name == "own":
        average = Own(swa_lrs=1e-3, swa_epoch_start=1)
    else:
        average = getattr(callbacks, name)()
    refused(f"does not work with {type(average).__name__}", squeezing(), average, module=Module())


def test_an_average_of_the_weights_that_a_callback_of_the_users_keeps_is_refused() -> None:
    class Keeps(Callback):
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.average = torch.optim.swa_utils.AveragedModel(pl_module)

    refused("does not work with Keeps", squeezing(), Keeps(), module=Module())


def best(folder: Path, **more: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", monitor="steps", mode="min", **more)


@pytest.mark.parametrize("budget", [0.5, 0.15])
def test_the_best_is_the_best_of_the_squeezed(budget: float, tmp_path: Path) -> None:
    kept, stopped = best(tmp_path), EarlyStopping("steps", mode="min", patience=3)
    found = trainer(squeezing(budget), kept, stopped, enable_checkpointing=True, max_steps=20)
    module = Module()
    found.fit(module, loader(), loader())
    assert size(module) <= WHOLE * budget
    assert Path(kept.best_model_path).name == "step=12.ckpt"  # the epoch that the squeeze, after step 10, is in
    assert list(kept.best_k_models) == [kept.best_model_path] == [kept.kth_best_model_path]
    assert kept.best_model_score == kept.kth_value == 12
    assert found.global_step == 20  # stopped after step 16, by the best of before
    after = size(module)
    found.test(module, loader(), ckpt_path="best", verbose=False, weights_only=False)
    assert size(module) == after


def test_a_checkpoint_with_lora_that_the_squeeze_took_is_refused_by_one_message(tmp_path: Path) -> None:
    before = trainer(max_steps=1)
    before.fit(Module(), loader())
    before.save_checkpoint(tmp_path / "before.ckpt")
    module, found = Module(), trainer(squeezing(0.15))
    found.fit(module, loader())
    values = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(UserError, match=r"network: the checkpoint has LoRA on 0 .*this model has none.*built anew"):
        found.test(module, loader(), ckpt_path=str(tmp_path / "before.ckpt"), verbose=False, weights_only=False)
    assert module.state_dict().keys() == values.keys()
    found.test(Module(), loader(), ckpt_path=str(tmp_path / "before.ckpt"), verbose=False, weights_only=False)


def test_what_could_not_be_measured_is_refused_before_the_first_step() -> None:
    class OtherBatches(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((batch[0][:, :6], batch[1]), batch_idx)

    wide = DataLoader(TensorDataset(torch.cat([X, X], 1), DATA.tensors[1]), batch_size=8)
    said = "the squeeze could not pass the training's first batch .a list. through the model: RuntimeError: mat1 and"
    refused(said, squeezing(), module=OtherBatches(), data=wide)


def test_a_base_in_bfloat16_with_a_lora_in_float32_is_measured_under_the_trainings_autocast() -> None:
    module = Module()
    for name, parameter in module.network.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if "lora_" in name else torch.bfloat16)
    callback = squeezing()
    trainer(callback, precision="bf16-mixed").fit(module, loader())
    assert callback.ranks is not None
    assert size(module) == callback.ranks.parameters <= WHOLE / 2
