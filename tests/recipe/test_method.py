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
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,7-9,8", [0, 7, 8, 9]), ("5-5", [5])]
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
