"""Where modules stand in a model: layers as rows, projections as columns."""

from __future__ import annotations

import pytest

from autolora.lora.places import places, rank_table


def test_layers_are_rows_in_numeric_order_and_projections_columns() -> None:
    found = rank_table(
        {
            "bert.encoder.layer.10.attention.self.query": 3,
            "bert.encoder.layer.10.attention.self.value": 4,
            "bert.encoder.layer.2.attention.self.query": 1,
            "bert.encoder.layer.2.attention.self.value": 2,
        }
    )
    assert found.layers == ("2", "10")
    assert found.projections == ("query", "value")
    assert found.values == ((1, 2), (3, 4))


def test_a_module_that_a_layer_does_not_have_is_none_and_one_without_a_number_is_in_the_last_row() -> None:
    found = rank_table({"lm_head": 2, "transformer.h.3.attn.c_attn": 5, "transformer.h.4.mlp.c_fc": 6})
    assert found.layers == ("3", "4", "-")
    assert found.projections == ("lm_head", "c_attn", "c_fc")
    assert found.values == ((None, 5, None), (None, None, 6), (2, None, None))


def test_last_components_that_are_not_unique_take_as_much_of_the_name_as_they_need() -> None:
    names = ["attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"]
    found = rank_table({f"bert.encoder.layer.0.{name}": 1 for name in names} | {"bert.pooler.dense": 1})
    assert found.projections == (
        "query",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
        "pooler.dense",
    )


def test_two_stacks_with_the_same_layers_do_not_overwrite_each_other() -> None:
    form = "{}.block.0.layer.1.SelfAttention.q"
    found = rank_table({form.format("encoder"): 1, form.format("decoder"): 2})
    assert found.layers == ("0",)
    assert found.values == ((1, 2),)
    assert found.projections == ("encoder.q", "decoder.q")


def test_projections_of_two_stacks_are_told_by_the_stack_and_as_little_more_as_they_need() -> None:
    t5 = [f"encoder.block.0.layer.0.SelfAttention.{kind}" for kind in "qv"]
    t5 += ["encoder.block.0.layer.1.DenseReluDense.wo"]
    t5 += [f"decoder.block.0.layer.{i}.{kind}Attention.q" for i, kind in enumerate(("Self", "EncDec"))]
    t5 += ["decoder.block.0.layer.2.DenseReluDense.wo"]
    wanted = ("encoder.q", "v", "encoder.wo", "decoder.SelfAttention.q", "EncDecAttention.q", "decoder.wo")
    assert places(t5).projections == wanted
    bart = [f"model.{stack}.layers.1.self_attn.q_proj" for stack in ("encoder", "decoder")]
    assert places([*bart, "model.decoder.layers.1.encoder_attn.q_proj"]).projections == (
        "encoder.q_proj",
        "decoder.self_attn.q_proj",
        "encoder_attn.q_proj",
    )


def test_a_stack_within_a_stack_has_its_own_columns() -> None:
    found = rank_table({"m.layers.0.q": 1, "layers.0.q": 2, "m.n.layers.0.q": 3})
    assert len(set(found.projections)) == 3
    assert found.values == ((1, 2, 3),)


@pytest.mark.parametrize("count", [1, 12])
def test_places_are_the_cells_of_the_table(count: int) -> None:
    ranks = {f"m.{layer}.{name}": 2 * layer + (name == "v") for layer in range(count) for name in ("q", "v")}
    found, table = places(ranks), rank_table(ranks)
    assert (found.layers, found.projections) == (table.layers, table.projections)
    assert found.layers == tuple(map(str, range(count)))
    assert {name: table.values[row][column] for name, (row, column) in found.cells.items()} == ranks


def test_no_modules_are_an_empty_table() -> None:
    assert rank_table({}).values == ()
    assert places([]).cells == {}
