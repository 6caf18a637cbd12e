"""Exact match and the last number of generated answers."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from autolora.metrics.exact_match import exact_match
from autolora.metrics.last_number import METRIC, last_number, number_in, reference_fault

# Answers of the GSM8K training set and of MetaMathQA, in their forms.
GSM8K = [
    ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72", 72),
    ("Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nShe earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10", 10),
    ("He has 5-8=-3 left, so he owes.\n#### -3", -3),
    ("The total is 1,450,000 dollars.\n#### 1,450,000", 1450000),
]
METAMATH = [
    (r"the dot product is $4^2 = \boxed{16}$.The answer is: 16", 16),
    (r"which is $\frac{20}{35}$. The answer is: \frac{4}{7}", Fraction(4, 7)),
    ("so 50% of them. The answer is: 50%.", 50),
    ("she pays $5.00. The answer is: $5.00", 5),
]


@pytest.mark.parametrize(("text", "value"), [*GSM8K, *METAMATH])
def test_published_answers_are_read(text: str, value: int | Fraction) -> None:
    assert number_in(text) == value


@pytest.mark.parametrize(("text", "value"), GSM8K)
def test_what_gsm8ks_own_expression_reads_is_read_alike(text: str, value: int) -> None:
    official = re.search(r"#### (\-?[0-9\.\,]+)", text)  # of the data set's own code
    assert official is not None
    assert number_in(text) == int(official[1].replace(",", "")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", 72),
        ("72.", 72),
        ("007", 7),
        (".5", Fraction(1, 2)),
        ("...5", 5),
        ("1..2", 2),
        ("72.50 m", Fraction(145, 2)),
        ("1,234,567.8", Fraction("1234567.8")),
        ("1.5e3", 1500),
        ("2E-2", Fraction(1, 50)),
        ("20 / 35", Fraction(4, 7)),
        ("-3/4", Fraction(-3, 4)),
        ("\\dfrac{1}{2}$", Fraction(1, 2)),
        ("-3", -3),
        ("(-3)", -3),
        ("−3", -3),
        ("+3", 3),
        ("10-3", 3),
        ("COVID-19", 19),
        ("3 - 5", 5),
        ("(2)-5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("\\$1,080", 1080),
        ("£2.50", Fraction(5, 2)),
        ("50 %", 50),
        ("**12**", 12),
        ("at 12:30", 30),
        ("5e", 5),
        ("1 000", 0),  # a blank separates
    ],
)
def test_forms_of_numbers(text: str, value: int | Fraction) -> None:
    assert number_in(f"first 99 then {text}") == value
    assert number_in(text + "\nso there") == value


@pytest.mark.parametrize("text", ["", "none", "1.000,5", "12,34", "1,2,3", "1.2.3", "1/2/2024", "5/0", "1234,567"])
def test_what_could_mean_two_things_has_no_value(text: str) -> None:
    assert number_in(text) is None
    assert last_number([text], [["5"]]) == {"last_number": 0.0}
    with pytest.raises(ValueError, match="example 1: "):
        METRIC.scores(["5"], [[text]])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["9" * 10**5, "1e999999999", "1e" + "9" * 5000 + "x.5.", "1," * 10**5, "5/" * 10**5])
def test_a_hostile_output_costs_nothing_and_is_wrong(text: str) -> None:
    assert last_number([text], [["7"]]) == {"last_number": 0.0}


def test_numbers_are_equal_as_numbers_and_exactly() -> None:
    assert last_number(["72.0", "0.750", "0.33", "2e1"], [["72"], ["3/4"], ["1/3"], ["#### 20"]]) == {
        "last_number": 0.75
    }


def test_one_of_several_references_is_enough() -> None:
    assert last_number(["5", "6"], [["4", "5.0"], ["4", "5"]]) == {"last_number": 0.5}
    assert exact_match(["b", "c"], [["a", "b"], ["a", "b"]]) == {"exact_match": 0.5}


def test_an_output_that_goes_on_is_scored_by_what_it_ends_with() -> None:
    assert last_number(["#### 72\nQuestion: 5 apples"], [["72"]]) == {"last_number": 0.0}


def test_a_fault_of_a_reference_shows_its_end() -> None:
    assert reference_fault("It is 72.") == ""
    assert reference_fault("no number here") == (
        "last_number needs a number that means one thing in every reference, got 'no number here'"
    )


@pytest.mark.parametrize(
    ("output", "right"),
    [("  New\tYork \n City ", True), ("new york city", False), ("New York City.", False), ("", False)],
)
def test_blanks_alone_do_not_count(output: str, right: bool) -> None:
    assert exact_match([output], [["New York  City"]]) == {"exact_match": float(right)}
