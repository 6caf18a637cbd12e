"""The section of a recipe that says where its examples come from: data, with its splits, limits and evaluation data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from autolora.recipe.fields import (
    LATER,
    MAX_FILES,
    Characters,
    ExampleCount,
    FilePath,
    HubId,
    Length,
    Name,
    Revision,
    Section,
    Share,
    one_of,
    printable,
)
from autolora.registry import LINEARISERS

JOIN = " + "  # between the files of a split
GLOB = "glob:"  # in front of a pattern of file names
HELD_OUT = "held-out"  # the split that data.splits.held_out makes


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
        if self.root is None and self.hub is not None and other.hub is None:
            raise ValueError(
                "evaluation.path counts from data.root, and data of the hub has none: say hub in evaluation, too, or "
                "have both in files below data.root"
            )
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
        if other.path is None:  # the hub's alone: the root is where the training split's files are
            changed["root"] = None
        return self.model_copy(update={**changed, "evaluation": None})
