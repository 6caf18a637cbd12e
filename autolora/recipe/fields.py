"""The kinds of values that a recipe's fields have, each with its rule, and `Section`, the base of its sections."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from autolora.errors import UserError
from autolora.registry import Registry


def one_of(registry: Registry[Any], *more: str) -> AfterValidator:
    """A validator of names.

    Args:
        registry: Whose names are allowed.
        more: Names beside them, which stand for nothing that is registered.
    """

    def check(value: str) -> str:
        if value in more:
            return value
        if value not in registry:
            names = ", ".join((*registry, *more))
            raise PydanticCustomError("unknown_name", "must be one of {names}", {"names": names})
        try:
            registry.check(value)
        except UserError as error:  # two packages give it
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


def printable(value: str) -> str:
    """The text, if no terminal, file name or table would take a character of it for a command.

    Args:
        value: Of a field.

    Raises:
        PydanticCustomError: It has a control character, or half a character.
    """
    if wrong := next((char for char in value if unicodedata.category(char) in ("Cc", "Cs")), None):
        raise PydanticCustomError("unprintable", "must have no character {code}", {"code": f"U+{ord(wrong):04X}"})
    return value


def _free(value: str) -> str:
    printable(value.replace("\n", "").replace("\t", ""))
    return value


def _within_the_repository(value: str) -> str:
    if ".." in value:
        raise PydanticCustomError(
            "revision", "must be a branch, a tag or a commit, got {value}", {"value": repr(value)}
        )
    return value


def within(low: float, high: float, why: str, *, above: bool = False) -> Any:
    """A range of a number, with its reason in the description of the field.

    Args:
        low: The least value, or what it is above.
        high: The greatest value.
        why: The reason, in a few words.
        above: Whether the least value itself is none.
    """
    described = f"from {_short(low)} to {_short(high)}: {why}"
    return Field(gt=low, le=high, description=described) if above else Field(ge=low, le=high, description=described)


def _short(number: float) -> str:
    return f"{number:g}" if not isinstance(number, int) or number % 10**6 == 0 else str(number)


# Numbers. Each kind has a range, and its description says why; errors and generated documentation show it. The ranges
# are wide enough for models of any size that there is: what lies outside is a slip, or cannot be computed.
MAX_STEPS, MAX_EPOCHS, MAX_EXAMPLES = 10**9, 10**6, 10**9
MAX_BATCH, MAX_ACCUMULATION = 2**20, 2**16
MAX_RANK, MAX_TOKENS, MAX_PARAMETERS = 2**16, 2**20, 10**12
MAX_RATE, MAX_DECAY, MAX_ALPHA = 100.0, 1000.0, 1e6
MAX_SEED = 2**32 - 1

Number = Annotated[float, Field(allow_inf_nan=False)]
StepCount = Annotated[int, within(1, MAX_STEPS, "at a millisecond each these are 12 days")]
Epochs = Annotated[Number, within(0, MAX_EPOCHS, "nothing is learned from more passes", above=True)]
BatchSize = Annotated[int, within(1, MAX_BATCH, "the examples of a step are in memory at once")]
Accumulation = Annotated[int, within(1, MAX_ACCUMULATION, "each is a pass of its own in a step")]
ExampleCount = Annotated[int, within(1, MAX_EXAMPLES, "the rows that can be encoded and kept")]
Patience = Annotated[int, within(1, 10**6, "so many evaluations in a row without a better one end a training")]
Rank = Annotated[int, within(1, MAX_RANK, "no layer of any model has a larger smaller side")]
Size = Annotated[int, within(1, MAX_RANK, "a rank, a width, or tokens of a prefix")]
ParameterCount = Annotated[int, within(1, MAX_PARAMETERS, "no model has more parameters")]
Length = Annotated[int, within(2, MAX_TOKENS, "one token is a special one; no model reads more")]
Characters = Annotated[int, within(1, 16 * MAX_TOKENS, "no model reads a longer text")]
NewTokens = Annotated[int, within(1, MAX_TOKENS, "no model writes more tokens")]
Alpha = Annotated[Number, within(0, MAX_ALPHA, "LoRA's update is multiplied by lora_alpha / rank", above=True)]
GradientNorm = Annotated[Number, within(0, 1e6, "a longer gradient is divergence, and is not shortened", above=True)]
Rate = Annotated[
    Number, within(0, MAX_RATE, "Adam moves every weight by about the rate, and weights are below 1", above=True)
]
RateRatio = Annotated[Number, within(1, 10_000, "LoRA+ is about a B that learns faster than A; at 1 it is LoRA")]
InnerRate = Annotated[Number, within(0, MAX_RATE, "as a learning rate; at 0 V' is V")]
Decay = Annotated[Number, within(0, MAX_DECAY, "a step takes learning_rate times it off a weight")]
Epsilon = Annotated[Number, within(1e-12, 10, "less is lost in rounding, and more is no derivative any more")]
Threshold = Annotated[Number, within(-MAX_RATE, MAX_RATE, "what selection variables can reach")]
Tolerance = Annotated[Number, within(0, 10, "at 1 all that LoRA has gained is given up", above=True)]
Probability = Annotated[
    Number, Field(ge=0, lt=1, description="0 or more and below 1: a share of all, and 1 leaves none")
]
Share = Annotated[Number, Field(gt=0, lt=1, description="above 0 and below 1: both parts need something")]
Fraction = Annotated[Number, Field(gt=0, le=1, description="above 0, and at most 1, which is all")]
Seed = Annotated[int, within(0, MAX_SEED, "generators take 32 bits")]
Beams = Annotated[int, within(1, 1000, "the model's memory is needed once for each beam")]
LengthPenalty = Annotated[Number, within(-100, 100, "a score is divided by the length to this power")]
NGram = Annotated[int, within(0, 10_000, "tokens of a phrase; 0 allows repetitions")]
Value = Annotated[Number, within(-1e9, 1e9, "the scores of benchmarks; float32 rounds beyond")]

# Text.
MAX_NAME, MAX_PATH, MAX_TEXT, MAX_FILES = 1000, 4096, 10_000, 65_536
WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(printable)]
FilePath = Annotated[str, Field(min_length=1, max_length=MAX_PATH), AfterValidator(printable)]
FreeText = Annotated[str, Field(max_length=MAX_TEXT, description="free text"), AfterValidator(_free)]
StopText = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, description="text that ends an output"), AfterValidator(_free)
]
HubId = Annotated[str, Field(pattern=rf"^{WORD}(/{WORD})?$", max_length=200)]
Revision = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+/-]*$", max_length=250), AfterValidator(_within_the_repository)
]
LicenseId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$", max_length=100)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,20}(-[A-Za-z0-9]+)*$", max_length=40)]
RecipeName = Annotated[str, Field(pattern=rf"^{WORD}(/{WORD})*$", max_length=200)]
FileName = Annotated[str, Field(pattern=rf"^{WORD}$", max_length=100)]
Targets = Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000, strict=False)] | Literal["all-linear"]


LATER = "later"  # marks a field that recipes of earlier versions did not have
WHOLE = {"whole": True}  # the context of a dump with every field in it


class Section(BaseModel):
    """Base of all sections: frozen, strict types, no unknown keys.

    What recipes depend on is told from their dumps: keys of runs, identities of checkpoints. There a field that came
    later (``Annotated[…, LATER]``) is left out while it is at its default, so that earlier runs are still found.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _without_later(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if info.context == WHOLE:
            return values
        fields = type(self).model_fields
        same = [n for n in values if LATER in fields[n].metadata and getattr(self, n) == fields[n].default]
        return {name: value for name, value in values.items() if name not in same}
