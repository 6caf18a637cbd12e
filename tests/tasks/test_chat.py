"""Chat data: the forms of its rows, what is learned and asked of them, what is refused, where, and a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from autolora.context.base import Context
from autolora.errors import RecipeError
from autolora.experiment.overview import overview
from autolora.experiment.preflight import load_recipe
from tests.chat_tokenizers import QWEN_2, byte_tokenizer, save_model, tiny_llama
from tests.own_data import read, refusal, write

USER, SAID = {"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is."}
MORE = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
WRITTEN = (  # by the template of Qwen 2, of one question and its answer
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nIs it?<|im_end|>\n"
    "<|im_start|>assistant\nIt is.<|im_end|>"
)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, a tiny Llama with the tokenizer of a chat model."""
    folder = tmp_path_factory.mktemp("chat")
    save_model(folder / "model", "qwen-2")
    return folder


def recipe(folder: Path, laboratory: Path, rows: Any, other: Any = None, suffix: str = "jsonl", **data: Any) -> Path:
    """The path of a recipe over these rows, which names no columns unless they are given."""
    files = {f"train.{suffix}": rows, f"validation.{suffix}": rows if other is None else other}
    settings = {"max_length": 400, **data}
    made = write(folder, laboratory, files, "chat", **settings)
    if "columns" not in data:
        said = yaml.safe_load(made.read_text())
        del said["data"]["columns"]
        made.write_text(yaml.safe_dump(said))
    return made


def context(made: Path) -> Context:
    return Context(load_recipe(made), show=False)


def texts(found: Context) -> list[str]:
    """The training examples as they read."""
    return [found.tokenizer.decode(example["input_ids"]) for example in found.examples("train")]


def learned(found: Context) -> list[list[str]]:
    """What is learned of every training example."""
    return [
        [
            found.tokenizer.decode(example["input_ids"][begin:end])
            for begin, end in zip(example["learned"][::2], example["learned"][1::2], strict=True)
        ]
        for example in found.examples("train")
    ]


FORMS: dict[str, tuple[dict[str, Any], tuple[list[str], str]]] = {
    "messages": ({"messages": [USER, SAID]}, (["messages"], "messages")),
    "sharegpt": (
        {"id": "7", "conversations": [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "It is."}]},
        (["conversations"], "conversations"),
    ),
    "openai in conversations": ({"conversations": [USER, SAID]}, (["conversations"], "conversations")),
    "texts": ({"prompt": "Is it?", "completion": "It is."}, (["prompt"], "completion")),
    "turns": ({"prompt": [USER], "completion": [SAID]}, (["prompt"], "completion")),
    "a text and a turn": ({"prompt": "Is it?", "completion": [SAID]}, (["prompt"], "completion")),
    "alpaca without input": (
        {"instruction": "Is it?", "input": "", "output": "It is."},
        (["instruction", "input"], "output"),
    ),
    "alpaca, null": (
        {"instruction": "Is it?", "input": None, "output": "It is."},
        (["instruction", "input"], "output"),
    ),
    "instructions": ({"instruction": "Is it?", "output": "It is."}, (["instruction"], "output")),
    "chosen": ({"chosen": [USER, SAID], "rejected": [USER, MORE[1]]}, (["chosen"], "chosen")),
    "chosen after a prompt": (
        {"prompt": [USER], "chosen": [SAID], "rejected": [MORE[1]]},
        (["prompt"], "chosen"),
    ),
    "chosen with the prompt in it": (
        {"prompt": "Is it?", "chosen": [USER, SAID], "rejected": [USER, MORE[1]]},
        (["prompt"], "chosen"),
    ),
    "chosen texts": ({"prompt": "Is it?", "chosen": "It is.", "rejected": "No."}, (["prompt"], "chosen")),
    "question and answer": ({"question": "Is it?", "answer": "It is."}, (["question"], "answer")),
    "null beside": ({"messages": [{**USER, "tool_calls": None}, {**SAID, "weight": 1}]}, (["messages"], "messages")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_by_its_columns_and_is_the_same_conversation(
    tmp_path: Path, laboratory: Path, form: str
) -> None:
    row, (columns, label) = FORMS[form]
    found = context(recipe(tmp_path, laboratory, [row, row]))
    assert (list(found.recipe.data.columns), found.recipe.data.label) == (columns, label)
    assert texts(found) == [WRITTEN] * 2
    assert learned(found) == [["It is.<|im_end|>"]] * 2
    (asked,) = found.examples("validation")
    assert asked["references"] == ["It is."] * 2
    assert found.tokenizer.decode(asked["input_ids"]) == WRITTEN.removesuffix("It is.<|im_end|>")


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.parametrize("form", ["messages", "sharegpt", "turns", "alpaca, null", "null beside"])
def test_other_files_hold_the_same(tmp_path: Path, laboratory: Path, form: str, suffix: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [FORMS[form][0]] * 2
    if suffix == "json":
        content: bytes = json.dumps(rows).encode()
    else:
        file = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(rows), file)
        content = file.getvalue().to_pybytes()
    found = context(recipe(tmp_path, laboratory, content, suffix=suffix))
    assert texts(found) == [WRITTEN] * 2


def test_an_input_stands_below_its_instruction(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"instruction": "Add.", "input": "2, 2", "output": "4"}]
    (text,) = texts(context(recipe(tmp_path, laboratory, rows)))
    assert "<|im_start|>user\nAdd.\n\n2, 2<|im_end|>\n" in text


