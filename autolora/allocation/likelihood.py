"""What a model's prediction means: the distribution that targets are drawn from, for `autolora.squeeze`.

`categorical`: the prediction is logits (examples, classes) or (examples, positions, classes). Positions count where the
batch has ``labels`` other than -100, or, without labels, where its ``attention_mask`` (of a decoder's inputs, their
``decoder_attention_mask``) is not 0; a causal language model's position predicts the next one. `gaussian`: means of
variance 1. A function of the prediction gives a `torch.distributions.Distribution`, or the summed loss of targets that
it drew itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from transformers import PreTrainedModel

from autolora.allocation.rows import packed_examples, rows_of
from autolora.errors import UserError
from autolora.training.batches import IGNORED
from autolora.training.sampling import Sampled, sampled_categorical, sampled_gaussian
from autolora.training.seeds import kept_generators

Likelihood = Literal["categorical", "gaussian"] | Callable[[Any], Distribution | Tensor]

_DECODED = ("decoder_input_ids", "decoder_inputs_embeds")  # without these a decoder's positions are the encoder's
_LABELS = ("labels", "label", "label_ids")
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_CATEGORICAL = (
    *_CAUSAL,
    "ForConditionalGeneration",
    "ForMaskedLM",
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForImageClassification",
    "ForAudioClassification",
)


def infer(base: nn.Module) -> Likelihood:
    """The likelihood of one of transformers' heads.

    Args:
        base: The model without PEFT's wrapping.

    Raises:
        UserError: It says nothing about its head's meaning.
    """
    name = type(base).__name__
    if isinstance(base, PreTrainedModel) and name.endswith("ForSequenceClassification"):
        kind = base.config.problem_type
        if kind == "regression" or (kind is None and base.config.num_labels == 1):
            return "gaussian"
        if kind != "multi_label_classification":
            return "categorical"
    elif isinstance(base, PreTrainedModel) and name.endswith(_CATEGORICAL):
        return "categorical"
    raise UserError(
        f"what the prediction of {name} means is not known; say likelihood='categorical' (logits), 'gaussian' "
        "(means), or a function that gives the torch.distributions.Distribution of a prediction"
    )


class Predictive:
    """A model with the meaning of its predictions; its `sampled` is a `autolora.allocation.gates.SampledLoss`.

    Args:
        model: Is called with a batch: the keywords of a mapping without its labels, a tensor, or of a sequence as many
            as ``forward`` takes.
        base: The same without PEFT's wrapping.
        likelihood: Of its predictions; None: inferred from the head.

    Raises:
        UserError: The likelihood is none, or cannot be inferred.
    """

    def __init__(self, model: nn.Module, base: nn.Module, likelihood: Likelihood | None = None) -> None:
        self.model, self.inferred = model, likelihood is None
        self.likelihood: Likelihood = infer(base) if likelihood is None else likelihood
        if not callable(self.likelihood) and self.likelihood not in ("categorical", "gaussian"):
            raise UserError(
                f"likelihood: must be 'categorical', 'gaussian' or a function of the prediction, got {likelihood!r}"
            )
        self.causal = isinstance(base, PreTrainedModel) and _shifts(base)
        self.inputs = _positional(base)
        # These make the decoder's inputs of the labels.
        self.decodes = isinstance(base, PreTrainedModel) and bool(base.config.is_encoder_decoder)

    def sampled(self, batch: Any, draws: torch.Generator) -> Sampled:
        """Σ -log p(ŷ | x) over the batch's units, ŷ ~ p(. | x).

        Args:
            batch: Of any kind that the model takes; labels say which positions count, no more.
            draws: A CPU generator.

        Raises:
            UserError: The prediction is no tensor, or has another shape than the likelihood says.
        """
        prediction = self.predict(batch)
        if callable(self.likelihood):
            return Sampled(_drawn(self.likelihood, prediction, draws), rows_of(batch).count)
        if not isinstance(prediction, Tensor):
            raise UserError(
                f"the model gives a {type(prediction).__name__} without .logits; say what it means by a function "
                "as the likelihood"
            )
        prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        if self.likelihood == "gaussian":
            return Sampled(sampled_gaussian(prediction, draws), prediction.shape[0])
        return self._categorical(prediction, batch, draws)

    def predict(self, batch: Any) -> Any:
        """The output's ``.logits`` where it has them, else the output.

        Args:
            batch: Likewise.

        Raises:
            UserError: One of transformers' models gets a sequence.
        """
        if isinstance(batch, list | tuple) and self.inputs == 0:
            raise UserError("a batch of one of transformers' models is a mapping of tensors, by the names it takes")
        if isinstance(batch, Mapping):
            wanted = {key: value for key, value in batch.items() if self.decodes or key not in _LABELS}
            if self.causal:
                wanted.setdefault("use_cache", False)  # with a cache transformers lets packed examples see each other
            output = self.model(**wanted)
        elif isinstance(batch, list | tuple):
            output = self.model(*batch[: self.inputs])
        else:
            output = self.model(batch)
        return getattr(output, "logits", output)

    def _categorical(self, logits: Tensor, batch: Any, draws: torch.Generator) -> Sampled:
        if logits.ndim > 3:
            raise UserError(
                f"a prediction of shape {tuple(logits.shape)} is not (examples, classes) or (examples, positions, "
                "classes); say what it means by likelihood=lambda logits: torch.distributions.Categorical("
                "logits=logits.movedim(1, -1)), where dimension 1 has the classes"
            )
        if self.inferred and _several_labels(batch):
            raise UserError(
                "the labels are floating point, as those of several classes at a time are, and config.problem_type "
                "does not say what the prediction means; say likelihood=lambda logits: "
                "torch.distributions.Bernoulli(logits=logits), or set problem_type"
            )
        if logits.ndim < 2 or logits.shape[-1] < 2:
            raise UserError(
                f"a prediction of shape {tuple(logits.shape)} is not categorical: the last dimension has the logits of "
                "two classes or more; of a single logit say likelihood=lambda logit: "
                "torch.distributions.Bernoulli(logits=logit), of means 'gaussian'"
            )
        counts = self._counts(logits, batch)
        if self.causal and logits.ndim == 3:
            packed = packed_examples(batch)
            counts, logits = counts[:, 1:], logits[:, :-1]
            if packed is not None:  # the last position of an example does not predict the next example's first
                counts = counts & (packed[:, 1:] == packed[:, :-1])
        return Sampled(sampled_categorical(logits, draws, counts), int(counts.sum()))

    def _counts(self, logits: Tensor, batch: Any) -> Tensor:
        """Which units count, booleans of the logits' shape without the classes."""
        shape = logits.shape[:-1]
        if isinstance(batch, Mapping) and len(shape) == 2:
            said: dict[str, Tensor]
            said = {key: batch[key] for key in ("labels", self._mask(batch)) if isinstance(batch.get(key), Tensor)}
            for name, each in said.items():  # labels say more than a mask
                if each.shape == shape:
                    return each != IGNORED if name == "labels" else each.bool()
                if each.ndim == 2 and not each.is_floating_point():
                    raise UserError(
                        f"a prediction of shape {tuple(logits.shape)} is of {tuple(shape)} positions, and {name} of "
                        f"{tuple(each.shape)}: which of them count cannot be told (the last dimension of logits has "
                        "the classes); say what they mean by a function as the likelihood"
                    )
        return torch.ones(shape, dtype=torch.bool, device=logits.device)

    def _mask(self, batch: Mapping[str, Any]) -> str:
        """What says which positions of the prediction are padding, without labels."""
        given = self.decodes and any(key in batch for key in _DECODED)
        return "decoder_attention_mask" if given else "attention_mask"


