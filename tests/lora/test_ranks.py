"""`Ranks`: what it refuses, what its scaling is by PEFT's own layers, and its file, the first format's too."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model

from autolora.errors import UserError
from autolora.files import write_json
from autolora.lora.adapter import lora_layers
from autolora.lora.config import lora_config
from autolora.lora.ranks import FORMAT, Ranks, Scaling, threshold_of
from autolora.lora.targets import target_shapes
from tests.model.tiny import ARCHITECTURES, tiny_head, tiny_model

QUERY, VALUE = "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.value"
WHOLE = Ranks(
    {"b": 2, "a": 0, "c": 3},
    initial_rank=4,
    lora_alpha=12.0,
    scaling="per_rank",
    shapes={"b": (5, 7), "a": (5, 5), "c": (3, 9)},
    kept={"b": (0, 3), "a": (), "c": (0, 1, 2)},
    rule={"constraint": "softmax", "threshold": None, "selection": {"b": [0.4, 0.1, 0.1, 0.4]}},
)


def of(**changes: Any) -> Ranks:
    """A good `Ranks` of two layers, with changes."""
    return Ranks(**{"by_name": {"a": 1, "b": 2}, "initial_rank": 4, **changes})


def test_it_is_the_mapping_of_names_to_ranks_in_their_order() -> None:
    assert list(WHOLE) == ["b", "a", "c"]
    assert (WHOLE["b"], WHOLE["a"], len(WHOLE)) == (2, 0, 3)
    assert dict(WHOLE) == {"b": 2, "a": 0, "c": 3}
    assert (WHOLE.total, WHOLE.targets) == (5, ["b", "c"])
    with pytest.raises(KeyError):
        WHOLE["d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by_name": {}}, "there must be at least one layer, got none"),
        ({"by_name": {"a": 1, "b": -1}}, "a rank is a whole number from 0; that of b is -1"),
        ({"by_name": {"a": True, "b": 2}}, "a rank is a whole number from 0; that of a is True"),
        ({"by_name": {"a": 1, "b": 2.0}}, "a rank is a whole number from 0; that of b is 2.0"),
        ({"by_name": {"a": 1, "b": "2"}}, "a rank is a whole number from 0; that of b is '2'"),
        ({"by_name": {"a": None, "b": 2}}, "a rank is a whole number from 0; that of a is None"),
        ({"initial_rank": 0}, "the initial rank is a whole number from 1, got 0"),
        ({"initial_rank": -8}, "the initial rank is a whole number from 1, got -8"),
        ({"initial_rank": True}, "the initial rank is a whole number from 1, got True"),
        ({"initial_rank": 8.0}, "the initial rank is a whole number from 1, got 8.0"),
        ({"lora_alpha": math.nan}, "lora_alpha is a number above 0, got nan"),
        ({"lora_alpha": math.inf}, "lora_alpha is a number above 0, got inf"),
        ({"lora_alpha": 0}, "lora_alpha is a number above 0, got 0"),
        ({"lora_alpha": -16.0}, "lora_alpha is a number above 0, got -16.0"),
        ({"lora_alpha": True}, "lora_alpha is a number above 0, got True"),
        ({"lora_alpha": "16"}, "lora_alpha is a number above 0, got '16'"),
        ({"lora_alpha": None}, "lora_alpha is a number above 0, got None"),
        ({"scaling": "rslora"}, "the scaling is constant or per_rank or rank_stabilised, got 'rslora'"),
        ({"scaling": None}, "the scaling is constant or per_rank or rank_stabilised, got None"),
        ({"shapes": {"a": (2, 3), "c": (2, 3)}}, "ranks and shapes are of different layers: b"),
        ({"shapes": {"a": (2, 3)}}, "ranks and shapes are of different layers: b"),
        ({"shapes": {"a": (2, 3), "b": (2, 0)}}, "a shape is two whole numbers from 1; that of b is (2, 0)"),
        ({"shapes": {"a": (2.0, 3), "b": (2, 3)}}, "a shape is two whole numbers from 1; that of a is (2.0, 3)"),
        ({"kept": {"a": (0,), "b": (0, 1), "c": ()}}, "ranks and kept components are of different layers: c"),
        ({"kept": {"a": (0,)}}, "ranks and kept components are of different layers: b"),
        ({"kept": {"a": (0,), "b": (1,)}}, "b has rank 2 of 4, but keeps the components (1,)"),
        ({"kept": {"a": (), "b": (1, 2)}}, "a has rank 1 of 4, but keeps the components ()"),
        ({"kept": {"a": (4,), "b": (1, 2)}}, "a has rank 1 of 4, but keeps the components (4,)"),
        ({"kept": {"a": (-1,), "b": (1, 2)}}, "a has rank 1 of 4, but keeps the components (-1,)"),
        ({"kept": {"a": (0,), "b": (2, 1)}}, "b has rank 2 of 4, but keeps the components (2, 1)"),
        ({"kept": {"a": (0,), "b": (1, 1)}}, "b has rank 2 of 4, but keeps the components (1, 1)"),
        ({"kept": {"a": (True,), "b": (1, 2)}}, "a has rank 1 of 4, but keeps the components (True,)"),
    ],
)
def test_what_contradicts_itself_cannot_be_made(changes: dict[str, Any], message: str) -> None:
    of()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        of(**changes)


def test_a_rank_above_the_initial_one_is_fine_where_no_components_were_chosen() -> None:
    assert of(by_name={"a": 9, "b": 0}).alpha("a") == 16.0 * 9 / 4


@pytest.mark.parametrize(("scaling", "alphas"), [("constant", [3.0, 6.0, 12.0]), ("per_rank", [12.0, 12.0, 12.0])])
def test_alpha_is_what_keeps_the_scaling_in_hand(scaling: Scaling, alphas: list[float]) -> None:
    ranks = Ranks({"a": 1, "b": 2, "c": 4}, 4, 12.0, scaling)
    assert [ranks.alpha(name) for name in ranks] == alphas
    assert [ranks.alpha_at(rank) for rank in (1, 2, 4)] == alphas
    assert [ranks.scale(name) for name in ranks] == [
        alpha / rank for alpha, rank in zip(alphas, (1, 2, 4), strict=True)
    ]


@pytest.mark.parametrize("scaling", ["constant", "per_rank"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_scale_is_that_of_pefts_own_layers(name: str, scaling: Scaling) -> None:
    model = tiny_model(name)
    shapes = target_shapes(model, ARCHITECTURES[name].targets)
    ranks = Ranks({layer: i % 4 for i, layer in enumerate(shapes)}, 8, 20.0, scaling, shapes)  # the first has rank 0
    layers = lora_layers(get_peft_model(model, ranks.to_lora_config(fan_in_fan_out=name == "gpt2")))
    assert list(layers) == ranks.targets
    for layer, found in layers.items():
        assert found.r["default"] == ranks[layer]
        assert found.scaling["default"] == pytest.approx(ranks.scale(layer), rel=1e-12)
        assert ranks.scale(layer) == pytest.approx(20.0 / (8 if scaling == "constant" else ranks[layer]), rel=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_parameters_are_those_of_a_real_adapter(name: str) -> None:
    model = tiny_model(name)
    shapes = target_shapes(model, ARCHITECTURES[name].targets)
    ranks = Ranks({layer: i % 4 for i, layer in enumerate(shapes)}, 4, shapes=shapes)
    adapted = get_peft_model(model, ranks.to_lora_config(fan_in_fan_out=name == "gpt2"))
    assert ranks.parameters == sum(tensor.numel() for key, tensor in adapted.named_parameters() if ".lora_" in key)
    assert ranks.parameters > 0


def test_parameters_need_the_shapes() -> None:
    with pytest.raises(ValueError, match="the shapes of these layers are not known"):
        _ = of().parameters


def test_another_scaling_changes_nothing_else() -> None:
    other = WHOLE.scaled(32.0, "constant")
    assert other.to_json() == {**WHOLE.to_json(), "lora_alpha": 32.0, "scaling": "constant"}
    assert (WHOLE.lora_alpha, WHOLE.scaling) == (12.0, "per_rank")
    with pytest.raises(ValueError, match="lora_alpha is a number above 0, got 0"):
        WHOLE.scaled(0, "constant")


def test_equal_means_everything_and_to_other_mappings_the_ranks() -> None:
    assert of() == of()
    assert of() == {"b": 2, "a": 1}
    assert of() != {"a": 1, "b": 3}
    assert of() != "ab"
    different: list[dict[str, Any]] = [
        *({"by_name": {"a": 1, "b": 3}}, {"initial_rank": 5}, {"lora_alpha": 8.0}, {"scaling": "per_rank"}),
        *({"shapes": {"a": (1, 1), "b": (1, 1)}}, {"kept": {"a": (0,), "b": (1, 2)}}, {"rule": {"share": 0.5}}),
    ]
    assert all(of(**changes) != of() for changes in different)


def test_the_peft_configuration_is_that_of_lora_config() -> None:
    model = tiny_model("bert")
    shapes = target_shapes(model, ("query", "value"))
    ranks = Ranks({layer: 1 + i for i, layer in enumerate(shapes)}, 4, scaling="per_rank")
    options: dict[str, Any] = {
        "dropout": 0.1,
        "head": tiny_head(model, "bert"),
        "task_type": "SEQ_CLS",
        "fan_in_fan_out": False,
    }
    assert ranks.to_lora_config() == lora_config(ranks)
    assert ranks.to_lora_config(**options) == lora_config(ranks, **options)
    assert ranks.to_lora_config(**options) != ranks.to_lora_config()
    assert ranks.to_lora_config(**options).modules_to_save == options["head"]


def test_without_a_layer_there_is_no_peft_configuration() -> None:
    with pytest.raises(UserError, match="all ranks are 0, there is nothing to retrain"):
        of(by_name={"a": 0, "b": 0}).to_lora_config()


@pytest.mark.parametrize("ranks", [WHOLE, of(), of(lora_alpha=1e-3), of(rule={"grid": {"2": 0.1}})])
def test_what_is_saved_is_loaded_equal_and_in_the_same_order(ranks: Ranks, tmp_path: Path) -> None:
    path = tmp_path / "new" / "ranks.json"
    ranks.save(path)
    found = Ranks.load(path)
    assert found == ranks
    assert list(found) == list(ranks)
    assert (found.kept, found.shapes, found.rule) == (ranks.kept, ranks.shapes, ranks.rule)
    assert all(isinstance(value, tuple) for part in (found.kept, found.shapes) for value in part.values())
    again = tmp_path / "again.json"
    found.save(again)
    assert again.read_bytes() == path.read_bytes()


def first_format(**changes: Any) -> dict[str, Any]:
    """What earlier versions wrote after a search."""
    selection = {
        QUERY: [0.3, 0.125, 0.2, 0.075, 0.1, 0.05, 0.1, 0.05],
        VALUE: [0.125] * 8,
    }
    content = {
        "initial_rank": 8,
        "lora_alpha": 32.0,
        "constraint": "softmax",
        "threshold": None,
        "ranks": {QUERY: 3, VALUE: 8},
        "selection": selection,
    }
    return {**content, **changes}


@pytest.mark.parametrize(
    ("constraint", "threshold", "kept"),
    [
        ("softmax", None, {QUERY: (0, 1, 2), VALUE: (0, 1, 2, 3, 4, 5, 6, 7)}),  # 1/8, and on it is above it
        ("softmax", 0.2, {QUERY: (0, 2), VALUE: ()}),
        ("sigmoid", None, {QUERY: (), VALUE: ()}),  # 0.5
        ("none", None, {QUERY: (0, 1, 2), VALUE: (0, 1, 2, 3, 4, 5, 6, 7)}),  # the means, both 0.125
        ("none", 0.09, {QUERY: (0, 1, 2, 4, 6), VALUE: (0, 1, 2, 3, 4, 5, 6, 7)}),
    ],
)
def test_the_first_format_gives_the_kept_components_by_the_rule(
    constraint: str, threshold: float | None, kept: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    ranks = {name: len(indices) for name, indices in kept.items()}
    content = first_format(constraint=constraint, threshold=threshold, ranks=ranks)
    write_json(tmp_path / "ranks.json", content)
    found = Ranks.load(tmp_path / "ranks.json")
    assert dict(found) == ranks
    assert found.kept == kept
    assert (found.initial_rank, found.lora_alpha, found.scaling, found.shapes) == (8, 32.0, "constant", {})
    assert found.rule == {key: content[key] for key in ("constraint", "threshold", "selection")}
    level = {"softmax": 0.125, "sigmoid": 0.5, "none": None}[constraint] if threshold is None else threshold
    assert threshold_of(found) == level
    found.save(tmp_path / "new.json")  # and from then on it is of this format
    assert json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))["format"] == FORMAT
    assert Ranks.load(tmp_path / "new.json") == found


def test_the_first_format_of_ranks_given_by_a_rule_keeps_nothing() -> None:
    found = Ranks.from_json({"initial_rank": 8, "lora_alpha": 4.0, "ranks": {QUERY: 3, VALUE: 0}, "share": 0.9})
    assert dict(found) == {QUERY: 3, VALUE: 0}
    assert (found.lora_alpha, found.kept, found.rule) == (4.0, {}, {"share": 0.9})


def test_the_first_format_whose_ranks_are_not_those_of_its_variables_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{re.escape(QUERY)} has rank 4 of 8, but keeps the components"):
        Ranks.from_json(first_format(ranks={QUERY: 4, VALUE: 8}))


@pytest.mark.parametrize("number", [FORMAT + 1, 99, "3", None])
def test_a_format_of_a_later_version_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match=f"^it is of format {number!r}, and this version of autolora knows {FORMAT}$"):
        Ranks.from_json({**WHOLE.to_json(), "format": number})


def lacking(key: str) -> dict[str, Any]:
    return {name: value for name, value in WHOLE.to_json().items() if name != key}


DAMAGED: Mapping[str, Any] = {
    "null": None,
    "a list": [1, 2],
    "a number": 3,
    "an empty object": {},
    **{f"no {key}": lacking(key) for key in WHOLE.to_json() if key != "format"},
    "ranks are a list": {**WHOLE.to_json(), "ranks": ["a", "b"]},
    "ranks are null": {**WHOLE.to_json(), "ranks": None},
    "a rank is a fraction": {**WHOLE.to_json(), "ranks": {"b": 2.5, "a": 0, "c": 3}},
    "another rank than kept": {**WHOLE.to_json(), "ranks": {"b": 1, "a": 0, "c": 3}},
    "no alpha": {**WHOLE.to_json(), "lora_alpha": None},
    "a shape of one number": {**WHOLE.to_json(), "shapes": {"b": [5], "a": [5, 5], "c": [3, 9]}},
    "shapes are a list": {**WHOLE.to_json(), "shapes": [1]},
    "kept is a number": {**WHOLE.to_json(), "kept": {"b": 1, "a": [], "c": [0, 1, 2]}},
    "the rule is a number": {**WHOLE.to_json(), "rule": 3},
    "a later version": {**WHOLE.to_json(), "format": 9},
    "first format without ranks": {"initial_rank": 8},
    "first format with other ranks": first_format(ranks={QUERY: 1, VALUE: 8}),
}
DAMAGED_SELECTIONS: Mapping[str, Any] = {
    "a list": first_format(selection=[1, 2]),
    "null": first_format(selection=None),
    "of nulls, as NaN is written": first_format(selection={QUERY: [None] * 8, VALUE: [0.125] * 8}),
    "of no variables": first_format(selection={QUERY: [], VALUE: [0.125] * 8}),
    "under an unknown constraint": first_format(constraint="hardmax"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_file_is_the_users_to_mend_and_named(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps(DAMAGED[fault]), encoding="utf-8")
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} holds no ranks: .+"):
        Ranks.load(path)


@pytest.mark.parametrize("fault", DAMAGED_SELECTIONS)
def test_damaged_selection_variables_of_the_first_format_are_the_users_to_mend(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps(DAMAGED_SELECTIONS[fault]), encoding="utf-8")
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} holds no ranks: .+"):
        Ranks.load(path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", json.dumps(WHOLE.to_json()).encode()[:-20]])
def test_a_file_that_is_no_json_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} cannot be read: "):
        Ranks.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / 'none.json'))} cannot be read: "):
        Ranks.load(tmp_path / "none.json")


def test_what_was_checked_stays_as_it_was() -> None:
    given = {"a": 1}
    ranks = Ranks(given, initial_rank=4)
    given["a"] = -3
    assert ranks["a"] == 1
    with pytest.raises(TypeError):
        ranks.by_name["a"] = 2  # type: ignore[index]


def test_ranks_go_between_processes() -> None:
    assert pickle.loads(pickle.dumps(WHOLE)) == WHOLE


@pytest.mark.parametrize("shape", [(2,), (2, 3, 4), (2, 0), (2.0, 3)])
def test_a_shape_is_two_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a shape is two whole numbers from 1; that of a is "):
        Ranks({"a": 1}, initial_rank=4, shapes={"a": shape})  # type: ignore[dict-item]


def test_an_alpha_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="lora_alpha is a number above 0"):
        Ranks({"a": 1}, initial_rank=4, lora_alpha=10**400)


def test_kept_components_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="a has rank 1 of 4, but keeps the components None"):
        Ranks({"a": 1}, initial_rank=4, kept={"a": None})  # type: ignore[dict-item]