def test_a_column_of_system_turns_is_a_first_turn(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"system": "Be brief.", "prompt": "Is it?", "completion": "It is."}]
    (text,) = texts(context(recipe(tmp_path, laboratory, rows)))
    assert text == WRITTEN.replace("You are a helpful assistant.", "Be brief.")


QUESTIONS = [{"prompt": f"Is it {i}?", "completion": "It is."} for i in range(120)]
BRIEF = {"system": "Be brief.", "prompt": "Is it?", "completion": "It is."}


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_system_turn_counts_however_far_down_it_first_stands(tmp_path: Path, laboratory: Path, suffix: str) -> None:
    rows: Any = [*QUESTIONS, BRIEF]
    found = context(recipe(tmp_path, laboratory, json.dumps(rows) if suffix == "json" else rows, suffix=suffix))
    assert texts(found)[-1] == WRITTEN.replace("You are a helpful assistant.", "Be brief.")
    assert texts(found)[0] == WRITTEN.replace("Is it?", "Is it 0?")


def test_tools_are_refused_however_far_down_they_first_stand(tmp_path: Path, laboratory: Path) -> None:
    made = recipe(tmp_path, laboratory, [*QUESTIONS, {**BRIEF, "tools": [{"name": "search"}]}])
    assert "train.jsonl:121: 'tools' names tools" in refusal(made)


@pytest.mark.parametrize("tools", ["[]", [], "", None])
def test_a_row_that_names_no_tool_is_one_without_tools(tmp_path: Path, laboratory: Path, tools: Any) -> None:
    (text,) = texts(context(recipe(tmp_path, laboratory, [{**BRIEF, "tools": tools}])))
    assert text == WRITTEN.replace("You are a helpful assistant.", "Be brief.")


def test_a_system_turn_counts_where_another_file_of_the_split_has_none(tmp_path: Path, laboratory: Path) -> None:
    files = {
        "train/a.csv": "prompt,completion\nIs it?,It is.\n",
        "train/b.csv": "system,prompt,completion\nBe brief.,a,b\n",
    }
    made = write(
        tmp_path, laboratory, {**files, "validation.jsonl": [BRIEF]}, "chat", columns=["prompt"], label="completion"
    )
    assert read(made)["train"]["system"] == [None, '"Be brief."']


