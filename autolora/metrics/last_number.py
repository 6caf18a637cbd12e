r"""The last number of a text against that of its reference, as answers to GSM8K are scored.

``last_number(["so she has $1,080 left."], [["18 * 60 = 1080\n#### 1080"]])`` gives ``{"last_number": 1.0}``.

What is a number, in any place of a text (so after ``####``, in ``\boxed{…}``, in front of a unit or a full stop):

| form | for instance | value |
|---|---|---|
| digits | ``72``, ``007`` | 72, 7 |
| with decimals behind a point | ``72.50``, ``.5`` | 72.5, 0.5 |
| with commas before every three digits | ``1,234``, ``1,234,567.8`` | 1234, 1234567.8 |
| in scientific notation | ``1.5e3``, ``2E-2`` | 1500, 0.02 |
| a fraction of two such | ``3/4``, ``20 / 35``, ``\frac{3}{4}`` | 0.75, 0.5714… |

A ``-``, ``+`` or ``−`` belongs to the number if it stands directly before it and not directly behind a letter, a digit
or a closing bracket: ``-3`` and ``(-3)`` are negative, ``10-3`` ends in 3. A sign of money may stand before it
(``$5.00`` and ``-$5`` are 5 and -5), a percent sign behind it (``50%`` is 50, since GSM8K leaves it out); neither
changes the value. Two values are equal as numbers, exactly: 72 is 72.0, and a third is not 0.33.

What could mean two things has no value: ``1.000,5``, ``12,34``, ``1.2.3``, ``1/2/2024``, ``5/0``, and exponents or
lengths beyond 1000 digits. An output whose last number has no value, and an output without a number, is wrong; a
reference must have one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

from autolora.metrics.base import Metric, Output
from autolora.metrics.text import check_texts

MOST_DIGITS = 1000  # of a number, and of its exponent's power of ten
_MONEY = "$€£¥₹"
_PLAIN = r"(?:\d+(?:[.,]\d+)*|(?<!\.)\.\d+)(?:[eE][+\-−]?\d{1,1000}(?![\d.,]*\w))?"
_SIGN = rf"(?:(?<![^\W_])(?<![)\]}}])[+\-−])?[{_MONEY}]?(?:(?<=[{_MONEY}])[+\-−])?"
_SIGNED = rf"{_SIGN}{_PLAIN}"
_FORM = re.compile(rf"{_SIGNED}(?:\s?/\s?{_SIGNED})*", re.ASCII)
_LATEX = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_LATEX_MONEY = re.compile(r"\\(?=[$%])")
_VALUE = re.compile(r"([+-]?)((?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?)(?:[eE]([+-]?\d{1,9}))?", re.ASCII)


def last_number(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of outputs whose last number equals that of one of their references."""
    check_references(predictions, references)
    right = 0
    for output, several in zip(predictions, references, strict=True):
        found = number_in(output)
        right += found is not None and found in map(number_in, several)
    return {"last_number": right / len(predictions)}


def number_in(text: str) -> Fraction | None:
    r"""The value of the last number of a text; None where there is no number, or what stands there has no value.

    >>> number_in("5.00 - 3 is 2.\n#### $1,234.50"), number_in("1.000,5"), number_in("none")
    (Fraction(2469, 2), None, None)

    Args:
        text: An output, or a reference.
    """
    plain = _LATEX_MONEY.sub("", _LATEX.sub(r" \1/\2 ", text))
    last = deque(_FORM.finditer(plain), maxlen=1)
    return _value(last[0].group()) if last else None


def reference_fault(reference: str) -> str:
    """Why a reference cannot be scored against; "" where it can.

    Args:
        reference: One text.
    """
    if number_in(reference) is not None:
        return ""
    return f"last_number needs a number that means one thing in every reference, got {reference.strip()[-80:]!r}"


def check_references(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Every example has references, and each of them a number.

    Raises:
        ValueError: One has not.
    """
    check_texts(predictions, references)
    for i, several in enumerate(references, 1):
        if fault := next(filter(None, map(reference_fault, several)), ""):
            raise ValueError(f"example {i}: {fault}")


def _value(form: str) -> Fraction | None:
    parts = [_plain_value(part) for part in form.split("/")]
    if len(parts) > 2 or any(part is None for part in parts):
        return None
    top, *bottom = (part for part in parts if part is not None)
    if not bottom:
        return top
    return top / bottom[0] if bottom[0] else None


def _plain_value(text: str) -> Fraction | None:
    """One number without a fraction bar; None where its points and commas could mean two things."""
    bare = re.sub(rf"[\s{_MONEY}]", "", text).replace("−", "-")
    found = _VALUE.fullmatch(bare)
    if found is None or not found[2] or len(bare) > MOST_DIGITS or abs(int(found[3] or 0)) > MOST_DIGITS:
        return None
    return Fraction(bare.replace(",", ""))


METRIC = Metric(
    "last_number",
    last_number,
    (Output("last_number"),),
    check=check_references,
    takes="texts",
    reference_fault=reference_fault,
)
