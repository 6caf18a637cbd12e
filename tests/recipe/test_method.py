import pytest

from autolora.errors import UserError
from autolora.recipe.method import check_targets, label, parse_method, parse_methods, parse_seeds
from autolora.recipe.schema import MethodSettings
from autolora.registry import METHODS


@pytest.mark.parametrize(
    "text",
    [
        *("autolora", "lora:4", "svd:16", "full:learning_rate=1e-05", "lora:2:learning_rate=0.01"),
        *("lora:1:targets=query+value", "autolora:targets=all-linear", "lora:1:learning_rate=0.01:targets=0.attn.q"),
        "autolora",
        "lora:4",
        "svd:16",
        "full:learning_rate=1e-05",
        "lora:2:learning_rate=0.01",
        "lora:2:learning_rate=0.00123456789",
        "squeeze:k=8:at=0.5:budget=rank=1",
        "squeeze:at=0.123456789",
        "fisher-scratch:k=2",
        "lora-matched:budget=parameters=9216",
        "lora-matched:budget=parameters=123456789",
        "squeeze:budget=fraction=0.25",
        "squeeze-uniform:budget=fraction=0.123456789:learning_rate=0.003",
        "autolora:budget=tolerance=0.02",
    ],
)
def test_a_label_means_the_method_that_it_labels(text: str) -> None:
    assert label(parse_method(text)) == text


def test_sizes_and_learning_rates_are_read() -> None:
    assert parse_method("lora:4") == parse_method("lora:size=4") == MethodSettings(name="lora", size=4)
    assert parse_method("adalora:learning_rate=1e-2") == MethodSettings(name="adalora", learning_rate=0.01)


def test_targets_are_names_with_a_plus_between_them_or_all_linear() -> None:
    assert parse_method("lora:1:targets=query+value") == MethodSettings(name="lora", size=1, targets=("query", "value"))
    assert parse_method("lora:1:targets=all-linear").targets == "all-linear"
    assert parse_method("lora:1:targets=null").targets == ("null",)  # a name, whatever it is in YAML
    assert [label(m) for m in parse_methods("lora:1:targets=a+b,lora:1,lora:1:targets=a+b")] == [
        "lora:1:targets=a+b",
        "lora:1",
    ]


def test_a_method_that_adapts_no_layers_has_none_to_choose() -> None:
    for name in METHODS:
        adapts = METHODS.load(name).adapts_layers
        settings = MethodSettings(name=name, targets=("query",))
        if adapts:
            check_targets(settings)
        else:
            with pytest.raises(UserError, match=f"method '{name}' puts LoRA on no layers.*leave targets out"):
                check_targets(settings)
        check_targets(MethodSettings(name=name))
    assert not METHODS.load("full").adapts_layers


def test_budgets_are_read() -> None:
    budgets = {text: parse_method(f"squeeze:budget={text}").budget.given for text in ("0.25", "1", "tolerance=1e-1")}
    assert budgets == {"0.25": {"fraction": 0.25}, "1": {"fraction": 1}, "tolerance=1e-1": {"tolerance": 0.1}}
    assert label(parse_method("squeeze:budget=0.25")) == "squeeze:budget=fraction=0.25"
    assert parse_method("squeeze:k=2") == parse_method("squeeze:2") == MethodSettings(name="squeeze", size=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("squeeze:budget=", "budget has no value"),
        ("squeeze:budget=rank=", "budget: it has no value; write budget=fraction=0.25, budget=parameters=9216"),
        ("squeeze:budget=ranks=1", "there is no budget 'ranks'; did you mean 'rank'"),
        ("squeeze:budget=half", r"budget\.fraction: must be a number, got 'half'; write .* squeeze:budget=rank=1"),
        ("squeeze:budget=1.5", r"budget\.fraction: must be at most 1, got 1\.5 \(.*which is all"),
        ("squeeze:budget=0", r"budget\.fraction: must be greater than 0"),
        ("squeeze:budget=rank=0", r"budget\.rank: must be at least 1, got 0 \(from 1 to 65536: "),
        ("squeeze:budget=rank=1.5", r"budget\.rank: must be a whole number"),
        ("squeeze:budget=parameters=-4", r"budget\.parameters: must be at least 1"),
        ("squeeze:budget=tolerance=0", r"budget\.tolerance: must be greater than 0"),
        ("squeeze:budget=rank=1:budget=0.5", "budget is said twice"),
        ("squeeze:k=2:4", "size is said twice"),
        ("squeeze:at=1", "at: must be less than 1, got 1"),
        ("squeeze:at=1.5:k=0", r"size: must be at least 1, got 0 .*; at: must be less than 1, got 1\.5"),
        ("lora:99999999", r"size: must be at most 65536, got 99999999 \(from 1 to 65536: "),
        ("lora:4:learning_rate=1e308", r"learning_rate: must be at most 100, got 1e\+308"),
        ("lora:", "size has no value"),
        ("lora:k=4", "k: unknown key"),
    ],
)
def test_what_is_no_budget_or_size_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"--methods: '{text}': .*{said}"):
        parse_method(text)


def test_methods_are_listed_once_each_in_order() -> None:
    assert [label(m) for m in parse_methods("lora:4, autolora,lora:4,")] == ["lora:4", "autolora"]


@pytest.mark.parametrize(
    "text",
    [
        "loar",
        "lora:0",
        "lora:-1",
        "lora:four",
        "lora:alpha=3",
        "lora:learning_rate=0",
        ",",
        "",
        "lora:1:targets=",
        "lora:1:targets=a+",
    ],
)
def test_what_is_no_method_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--methods: "):
        parse_methods(text)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-4", [0, 1, 2, 3, 4]),
        ("3", [3]),
        ("0,7-9,8", [0, 7, 8, 9]),
        ("5-5", [5]),
        ("0-999,5", list(range(1000))),
    ],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "4-0", "1..3", "0.5"])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds: expected whole numbers and ranges"):
        parse_seeds(text)


@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_can_be_loaded(name: str) -> None:
    from autolora.methods.base import Method as Contract

    assert issubclass(METHODS.load(name), Contract)


def test_a_number_of_thousands_of_digits_is_refused_in_a_short_line() -> None:
    with pytest.raises(UserError, match="size: must be a whole number, got '999") as error:
        parse_method("lora:" + "9" * 5000)
    assert len(str(error.value)) < 400