def test_all_turns_of_the_assistant_are_learned_and_the_last_is_asked(tmp_path: Path, laboratory: Path) -> None:
    found = context(recipe(tmp_path, laboratory, [{"messages": [USER, SAID, *MORE]}]))
    assert learned(found) == [["It is.<|im_end|>", "Yes.<|im_end|>"]]
    assert found.task.units(found.examples("train")) == len("It is.") + 1 + len("Yes.") + 1
    (asked,) = found.examples("validation")
    assert found.tokenizer.decode(asked["input_ids"]).endswith(
        "It is.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert asked["references"] == ["Yes."]
    assert found.task.reference_record(asked) == {"input": [USER, SAID, MORE[0]], "references": ["Yes."]}


def test_the_answers_to_what_is_predicted_are_scored_in_the_form_that_is_learned(
    tmp_path: Path, laboratory: Path
) -> None:
    rows = [{"messages": [USER, SAID, MORE[0], {"role": "assistant", "content": answer}]} for answer in ("Yes.", "No")]
    found = context(recipe(tmp_path, laboratory, rows))
    task = found.task
    forced, owners = found.teacher_forced("validation")
    assert (len(found.examples("validation")), owners) == (1, [0, 0])
    assert [e["input_ids"] for e in forced] == [e["input_ids"] for e in found.examples("train")]
    assert [found.tokenizer.decode(e["input_ids"][slice(*e["learned"])]) for e in forced] == [
        "Yes.<|im_end|>",
        "No<|im_end|>",
    ]
    batch = task.collate(forced, found.tokenizer)
    assert int((batch["labels"] != -100).sum()) == task.units(forced) == 5 + 3
    assert float(task.loss(tiny_llama(len(found.tokenizer)), batch).detach()) > 0


TURN = "turn 2"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown role": ({"messages": [USER, {**SAID, "role": "bot"}]}, "'messages', turn 2: 'role' must be one of"),
    "sharegpt's role": (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}]},
        "'conversations', turn 2: 'from' must be one of human, user, gpt",
    ),
    "empty": ({"messages": [USER, {**SAID, "content": " "}]}, "turn 2: 'content' must be text that is not empty"),
    "null": ({"messages": [USER, {**SAID, "content": None}]}, "turn 2: 'content' must be text that is not empty"),
    "parts": (
        {"messages": [{**USER, "content": [{"type": "text", "text": "a"}]}, SAID]},
        "turn 1: 'content' must be text, got a list of parts",
    ),
    "no assistant": ({"messages": [USER]}, "there is no turn of the assistant"),
    "the user last": ({"messages": [USER, SAID, USER]}, "the last turn is the user's, and it must be the assistant's"),
    "the assistant first": ({"messages": [SAID, USER, SAID]}, "the first turn is the assistant's"),
    "a tool call": ({"messages": [USER, {**SAID, "tool_calls": [{"id": "1"}]}]}, "turn 2 has 'tool_calls'"),
    "tools": ({"messages": [USER, SAID], "tools": [{"name": "a"}]}, "'tools' names tools"),
    "a weight": ({"messages": [USER, {**SAID, "weight": 0}]}, "turn 2 has 'weight' '0'"),
    "a text": ({"messages": "user: Is it?"}, "'messages' must be a list of turns, got 'user: Is it?'; a text says not"),
    "both styles": ({"messages": [USER, {**SAID, "value": "a"}]}, "turn 2 has content, role, value"),
    "no object": ({"messages": [USER, "It is."]}, "turn 2 must be an object of role and content"),
    "a system turn twice": (
        {"messages": [{"role": "system", "content": "a"}, USER, SAID], "system": "b"},
        "a system turn stands in the column 'system' and among the turns",
    ),
    "another prompt": ({"prompt": "Was it?", "chosen": [USER, SAID]}, "what follows is not the prompt"),
    "missing": ({"prompt": "Is it?", "completion": None}, "'completion' is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_row_that_makes_no_sense_is_refused_with_its_place(tmp_path: Path, laboratory: Path, what: str) -> None:
    row, message = WRONG[what]
    form = "texts" if "completion" in row else "chosen with the prompt in it" if "chosen" in row else "messages"
    good = {"conversations": FORMS["sharegpt"][0]["conversations"]} if "conversations" in row else dict(FORMS[form][0])
    good = {**dict.fromkeys(row), **good}
    with pytest.raises(Exception, match=r"train\.jsonl:2: ") as caught:
        context(recipe(tmp_path, laboratory, [good, row])).examples("train")
    assert message in str(caught.value)


def test_a_key_that_a_turn_has_twice_is_refused(tmp_path: Path, laboratory: Path) -> None:
    text = '{"messages": [{"role": "user", "role": "system", "content": "a"}]}\n'
    with pytest.raises(Exception, match=r"train\.jsonl:1: 'messages' has an object with the key 'role' twice"):
        context(recipe(tmp_path, laboratory, text)).examples("train")


def test_what_a_template_refuses_has_the_rows_place(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"messages": [USER, SAID]}, {"messages": [USER, {**SAID, "content": "a<|im_end|>b"}]}]
    with pytest.raises(Exception, match=r"train\.jsonl:2: after its generation prompt"):
        context(recipe(tmp_path, laboratory, rows)).examples("train")


def faults(made: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(made)
    (fault,) = caught.value.faults
    return str(fault)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"messages": [USER, SAID], "prompt": "a", "chosen": [SAID]}], "may stand in messages or prompt+chosen"),
        ([{"text": "a"}], "none of the file's columns (text) has a usual name: messages, conversations; prompt and"),
        ([{"prompt": "a", "completion": "b", "response": "c"}], "may stand in prompt+completion or prompt+response"),
    ],
)
def test_columns_that_leave_the_form_open_are_one_fault(
    tmp_path: Path, laboratory: Path, rows: Any, message: str
) -> None:
    found = faults(recipe(tmp_path, laboratory, rows))
    assert message in found
    assert "data.columns" in found


def test_the_recipe_may_name_the_form(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"messages": [USER, SAID], "prompt": "a", "chosen": [SAID]}]
    assert texts(context(recipe(tmp_path, laboratory, rows, columns=["messages"]))) == [WRITTEN]
    (text,) = texts(context(recipe(tmp_path, laboratory, rows, columns=["prompt"], label="chosen")))
    assert text == WRITTEN.replace("Is it?", "a")