def _positional(base: nn.Module) -> int | None:
    """How many inputs by position ``forward`` takes; None: any number. Those of transformers' models go by name."""
    if isinstance(base, PreTrainedModel):
        return 0
    parameters = inspect.signature(base.forward).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return None
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)


def _shifts(base: PreTrainedModel) -> bool:
    """Whether the logits at a position are of the next one's token: of decoders, whatever the class is called."""
    names = [each.__name__ for each in type(base).__mro__]
    if any(name.endswith(_CAUSAL) for name in names):
        return True
    generates = any(name.endswith("ForConditionalGeneration") for name in names)
    return generates and not base.config.is_encoder_decoder and bool(base.can_generate())


def _several_labels(batch: Any) -> bool:
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    return isinstance(labels, Tensor) and labels.is_floating_point() and labels.ndim == 2


def _drawn(likelihood: Callable[[Any], Distribution | Tensor], prediction: Any, draws: torch.Generator) -> Tensor:
    """The loss by the user's function, which draws from torch's own generators: seeded, and restored afterwards."""
    seed = int(torch.randint(2**62, (), generator=draws))
    put_back = kept_generators()
    try:
        torch.manual_seed(seed)
        found = likelihood(prediction)
        if isinstance(found, Distribution):
            with torch.no_grad():
                drawn = found.sample()
            found = -found.log_prob(drawn)
    finally:
        put_back()
    if not isinstance(found, Tensor):
        raise UserError(f"the likelihood must give a Distribution or a loss, got {type(found).__name__}")
    return found.sum()
