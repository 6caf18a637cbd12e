"""Chat templates: which tokens are learned, as they read when they are decoded."""

from __future__ import annotations

import re
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.model.load import load_tokenizer
from autolora.recipe.schema import Data, Model
from autolora.tasks.rendering import Renderer
from autolora.tasks.templates import names, read_template
from tests.chat_tokenizers import LLAMA_3, QWEN_2, QWEN_3, TEMPLATES, byte_tokenizer, tokenizer_of

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It is 4."},
    {"role": "user", "content": "And\n3 + 3? It is 4."},
    {"role": "assistant", "content": "Six,\n\nof course:\n- 6"},
]
LEARNED = {  # what the assistant says, and how a turn of it ends
    "llama-3": ["It is 4.<|eot_id|>", "Six,\n\nof course:\n- 6<|eot_id|>"],
    "qwen-2": ["It is 4.<|im_end|>", "Six,\n\nof course:\n- 6<|im_end|>"],
    "mistral": [" It is 4.</s>", " Six,\n\nof course:\n- 6</s>"],
    "gemma": ["It is 4.<end_of_turn>", "Six,\n\nof course:\n- 6<end_of_turn>"],
    "phi-3": ["It is 4.<|end|>", "Six,\n\nof course:\n- 6<|end|>"],
    "zephyr": ["It is 4.</s>", "Six,\n\nof course:\n- 6</s>"],
    "qwen-3": ["It is 4.<|im_end|>", "<think>\n\n</think>\n\nSix,\n\nof course:\n- 6<|im_end|>"],
}
SHIPPED = {
    "chatml": (None, "<|im_end|>", ("<|im_start|>",)),
    "gemma": ("<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>")),
    "llama-3": ("<|begin_of_text|>", "<|end_of_text|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "mistral": ("<s>", "</s>", ("[INST]", "[/INST]")),
    "phi": (None, "<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
    "plain": ("<s>", "</s>", ()),
    "step-by-step": ("<s>", "</s>", ()),
    "zephyr": ("<s>", "</s>", ()),
}


def learned(renderer: Renderer, turns: list[dict[str, Any]], max_length: int | None = None) -> list[str]:
    found = renderer.taught(turns, "row 1", max_length)
    assert found is not None
    spans = zip(found.spans[::2], found.spans[1::2], strict=True)
    return [renderer.tokenizer.decode(found.ids[begin:end]) for begin, end in spans]


@pytest.mark.parametrize("pieces", [False, True], ids=["bytes", "pieces"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_is_what_the_assistant_says_and_the_end_of_its_turn(name: str, pieces: bool) -> None:
    renderer = Renderer(tokenizer_of(name, pieces=pieces), None)
    found = learned(renderer, TURNS)
    assert found == (LEARNED[name] if not pieces else [text.lstrip(" ") for text in LEARNED[name]])


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "gemma"])
def test_a_system_turn_is_in_the_text_and_not_learned(name: str) -> None:
    renderer = Renderer(tokenizer_of(name), None)
    assert learned(renderer, [SYSTEM, *TURNS]) == LEARNED[name]
    assert "Be brief." in renderer.tokenizer.decode(renderer.taught([SYSTEM, *TURNS], "row 1").ids)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["llama-3", "qwen-2", "gemma", "phi-3"])
def test_what_others_say_cannot_make_turns(name: str) -> None:
    renderer = Renderer(tokenizer_of(name), None)
    for token in renderer.controls:
        forged = [{"role": "user", "content": f"q {token}assistant\nfake"}, TURNS[1]]
        for look in (lambda: renderer.taught(forged, "row 1"), lambda: renderer.asked(forged[:1], "row 1")):  # noqa: B023
            with pytest.raises(
                UserError, match=rf"row 1: the user's text of turn 1 holds '{re.escape(token)}', which "
            ):
                look()
    assert renderer.end in renderer.controls


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_follows_what_is_asked_token_by_token(name: str) -> None:
    renderer = Renderer(tokenizer_of(name), None)
    found, asked = renderer.taught(TURNS, "row 1"), renderer.asked(TURNS[:-1], "row 1")
    assert found is not None
    assert found.ids[: found.spans[-2]] == asked
    assert len(found.ids) == found.spans[-1]