def test_data_of_the_hub_must_name_its_columns(tmp_path: Path, laboratory: Path) -> None:
    made = recipe(tmp_path, laboratory, [{"messages": [USER, SAID]}])
    said = yaml.safe_load(made.read_text())
    said["data"] = {"hub": "trl-lib/Capybara", "max_length": 64}
    made.write_text(yaml.safe_dump(said))
    assert "the columns of a data set that is not here are not known" in faults(made)
    said["data"]["columns"] = ["messages"]
    made.write_text(yaml.safe_dump(said))
    assert load_recipe(made).data.label == "messages"


ROWS = [{"messages": [USER, SAID]}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"template": "chatlm"}, "data.template: there is no chat template 'chatlm'; did you mean 'chatml'?"),
        ({"template": "mine.jinja"}, "data.template: there is no file "),
        ({"template": "../mine.jinja"}, "data.template: must be a file below data.root"),
        ({"linearise": "triples"}, "data.linearise: has no bearing"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, laboratory: Path, data: Any, message: str) -> None:
    assert message in faults(recipe(tmp_path, laboratory, ROWS, **data))


@pytest.mark.parametrize(("name", "value"), [("template", "chatml"), ("packing", True)])
def test_other_tasks_have_no_conversations(tmp_path: Path, laboratory: Path, name: str, value: Any) -> None:
    rows = [{"text": "a", "label": "b"}]
    files = {"train.jsonl": rows, "validation.jsonl": rows}
    assert f"data.{name}: has no bearing: generation" in faults(
        write(tmp_path, laboratory, files, "generation", **{name: value})
    )


def test_a_template_of_ones_own_lies_below_the_root(tmp_path: Path, laboratory: Path) -> None:
    (tmp_path / "mine.jinja").write_text(QWEN_2.replace("helpful", "clever"))
    found = context(recipe(tmp_path, laboratory, ROWS, template="mine.jinja"))
    assert texts(found) == [WRITTEN.replace("helpful", "clever")]
    before = found.identity("retrain")
    assert context(tmp_path / "own.yaml").identity("retrain") == before
    (tmp_path / "mine.jinja").write_text(QWEN_2)
    assert context(tmp_path / "own.yaml").identity("retrain") != before


def test_a_model_without_template_says_what_to_do(tmp_path: Path, laboratory: Path) -> None:
    tokenizer = byte_tokenizer("<s>", "</s>")
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_llama(len(tokenizer)).save_pretrained(tmp_path / "model")
    made = recipe(tmp_path, tmp_path, ROWS)
    with pytest.raises(Exception, match=r"has no chat template of its own; name one in data\.template: plain"):
        context(made).examples("train")
    found = context(recipe(tmp_path, tmp_path, ROWS, template="plain"))
    assert texts(found) == ["<s>### Instruction:\nIs it?\n\n### Response:\nIt is.</s>"]


def test_what_is_too_long_is_cut_counted_and_said(
    tmp_path: Path, laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"role": "user", "content": "Is it? " * 20}
    rows = [{"messages": [long, SAID]}, {"messages": [USER, SAID, *MORE, long, SAID]}, {"messages": [USER, SAID]}]
    found = context(recipe(tmp_path, laboratory, rows, ROWS, max_length=150))
    assert learned(found) == [["It is.<|im_end|>", "Yes.<|im_end|>"], ["It is.<|im_end|>"]]
    assert "of 3 conversations 1 lose turns at their end and 1 are dropped (4 turns in all)" in capsys.readouterr().err
    seen = overview(found, found.splits).splits["train"]
    assert seen.tokens is not None
    assert (seen.tokens.cut_off, seen.tokens.lost) == (1, {"turns": 4, "whole conversations": 1})
    assert (seen.rows, seen.tokens.examples, seen.targets) == (3, 2, {"turns of the assistant": 5})
    assert [json.loads(sample.row["messages"]) for sample in seen.samples] == [row["messages"] for row in rows[1:]]


def test_where_nothing_is_left_the_length_is_refused(tmp_path: Path, laboratory: Path) -> None:
    made = recipe(tmp_path, laboratory, ROWS, max_length=20)
    with pytest.raises(Exception, match=r"data.max_length: 20 tokens leave none of the assistant's turns in any of"):
        context(made).examples("train")
    with pytest.raises(Exception, match=r"validation\.jsonl:1: what stands before the last answer has \d+ tokens"):
        context(made).examples("validation")


def test_prompts_without_answers_are_predicted_and_not_scored(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"prompt": "Is it?", "completion": "It is."}]
    found = context(recipe(tmp_path, laboratory, rows, [{"prompt": "Is it?"}]))
    (asked,) = found.examples("validation")
    assert asked["references"] == []
    assert not found.splits.reports["validation"].labelled
