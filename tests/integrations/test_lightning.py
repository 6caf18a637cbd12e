"""`SqueezeCallback` in Lightning: trained on, checkpointed, and resumed from before and after."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader

pytest.importorskip("lightning", reason="pip install 'autolora[lightning]' brings it")
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from autolora.errors import UserError
from autolora.integrations.lightning import SqueezeCallback
from tests.integrations.trainers import STEPS, Rows, base, factors, model, ranks

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(LightningModule):
    def __init__(self, network: Any = None) -> None:
        super().__init__()
        self.network = network or model()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.network(**batch).loss
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit(
    folder: Path,
    callback: Callback | None = None,
    module: Module | None = None,
    resume: Path | None = None,
    **more: Any,
) -> Module:
    seed_everything(3, verbose=False)
    module = module or Module()
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            callback or SqueezeCallback(0.5, examples=32),
            ModelCheckpoint(folder, "{step}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=True),
        ],
        **more,
    )
    # Two steps an epoch: Lightning resumes at the end of one, and repeats one that it was in the middle of.
    loader = DataLoader(Rows(16), batch_size=8, shuffle=False)
    trainer.fit(module, loader, ckpt_path=None if resume is None else str(resume), weights_only=False)
    return module


@pytest.mark.parametrize(
    "more",
    [{}, {"precision": "bf16-mixed"}, {"accumulate_grad_batches": 2, "max_epochs": 9, "gradient_clip_val": 0.1}],
    ids=str,
)
def test_the_lora_is_cut_down_and_trained_on(more: dict[str, Any], tmp_path: Path) -> None:
    callback = SqueezeCallback(0.5, examples=32)
    module = fit(tmp_path, callback, **more)
    assert callback.ranks is not None
    assert callback.ranks.parameters == factors(module) <= factors(model()) / 2
    assert {id(p) for p in module.parameters() if p.requires_grad} == {
        id(p) for group in module.optimizers().param_groups for p in group["params"]
    }
    module.network.save_pretrained(tmp_path / "adapter")
    assert ranks(PeftModel.from_pretrained(base(), tmp_path / "adapter")) == ranks(module.network)


class Begin(SqueezeCallback):
    """Notes what the training begins with."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.began = {name: value.clone() for name, value in pl_module.state_dict().items()}
        self.states = len(trainer.optimizers[0].state)


@pytest.mark.parametrize("step", [2, 6])
def test_a_training_is_resumed_from_before_and_after_the_squeeze(step: int, tmp_path: Path) -> None:
    first = SqueezeCallback(0.5, examples=32)
    whole = fit(tmp_path, first)
    file = tmp_path / f"step={step}.ckpt"
    callback = Begin(0.5, examples=32)
    callback.__class__.__qualname__ = "SqueezeCallback"  # by which Lightning finds its state
    resumed = fit(tmp_path / "resumed", callback, resume=file)
    stored = torch.load(file, weights_only=False)
    assert callback.began.keys() == stored["state_dict"].keys()
    assert all(torch.equal(value, stored["state_dict"][name]) for name, value in callback.began.items())
    assert callback.states == len(stored["optimizer_states"][0]["state"]) > 0
    assert callback.ranks is not None
    assert first.ranks is not None
    assert factors(resumed) == callback.ranks.parameters <= factors(model()) / 2
    if step > STEPS / 2:  # else the second half of the first part draws other dropout
        assert callback.ranks == first.ranks
        assert ranks(resumed.network) == ranks(whole.network)


def test_what_cannot_be_squeezed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a model with LoRA"):
        fit(tmp_path, module=Module(base()))
    with pytest.raises(UserError, match="only a plain LoRA"):
        fit(tmp_path, module=Module(model(use_dora=True)))
    with pytest.raises(UserError, match="at: must be"):
        SqueezeCallback(at=2)
    with pytest.raises(UserError, match="batches: a list_iterator can be read only once"):
        SqueezeCallback(batches=iter([1]))


def test_batches_that_the_module_takes_apart_are_put_together_for_the_model(tmp_path: Path) -> None:
    callback = SqueezeCallback(0.5, examples=16, inputs=lambda batch: {"input_ids": batch["input_ids"]})
    module = fit(tmp_path, callback)
    assert factors(module) <= factors(model()) / 2
