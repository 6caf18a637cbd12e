"""What a recipe says: one frozen, typed object per section, with every default in one place.

A recipe is a YAML file; `autolora.recipe.load` reads it into `Recipe`. The sections are also the settings objects of
the Python API: ``Search(steps=200, rank=8)`` is what `autolora.bilevel.loop.BilevelSearch` takes.

Where the examples come from is in `autolora.recipe.data`, search, ranks and retraining in `autolora.recipe.stages`.
Unknown keys, wrong types and values out of range are rejected here. What needs a file, the data or the model is checked
in `autolora.experiment.preflight`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autolora.recipe.data import Data, Elsewhere, Limits, Splits
from autolora.recipe.fields import (
    LATER,
    BatchSize,
    Beams,
    FileName,
    FilePath,
    FreeText,
    LanguageCode,
    LengthPenalty,
    LicenseId,
    Name,
    NewTokens,
    NGram,
    Probability,
    Rate,
    RateRatio,
    RecipeName,
    Revision,
    Section,
    Seed,
    Share,
    Size,
    StopText,
    Targets,
    Value,
    one_of,
)
from autolora.recipe.stages import BudgetSettings, RankRule, Retrain, Schedule, Search, Selection, Steps, Weights
from autolora.registry import METHODS, METRICS, TASKS

# Sections that have files of their own.
__all__ = ["Data", "Elsewhere", "Limits", "Schedule", "Search", "Selection", "Splits", "Steps", "Weights"]


class Model(Section):
    """Which pretrained model, at which precision, and where LoRA goes."""

    name: FilePath  # hub id, local directory, bundled:all-MiniLM-L6-v2, or planted:mixed
    revision: Revision | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of passes; auto: bfloat16 if the GPU or CPU has it
    # null: PEFT's for the architecture; where it has none, every linear layer of the backbone, as all-linear always is
    target_modules: Targets | None = None
    head: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000, strict=False)] | Literal["auto"] = "auto"
    trust_remote_code: bool = False
    # How the frozen base is kept; auto: in 16 bits where its files are and passes are in bfloat16, else in float32.
    base_dtype: Annotated[Literal["auto", "float32", "bfloat16"], LATER] = "auto"
    quantization: Annotated[Literal["nf4", "int8"] | None, LATER] = None  # of its linear layers, by bitsandbytes
    double_quantization: Annotated[bool, LATER] = True  # of nf4's scales, too, as QLoRA has it
    gradient_checkpointing: Annotated[bool, LATER] = False  # activations are computed twice instead of kept
    attn_implementation: Annotated[
        Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"], LATER
    ] = "auto"  # auto: transformers' choice for the architecture
    torch_compile: Annotated[bool, LATER] = False  # the model's passes in training


class Loss(Section):
    """What is changed about the task's loss, in the search and in the retraining."""

    label_smoothing: Probability = 0.0
    # Of texts: what is learned, the outputs (the assistant's turns) or all tokens, inputs and templates among them.
    tokens: Annotated[Literal["outputs", "all"], LATER] = "outputs"


class MethodSettings(Section):
    """What finds the ranks and what is trained: AutoLoRA, or what it is compared with (`autolora.methods`)."""

    name: Annotated[str, one_of(METHODS)] = "autolora"
    # Rank (lora, rslora, dora, pissa, olora, lora-fa, lora-plus, svd; squeeze begins with it), width (houlsby,
    # pfeiffer), length (prefix); null: the method's own
    size: Size | None = None
    learning_rate: Rate | None = None  # of the retraining; null: the method's own, or retrain.weights'
    ratio: Annotated[RateRatio | None, LATER] = None  # of lora-plus: B's learning rate over that of all else; null: 16
    at: Share | None = None  # instead of search.at, for squeeze and its controls
    budget: BudgetSettings = BudgetSettings()  # instead of ranks.budget
    targets: Targets | None = None  # the layers that this method adapts; null: model.target_modules


class Decoding(Section):
    """How text is generated: beam search; and where it ends beside the model's own end of a text."""

    beams: Beams = 1
    length_penalty: LengthPenalty = 1.0
    no_repeat_ngram: NGram = 0  # 0: repetitions are allowed
    max_new_tokens: NewTokens = 64
    # Where keys and values lie: in tensors that grow, in one of full length, or in pages that a batch's outputs share.
    cache: Annotated[Literal["dynamic", "static", "paged"], LATER] = "dynamic"
    stop: Annotated[tuple[StopText, ...], Field(max_length=100, strict=False), LATER] = ()  # texts that end an output

    @model_validator(mode="after")
    def _paged_is_plain(self) -> Self:
        if self.cache == "paged" and (self.beams > 1 or self.no_repeat_ngram):
            raise ValueError(
                "a paged cache takes the likeliest token alone: set beams to 1 and no_repeat_ngram to 0, or cache to "
                "static or dynamic"
            )
        return self


class Submission(Section):
    """The files that a benchmark takes for its unlabelled test set."""

    files: Annotated[dict[FileName, Name], Field(min_length=1, max_length=100)]
    prediction: Literal["id", "name", "score"] = "id"  # the label's number, its name, or the predicted score
    range: Annotated[tuple[Value, Value], Field(strict=False)] = (0.0, 5.0)  # of scores

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range goes from the lowest score to the highest, got {list(self.range)}")
        return self


class Eval(Section):
    """What is measured on the evaluation splits."""

    # The first is what methods are compared by; left out: the task family's own.
    metrics: Annotated[
        tuple[Annotated[str, one_of(METRICS)], ...], Field(min_length=1, max_length=100, strict=False)
    ] = ()
    positive: Name | None = None  # the class that F1 is about, of two; null: the second
    batch_size: BatchSize = 64
    generation: Decoding = Decoding()
    submission: Submission | None = None  # file name to split, for --submission


class Card(Section):
    """What a model card says of the product that no run can know."""

    license: LicenseId | None = None  # the hub's name for it, apache-2.0 for instance; null: unknown
    language: Annotated[tuple[LanguageCode, ...], Field(max_length=100, strict=False)] = ()  # of the texts: en


class Recipe(Section):
    """A whole experiment. `name` becomes the folder under ``runs/``."""

    name: RecipeName
    task: Annotated[str, one_of(TASKS)]
    description: FreeText = ""
    model: Model
    data: Data
    loss: Loss = Loss()
    method: MethodSettings = MethodSettings()
    search: Search = Search()
    ranks: RankRule = RankRule()
    retrain: Retrain = Retrain()
    eval: Eval = Eval()
    card: Annotated[Card, LATER] = Card()
    seed: Seed = 0

    @model_validator(mode="after")
    def _family_metrics(self) -> Self:
        object.__setattr__(self, "eval", TASKS.load(self.task).with_metrics(self.eval))  # it is frozen from here on
        return self

    @model_validator(mode="after")
    def _named_for_what_it_is(self) -> Self:
        if self.search.estimator == "none" and self.method.name == "autolora":  # nothing of AutoLoRA is left
            method = self.method.model_copy(update={"name": self.retrain.without_selection})
            object.__setattr__(self, "method", method)
        return self

    @property
    def retrain_alpha(self) -> float:
        """lora_alpha of the retraining: its own, or the search's."""
        own = self.retrain.lora_alpha
        return self.search.lora_alpha if own is None else own

    @property
    def retrain_dropout(self) -> float:
        """lora_dropout of the retraining: its own, or the search's."""
        own = self.retrain.lora_dropout
        return self.search.lora_dropout if own is None else own
