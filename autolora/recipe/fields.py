"""The kinds of values that a recipe's fields have, and `Section`, the base of its sections."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from autolora.errors import UserError
from autolora.registry import Registry


def _yaml_float(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` (no dot) as a string; people mean a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


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


Number = Annotated[float, BeforeValidator(_yaml_float), Field(allow_inf_nan=False)]
PositiveNumber = Annotated[Number, Field(gt=0)]
NonNegativeNumber = Annotated[Number, Field(ge=0)]
Probability = Annotated[Number, Field(ge=0, lt=1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]
Targets = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] | Literal["all-linear"]  # of the backbone


class Section(BaseModel):
    """Base of all sections: frozen, strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
