"""What a recipe says: one frozen, typed object per section, with every default in one place.

A recipe is a YAML file; `autolora.recipe.load` reads it into `Recipe`. The sections are also the settings objects of
the Python API: ``Search(steps=200, rank=8)`` is what `autolora.bilevel.loop.BilevelSearch` takes.

Unknown keys, wrong types and values out of range are rejected here. What needs a file, the data or the model is checked
in `autolora.experiment.preflight`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from autolora.errors import UserError
from autolora.registry import ESTIMATORS, LINEARISERS, METHODS, METRICS, TASKS, Registry


def _yaml_float(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` (no dot) as a string; people mean a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _one_of(registry: Registry[Any]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in registry:
            raise PydanticCustomError("unknown_name", "must be one of {names}", {"names": ", ".join(registry)})
        try:
            registry.check(value)
        except UserError as error:  # two packages give it
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


Number = Annotated[float, BeforeValidator(_yaml_float), Field(allow_inf_nan=False)]
PositiveNumber = Annotated[Number, Field(gt=0)]
NonNegativeNumber = Annotated[Number, Field(ge=0)]
Probability = Annotated[Number, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of all sections: frozen, strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Model(Section):
    """Which pretrained model, at which precision, and where LoRA goes."""

    name: Name  # hub id, local directory, bundled:all-MiniLM-L6-v2, or planted:mixed
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # compute precision; auto: bfloat16 on a GPU, else float32
    # null: PEFT's for the architecture; where it has none, every linear layer of the backbone
    target_modules: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] | None = None
    head: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] | Literal["auto"] = "auto"
    trust_remote_code: bool = False


JOIN = " + "  # between the files of a split
GLOB = "glob:"  # in front of a pattern of file names


def _joined(value: Any) -> Any:
    """A list of files is one split: its name joins theirs."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) and part for part in value):
        return JOIN.join(value)
    return value


def _column(value: Any) -> Any:
    """The number of a column is its name."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else value


def _encoding(value: str) -> str:
    try:
        "a".encode(value)  # a codec of bytes, hex for instance, is none of text
    except (LookupError, UnicodeError, ValueError):
        rule = "must be a text encoding, utf-8, latin-1 or utf-16 for instance, got {value}"
        raise PydanticCustomError("encoding", rule, {"value": repr(value)}) from None
    return value


def _once(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if twice := next((name for i, name in enumerate(names or ()) if name in (names or ())[:i]), None):
        raise PydanticCustomError("name_twice", "must have each name once, got {name} twice", {"name": repr(twice)})
    return names


# A split of a data set; or a file with its suffix, a list of files, or a pattern such as glob:train-*.parquet.
Split = Annotated[Name, BeforeValidator(_joined)]
Column = Annotated[Name, BeforeValidator(_column)]  # a name; in .conll files also a number, from 0


class Splits(Section):
    """The split that is trained on (it is divided into D_tr and D_val) and the splits that are only evaluated on."""

    train: Split = "train"
    eval: Annotated[tuple[Split, ...], Field(min_length=1, strict=False)] = ("validation",)


class Limits(Section):
    """At most so many examples of each split (the first ones after a seeded shuffle); null for all."""

    train: PositiveInt | None = None
    eval: PositiveInt | None = None


class Data(Section):
    """Where the examples come from, which columns are used, and how long an input may be."""

    hub: str | None = None  # data set id on the Hugging Face hub
    config: str | None = None  # its configuration, e.g. cola
    revision: str | None = None
    path: str | None = None  # folder below root with one file a split: train.jsonl, validation.csv, …
    root: str | None = None  # folder that `path` is relative to; null: the recipe's own folder
    # Synthetic: sentences of the package's own grammar; or what the teacher of a planted model says of random words.
    generated: Literal["acceptability", "planted"] | None = None
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2, strict=False)] = ("sentence",)
    label: Column = "label"
    category: Name | None = None  # column that says what an example is about, where results are split by it
    linearise: Annotated[str, _one_of(LINEARISERS)] = "none"  # how a structured input becomes text (generation)
    # The classes' names, by id. Where none of them is a number, a whole number in a file is an id.
    labels: Annotated[tuple[Name, ...], Field(min_length=2, strict=False), AfterValidator(_once)] | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"  # of text files
    missing: Literal["refuse", "drop"] = "refuse"  # what is done about rows with an empty cell
    splits: Splits = Splits()
    limits: Limits = Limits()
    max_length: PositiveInt = 128

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.generated is None and self.hub is None and self.path is None:
            raise ValueError("one of hub, path or generated must say where the data is")
        if self.generated is not None and (self.hub is not None or self.path is not None):
            raise ValueError("generated data has neither hub nor path")
        return self


class Loss(Section):
    """What is changed about the task's loss, in the search and in the retraining."""

    label_smoothing: Probability = 0.0


