"""EVA (Paischer et al., 2024), PEFT's: LoRA that begins with its layers' inputs' principal directions (``eva``).

A layer's A begins as the leading right singular vectors of its inputs on the training split, B as zero. The ranks
follow from how much variance the vectors explain: of all layers' vectors together the best ones are kept, and no layer
gets more than RHO times the rank that it began with. It begins with ranks as even as they go and AutoLoRA's sum, of the
same recipe and seed, which EVA keeps. A layer that begins at rank 0 (a sum below the number of layers) stays there.

PEFT finds the components; the adapter is made here, as everyone's, at the scaling lora_alpha / k: PEFT's own would name
layers by ends of names that fit several, and say in its configuration that it is to be initialised by EVA.
"""

from __future__ import annotations

import inspect
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from peft import EvaConfig
from peft.tuners.lora.eva import get_eva_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.errors import UserError
from autolora.files import write_json
from autolora.lab import Lab
from autolora.methods.base import AUTOLORA, RankedLora
from autolora.methods.uniform import nearest_uniform
from autolora.model.targets import input_output_features, target_modules
from autolora.recipe.schema import Method as Settings
from autolora.recipe.schema import Recipe
from autolora.retrain.adapter import lora_config
from autolora.stages.steps import add_seconds
from autolora.training.batches import BatchStream, TensorBatch
from autolora.training.checkpoint import load_checkpoint, save_checkpoint

RHO = 2.0  # PEFT's default
LIMIT = 2000  # batches; where the components have not converged by then, they will not
PREFIX = "base_model.model."


class Eva(RankedLora):
    """Its ranks are in ``retrain/ranks.json``; they are found before training, at the retraining's cost."""

    searches = False
    passes = 0  # forward passes that the components took

    @classmethod
    def needs(cls, recipe: Recipe) -> tuple[Settings, ...]:
        return (AUTOLORA,)

    def check(self) -> None:
        self.budget()

    def adapt(self, model: PreTrainedModel, head: Sequence[str], lab: Lab, total: int) -> nn.Module:
        names, budget = target_modules(model, self.recipe.model.target_modules), self.budget()
        start = nearest_uniform(dict.fromkeys(names, 1), budget)
        found = self._components(model, lab, start)
        ranks = {name: len(found.get(name, ())) for name in names}
        record = {"initial_rank": self.recipe.search.rank, "budget": budget, "ranks": ranks}
        if lab.main:
            write_json(self.run.path / "retrain" / "ranks.json", record)
        lab.accelerator.wait_for_everyone()
        adapted = self.at_ranks(record, model, head, lab)
        with torch.no_grad():
            for name in (name for name, rank in ranks.items() if rank):
                layer: Any = adapted.get_submodule(PREFIX + name)
                layer.lora_A["default"].weight.copy_(found[name])
        return adapted

    def _components(self, model: PreTrainedModel, lab: Lab, start: Mapping[str, int]) -> dict[str, Tensor]:
        """Every layer's A. It is kept, so that a resumed run goes on with the same one."""
        path = self.run.path / "retrain" / "eva" / "checkpoint.safetensors"
        settings = self.recipe.retrain
        identity = lab.identity("eva", dict(start), RHO, settings.batch_size)
        if path.exists():
            found, record = load_checkpoint(path)
            if record["identity"] == identity:
                self.passes = record["forward_passes"]
                return found
        begun = time.monotonic()
        stream = lab.stream(lab.examples(self.recipe.data.splits.train), settings, "eva")
        found, self.passes = components(model, stream, start)
        add_seconds(self.run, "retrain", time.monotonic() - begun)
        if lab.main:
            save_checkpoint(path, found, {"identity": identity, "forward_passes": self.passes})
        return found

    def save(self, trained: nn.Module, head: Sequence[str], lab: Lab) -> None:
        super().save(trained, head, lab)
        in_training = self.run.manifest()["stages"]["retrain"]["forward_passes"]
        self.run.note("retrain", forward_passes=in_training + self.passes, initialisation_passes=self.passes)


