"""Architectures that people have, and what autolora does with each: the table of the tests and of docs/models.md."""

from __future__ import annotations

from collections.abc import Mapping

from tests.model.architecture import Architecture
from tests.model.decoders import DECODERS
from tests.model.encoders import ENCODERS

ARCHITECTURES: Mapping[str, Architecture] = {**ENCODERS, **DECODERS}