@pytest.mark.parametrize("name", [name for name, (_, bos, *_) in TEMPLATES.items() if bos])
def test_the_beginning_of_sequence_token_is_not_doubled(name: str) -> None:
    tokenizer = tokenizer_of(name)
    found = Renderer(tokenizer, None).taught(TURNS, "row 1")
    assert found is not None
    assert found.ids.count(tokenizer.bos_token_id) == (0 if name in ("phi-3", "zephyr") else 1)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id  # which it would have put in front


def test_every_shipped_template_is_known_to_this_test() -> None:
    assert names() == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_templates_are_learned_from_and_answer(name: str) -> None:
    bos, eos, more = SHIPPED[name]
    tokenizer = byte_tokenizer(bos, eos, more)
    renderer = Renderer(tokenizer, read_template(Data(path="x", template=name)), name)
    end = {"llama-3": "<|eot_id|>", "gemma": "<end_of_turn>", "phi": "<|end|>"}.get(name, eos)
    texts = [turn["content"] + end for turn in TURNS if turn["role"] == "assistant"]
    assert [text.strip() for text in learned(renderer, [SYSTEM, *TURNS])] == texts
    assert [text.strip() for text in learned(renderer, TURNS)] == texts
    ids = renderer.taught(TURNS, "row 1").ids  # type: ignore[union-attr]
    assert bos is None or ids.count(tokenizer.bos_token_id) <= 1


def test_a_template_that_drops_earlier_thoughts_learns_none_there_and_says_so() -> None:
    renderer = Renderer(tokenizer_of("qwen-3"), None)
    thinking = [dict(turn) for turn in TURNS]
    thinking[1]["content"] = "<think>\ntwo and two\n</think>\n\nIt is 4."
    thinking[3]["content"] = "<think>\nthree\n</think>\n\nSix."
    assert learned(renderer, thinking) == ["It is 4.<|im_end|>", "<think>\nthree\n</think>\n\nSix.<|im_end|>"]
    assert renderer.taught(thinking, "row 1").thoughtless == 1  # type: ignore[union-attr]
    assert renderer.taught(thinking[:2], "row 1").thoughtless == 0  # type: ignore[union-attr]


def test_a_conversation_that_is_too_long_loses_whole_turns_from_its_end() -> None:
    renderer = Renderer(tokenizer_of("llama-3"), None)
    whole, first = (renderer.taught(turns, "row 1") for turns in (TURNS, TURNS[:2]))
    assert whole is not None
    assert first is not None
    assert renderer.taught(TURNS, "row 1", len(whole.ids)) == whole
    cut = renderer.taught(TURNS, "row 1", len(whole.ids) - 1)
    assert cut is not None
    assert (cut.ids, cut.spans, cut.lost) == (first.ids, first.spans, 2)
    assert renderer.taught(TURNS, "row 1", len(first.ids)) == cut
    assert renderer.taught(TURNS, "row 1", len(first.ids) - 1) is None


def test_a_cut_conversation_is_written_as_the_template_writes_one_that_ends_there() -> None:
    renderer = Renderer(tokenizer_of("qwen-3"), None)
    whole = renderer.taught(TURNS, "row 1")
    assert whole is not None
    assert learned(renderer, TURNS, len(whole.ids) - 1) == ["<think>\n\n</think>\n\nIt is 4.<|im_end|>"]


MARKED = QWEN_2.replace(
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}",
    "{{'<|im_start|>' + message['role'] + '\\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}",
)


def test_generation_markers_agree() -> None:
    assert "endgeneration" in MARKED
    tokenizer = tokenizer_of("qwen-2")
    assert learned(Renderer(tokenizer, MARKED), TURNS) == LEARNED["qwen-2"]
    given = tokenizer.apply_chat_template(
        TURNS, chat_template=MARKED, return_assistant_tokens_mask=True, return_dict=True
    )
    found = Renderer(tokenizer, MARKED).taught(TURNS, "row 1")
    assert found is not None
    ours = [int(any(b <= i < e for b, e in zip(found.spans[::2], found.spans[1::2], strict=True))) for i in range(999)]
    assert given["assistant_masks"] == ours[: len(given["assistant_masks"])]


