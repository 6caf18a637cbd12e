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

from peft import EvaConfig
from peft.tuners.lora.eva import get_eva_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.context.steps import add_seconds
from autolora.errors import UserError
from autolora.lora.adapter import set_factors
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.targets import input_output_features, target_shapes
from autolora.methods.budgets import Budgeted, nearest_uniform
from autolora.methods.peft import RankedLora
from autolora.training.batches import BatchStream, TensorBatch
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.finetune import Training

RHO = 2.0  # PEFT's default
LIMIT = 2000  # batches; where the components have not converged by then, they will not


class Eva(Budgeted, RankedLora):
    """Its ranks are in ``retrain/ranks.json``; they are found before training, at the retraining's cost."""

    searches = False

    @override
    def check(self) -> None:
        _ = self.source

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        if model.config.is_encoder_decoder and context.family.decodes:
            raise UserError(
                "eva: the inputs of a decoder's layers are not known before it decodes; take another method"
            )
        shapes = target_shapes(model, context.targets(model))
        budget = self.rank_budget(shapes)
        start = nearest_uniform(dict.fromkeys(shapes, 1), budget)
        found, passes = self._components(model, context, start)
        by_name = {name: len(found.get(name, ())) for name in shapes}
        ranks = self.given(by_name, shapes, budget=budget).scaled(
            self.recipe.retrain_alpha, self.recipe.retrain.scaling
        )
        if context.main:
            ranks.save(self.run.path / "retrain" / "ranks.json")
        context.compute.wait()
        adapted = self.at_ranks(ranks, model, head, context)
        for name in ranks.targets:
            set_factors(adapted, name, found[name])
        return Training(adapted, initial_passes=passes)

    def _components(
        self, model: PreTrainedModel, context: Context, start: Mapping[str, int]
    ) -> tuple[dict[str, Tensor], int]:
        """Every layer's A, and the forward passes it took. It is kept: a resumed run goes on with the same."""
        path = self.run.path / "retrain" / "eva" / "checkpoint.safetensors"
        settings = self.recipe.retrain
        identity = context.identity("eva", dict(start), RHO, settings.batch_size)
        if path.exists():
            found, record = load_checkpoint(path)
            if record["identity"] == identity:
                return found, int(record["forward_passes"])
        begun = time.monotonic()
        stream = context.stream(context.examples(self.recipe.data.splits.train), settings, "eva", padded=True)
        found, passes = components(model, stream, start)
        add_seconds(self.run, "retrain", time.monotonic() - begun)
        if context.main:
            save_checkpoint(path, found, {"identity": identity, "forward_passes": passes})
        return found, passes


def components(model: PreTrainedModel, stream: BatchStream, start: Mapping[str, int]) -> tuple[dict[str, Tensor], int]:
    """EVA's A of every layer that begins above rank 0, and the forward passes it took.

    Whole batches in the stream's order, over all processes and without micro-batches: every process finds the same.

    Args:
        model: The pretrained model.
        stream: Of batches of the training split.
        start: The rank that each layer begins with, by full module name.

    Returns:
        A by full module name, of shape (rank, inputs), and the number of passes.

    Raises:
        UserError: A layer has too few inputs, or the components do not converge.
    """
    largest = round(RHO * max(start.values()))
    _check_width(model, start, largest)
    forward = _Forward(model)
    batches = _Batches(stream, forward.inputs, tokens=largest)
    config = lora_config(Ranks(start, initial_rank=1, lora_alpha=1.0))  # of the ranks alone
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

    def __call__(self, layer_input: Tensor | tuple[Tensor, ...] | list[Tensor], mask: Tensor, name: str) -> Tensor:
        x = layer_input[0] if isinstance(layer_input, tuple | list) else layer_input
        if x.shape[:-1] in (mask.shape, (mask.numel(),)):
            self.seen.add(name)
            return x[mask] if x.ndim > 2 else x[mask.flatten()]
        if name not in self.seen:
            raise UserError(
                f"eva: the inputs of {name} have the shape {tuple(x.shape)}, which does not fit the batch's tokens "
                f"{tuple(mask.shape)}; leave it out of model.target_modules"
            )
        return x.new_empty(0, x.shape[-1])