class Steps(Section):
    """How long a stage trains: `steps`, or `epochs` (3 where neither is given)."""

    steps: PositiveInt | None = None
    epochs: PositiveNumber | None = None
    batch_size: PositiveInt = 16  # examples per optimiser step, over all processes
    gradient_accumulation: PositiveInt = 1  # the batch is split into so many micro-batches
    checkpoint_every: PositiveInt = 100  # steps
    log_every: PositiveInt = 10  # steps

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; leave one out")
        return self

    def total_steps(self, examples: int) -> int:
        """Optimiser steps of the stage over a set of so many examples."""
        if self.steps is not None:
            return self.steps
        batches = -(-examples // self.batch_size)
        return max(1, round((self.epochs or 3.0) * batches))


class Schedule(Section):
    """An optimiser's learning rate over a stage."""

    learning_rate: PositiveNumber
    weight_decay: NonNegativeNumber = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Probability = 0.06  # fraction of the steps


class Weights(Schedule):
    """The optimiser of V (LoRA factors and head): AdamW."""

    learning_rate: PositiveNumber = 1e-4


class Selection(Schedule):
    """The optimiser of the selection logits z: Adam."""

    learning_rate: PositiveNumber = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Probability = 0.0


class Search(Steps):
    """The bilevel search for the selection variables."""

    rank: PositiveInt = 8  # k, components per layer before selection
    lora_alpha: PositiveNumber = 16.0
    lora_dropout: Probability = 0.1
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.5  # share of the training split that is D_val
    validation_batch_size: PositiveInt | None = None  # null: as batch_size
    meta_learning: bool = True  # false: one level, z and V learn from the same data
    estimator: Annotated[str, _one_of(ESTIMATORS)] = "central_difference"
    epsilon: PositiveNumber = 0.01  # a difference perturbs V by epsilon / ||v||
    inner_step: Literal["plain", "adam"] = "adam"  # V' = V - xi g, or V' = V - xi times Adam's step
    inner_learning_rate: NonNegativeNumber | None = None  # xi; null: the weights' learning rate at that step
    constraint: Literal["softmax", "sigmoid", "none"] = "softmax"
    threshold: Number | None = None  # null: 1/k (softmax), 0.5 (sigmoid), the layer's mean (none)
    weights: Weights = Weights()
    selection: Selection = Selection()


class Retrain(Steps):
    """LoRA at the found ranks, on D_tr and D_val together."""

    lora_alpha: PositiveNumber | None = None  # null: as search.lora_alpha
    lora_dropout: Probability | None = None  # null: as search.lora_dropout
    scaling: Literal["constant", "per_rank"] = "constant"  # lora_alpha / k everywhere, or lora_alpha / rank
    weights: Weights = Weights()


class MethodSettings(Section):
    """What finds the ranks and what is trained: AutoLoRA, or what it is compared with (`autolora.methods`)."""

    name: Annotated[str, _one_of(METHODS)] = "autolora"
    size: PositiveInt | None = (
        None  # rank (lora, svd), width (houlsby, pfeiffer), length (prefix); null: the method's own
    )
    learning_rate: PositiveNumber | None = None  # of the retraining; null: the method's own, or retrain.weights'


class Decoding(Section):
    """How text is generated: beam search."""

    beams: PositiveInt = 1
    length_penalty: Number = 1.0
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0  # 0: repetitions are allowed
    max_new_tokens: PositiveInt = 64


class Submission(Section):
    """The files that a benchmark takes for its unlabelled test set."""

    files: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], Name], Field(min_length=1)]
    prediction: Literal["id", "name", "score"] = "id"  # the label's number, its name, or the predicted score
    range: Annotated[tuple[Number, Number], Field(strict=False)] = (0.0, 5.0)  # of scores


class Eval(Section):
    """What is measured on the evaluation splits."""

    # The first is what methods are compared by; left out: the task family's own.
    metrics: Annotated[tuple[Annotated[str, _one_of(METRICS)], ...], Field(min_length=1, strict=False)] = ()
    positive: Name | None = None  # the class that F1 is about, of two; null: the second
    batch_size: PositiveInt = 64
    generation: Decoding = Decoding()
    submission: Submission | None = None  # file name to split, for --submission


class Recipe(Section):
    """A whole experiment. `name` becomes the folder under ``runs/``."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
    task: Annotated[str, _one_of(TASKS)]
    description: str = ""
    model: Model
    data: Data
    loss: Loss = Loss()
    method: MethodSettings = MethodSettings()
    search: Search = Search()
    retrain: Retrain = Retrain()
    eval: Eval = Eval()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _family_metrics(self) -> Self:
        object.__setattr__(self, "eval", TASKS.load(self.task).with_metrics(self.eval))  # it is frozen from here on
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