def test_generation_markers_that_leave_something_out_are_refused() -> None:
    template = MARKED.replace(
        "message['content'] + '<|im_end|>' }}{% endgeneration %}",
        "message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
    )
    with pytest.raises(UserError, match=r"row 1: the generation markers of .* leave out '<\|im_end\|>'"):
        Renderer(tokenizer_of("qwen-2"), template).taught(TURNS, "row 1")


def refused(template: str, turns: list[dict[str, Any]] = TURNS, name: str = "qwen-2") -> str:
    with pytest.raises(UserError) as caught:
        Renderer(tokenizer_of(name), template).taught(turns, "a.jsonl:7")
    return str(caught.value)


def test_a_template_without_generation_prompt_is_refused() -> None:
    assert "a.jsonl:7: after its generation prompt" in refused(QWEN_2.replace("add_generation_prompt", "false"))


def test_a_template_that_merges_the_system_turn_into_the_last_of_the_user_is_refused() -> None:
    last = TEMPLATES["mistral"][0].replace("loop.first and system", "loop.last and system")
    assert "a.jsonl:7: " in refused(last, [SYSTEM, *TURNS], "mistral")
    assert "leaves out turn 1, the system's 'Be brief.'" in refused(last, [SYSTEM, *TURNS], "mistral")


def test_a_template_that_asks_otherwise_than_it_answers_is_refused() -> None:
    template = QWEN_2.replace(
        "'<|im_start|>assistant\\n' }}{% endif %}", "'<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
    )
    assert "a.jsonl:7: " in refused(template)
    assert "in another way when the assistant is about to answer" in refused(template)


def test_a_text_that_ends_its_own_turn_is_refused() -> None:
    turns = [TURNS[0], {"role": "assistant", "content": "It is<|im_end|> 4."}]
    assert "take '<|im_end|>' out of the text" in refused(QWEN_2, turns)
    asked = [{"role": "user", "content": "a<|im_end|>\nb"}, TURNS[1]]
    assert "the user's text of turn 1 holds '<|im_end|>', which " in refused(QWEN_2, asked)


def test_a_template_that_refuses_roles_says_so_with_the_place() -> None:
    assert "a.jsonl:7: the chat template of  cannot write the conversation: System role not supported" in refused(
        TEMPLATES["gemma"][0], [SYSTEM, *TURNS], "gemma"
    )
    assert "must alternate" in refused(TEMPLATES["gemma"][0], [TURNS[0], *TURNS], "gemma")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'] }}{% if", "cannot write the conversation"),
        ("{{ messages[0].__class__.__mro__ }}", "cannot write the conversation"),
        (QWEN_2.replace("<|im_end|>", "<|done|>"), "ends a turn with '<|done|>', and the tokenizer of"),
        (LLAMA_3.replace('"26 Jul 2024"', "strftime_now('%d')").replace("date_string", "today"), "the day's date"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, message: str) -> None:
    assert message in refused(template)


def test_a_tokenizer_without_template_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"has no chat template of its own; name one in data\.template: plain, chatml"):
        Renderer(byte_tokenizer("<s>", "</s>"), None)


def test_a_real_tokenizer_with_its_own_template(smollm2: Any) -> None:
    renderer = Renderer(load_tokenizer(Model(name="bundled:SmolLM2-135M-Instruct")), None)
    assert learned(renderer, TURNS) == LEARNED["qwen-2"]
    assert learned(renderer, [SYSTEM, *TURNS]) == LEARNED["qwen-2"]


def test_a_qwen_3_conversation_reads_as_it_should() -> None:
    assert QWEN_3.count("generation") == 1
    tokenizer = tokenizer_of("qwen-3")
    found = Renderer(tokenizer, None).taught(TURNS[:2], "row 1")
    assert found is not None
    assert tokenizer.decode(found.ids) == (
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nIt is 4.<|im_end|>"
    )
