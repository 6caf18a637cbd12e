"""What a recipe says: one frozen, typed object per section, with every default in one place.

A recipe is a YAML file; `autolora.recipe.load` reads it into `Recipe`. The sections are also the settings objects of
the Python API: ``Search(steps=200, rank=8)`` is what `autolora.bilevel.loop.BilevelSearch` takes.

Unknown keys, wrong types and values out of range are rejected here. What needs a file, the data or the model is checked
in `autolora.experiment.preflight`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from autolora.recipe.fields import (
    LATER,
    MAX_FILES,
    BatchSize,
    Beams,
    Characters,
    ExampleCount,
    FileName,
    FilePath,
    FreeText,
    HubId,
    LanguageCode,
    Length,
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
    printable,
)
from autolora.recipe.stages import BudgetSettings, RankRule, Retrain, Schedule, Search, Selection, Steps, Weights
from autolora.registry import LINEARISERS, METHODS, METRICS, TASKS

__all__ = ["Schedule", "Search", "Selection", "Steps", "Weights"]  # sections that have files of their own


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


JOIN = " + "  # between the files of a split
GLOB = "glob:"  # in front of a pattern of file names


def _joined(value: Any) -> Any:
    """A list of files is one split: its name joins theirs."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) and part for part in value):
        return JOIN.join(value)
    return value


def _column(value: Any) -> Any:
    """The number of a column is its name."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000 else value


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
Split = Annotated[str, Field(min_length=1, max_length=MAX_FILES), AfterValidator(printable), BeforeValidator(_joined)]
Column = Annotated[Name, BeforeValidator(_column)]  # a name; in .conll files also a number, from 0


HELD_OUT = "held-out"  # the split that data.splits.held_out makes


class Splits(Section):
    """The split that is trained on (it is divided into D_tr and D_val) and the splits that are only evaluated on."""

    train: Split = "train"
    eval: Annotated[tuple[Split, ...], Field(min_length=1, max_length=100, strict=False)] = ("validation",)
    # This share of the training split is not trained on but a split of its own, which eval may name: held-out.
    held_out: Share | None = None


class Limits(Section):
    """At most so many examples of each split (the first ones after a seeded shuffle); null for all."""

    train: ExampleCount | None = None
    eval: ExampleCount | None = None
    # Training rows whose columns and label have more characters together, blanks between, are left out and counted.
    characters: Annotated[Characters | None, LATER] = None


class Elsewhere(Section):
    """Another data set than the training split's. What is left out is as there, but where it lies."""

    hub: HubId | None = None  # data set id on the Hugging Face hub
    config: Name | None = None  # its configuration
    revision: Revision | None = None
    path: FilePath | None = None  # folder below data.root, as data.path
    # What the columns are called there, in the order of data.columns; null: the same
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2, strict=False)] | None = None
    label: Column | None = None  # null: as data.label

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.hub is None and self.path is None:
            raise ValueError("one of hub or path must say where the evaluation splits are")
        return self


class Data(Section):
    """Where the examples come from, which columns are used, and how long an input may be."""

    hub: HubId | None = None  # data set id on the Hugging Face hub
    config: Name | None = None  # its configuration, e.g. cola
    revision: Revision | None = None
    path: FilePath | None = None  # folder below root with one file a split: train.jsonl, validation.csv, …
    root: FilePath | None = None  # folder that `path` is relative to; null: the recipe's own folder
    # Synthetic: sentences of the package's own grammar; made-up facts; or what a planted model's teacher says of words.
    generated: Literal["acceptability", "facts", "planted"] | None = None
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2, strict=False)] = ("sentence",)
    label: Column = "label"
    category: Name | None = None  # column that says what an example is about, where results are split by it
    linearise: Annotated[str, one_of(LINEARISERS)] = "none"  # how a structured input becomes text (generation)
    # The classes' names, by id. Where none of them is a number, a whole number in a file is an id.
    labels: (
        Annotated[tuple[Name, ...], Field(min_length=2, max_length=10_000, strict=False), AfterValidator(_once)] | None
    ) = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"  # of text files
    missing: Literal["refuse", "drop"] = "refuse"  # what is done about rows with an empty cell
    splits: Splits = Splits()
    evaluation: Annotated[Elsewhere | None, LATER] = (
        None  # where the evaluation splits are, if that is another data set
    )
    limits: Limits = Limits()
    max_length: Length = 128  # tokens of an example, with the special ones
    # How conversations are written (chat): a name, or a .jinja file below root; null: the tokenizer's own template.
    template: Annotated[FilePath | None, LATER] = None
    packing: Annotated[bool, LATER] = False  # whether the examples of a step share rows of max_length tokens (chat)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.generated is None and self.hub is None and self.path is None:
            raise ValueError("one of hub, path or generated must say where the data is")
        if self.generated is not None and (self.hub is not None or self.path is not None):
            raise ValueError("generated data has neither hub nor path")
        return self

    @model_validator(mode="after")
    def _evaluation_fits(self) -> Self:
        other = self.evaluation
        if other is None:
            return self
        if self.generated is not None:
            raise ValueError("generated data brings its evaluation split; leave out data.evaluation")
        if other.columns is not None and len(other.columns) != len(self.columns):
            raise ValueError(
                f"evaluation.columns are those of data.columns, {len(self.columns)} in their order, "
                f"got {', '.join(other.columns)}"
            )
        return self

    def source_of(self, split: str) -> Data:
        """The section as it is where a split lies: that of `evaluation`, for an evaluation split of another data set.

        Args:
            split: Its name.
        """
        other = self.evaluation
        if other is None or split == self.splits.train or split == HELD_OUT:
            return self
        changed = {name: getattr(other, name) for name in ("hub", "config", "revision", "path")}
        changed |= {"columns": other.columns or self.columns, "label": other.label or self.label}
        return self.model_copy(update={**changed, "evaluation": None})


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