def components(model: PreTrainedModel, stream: BatchStream, start: Mapping[str, int]) -> tuple[dict[str, Tensor], int]:
    """EVA's A of every layer that begins above rank 0, of shape (rank, inputs), and the forward passes it took.

    Whole batches in the stream's order, over all processes and without micro-batches: every process finds the same.
    """
    largest = round(RHO * max(start.values()))
    _check_width(model, start, largest)
    forward = _Forward(model)
    batches = _Batches(stream, forward.inputs, tokens=largest)
    config = lora_config(start, initial_rank=1, lora_alpha=1.0)  # of the ranks alone
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=RHO)
    with redirect_stdout(io.StringIO()):  # PEFT prints whenever it skips an input, see _TokenRows
        found = get_eva_state_dict(
            model,
            batches,
            config,
            forward_fn=forward,
            prepare_model_inputs_fn=lambda inputs, config: inputs["attention_mask"].bool(),
            prepare_layer_inputs_fn=_TokenRows(),
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )
    return {name: a.float() for name, a in found.items()}, forward.passes


def _check_width(model: nn.Module, start: Mapping[str, int], largest: int) -> None:
    """No more components can be chosen from than there are inputs."""
    for name in (name for name, rank in start.items() if rank):
        inputs, _ = input_output_features(model.get_submodule(name))
        if largest > inputs:
            raise UserError(
                f"eva: {name} has {inputs} inputs, too few to choose up to {largest} components from; lower search.rank"
            )


class _Forward:
    """Calls a model with what it takes of a batch beside the labels, and counts the calls."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.takes = set(inspect.signature(model.forward).parameters) - {"labels"}
        self.more = {"logits_to_keep": 1} if "logits_to_keep" in self.takes else {}  # none is looked at
        self.passes = 0

    def inputs(self, batch: TensorBatch) -> TensorBatch:
        return {name: tensor for name, tensor in batch.items() if name in self.takes}

    def __call__(self, model: PreTrainedModel, inputs: TensorBatch) -> None:
        self.passes += 1
        model(**inputs, **self.more)


class _Batches:
    """A stream's batches for PEFT, which begins anew after the first and goes on until the components have converged.

    Batches with fewer than `tokens` tokens are joined with those that follow: PEFT skips them, for ever if all are so.
    """

    def __init__(self, stream: BatchStream, inputs: Callable[[TensorBatch], TensorBatch], tokens: int) -> None:
        self.stream, self.inputs, self.tokens = stream, inputs, tokens

    def __len__(self) -> int:
        return self.stream.batches_per_epoch

    def __iter__(self) -> Iterator[TensorBatch]:
        waiting: list[int] = []
        for step in range(LIMIT):
            waiting += self.stream.indices(step)
            if sum(self.stream.lengths[i] for i in waiting) >= self.tokens:
                yield self.inputs(self.stream.collate([self.stream.examples[i] for i in waiting]))
                waiting = []
        raise UserError(
            f"eva: the components of the layers' inputs have not converged after {LIMIT} batches; raise "
            "retrain.batch_size, or lower search.rank"
        )


class _TokenRows:
    """The inputs of a layer at the batch's tokens, without padding: (tokens, inputs).

    A layer may be called with something else beside (DeBERTa's with its embeddings of relative positions); that is
    given as no rows, which PEFT skips.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, layer_input: Any, mask: Tensor, name: str) -> Tensor:
        x: Tensor = layer_input[0] if isinstance(layer_input, tuple | list) else layer_input
        if x.shape[:-1] in (mask.shape, (mask.numel(),)):
            self.seen.add(name)
            return x[mask] if x.ndim > 2 else x[mask.flatten()]
        if name not in self.seen:
            raise UserError(
                f"eva: the inputs of {name} have the shape {tuple(x.shape)}, which does not fit the batch's tokens "
                f"{tuple(mask.shape)}; leave it out of model.target_modules"
            )
        return x.new_empty(0, x.shape[-1])
