"""Rows of instruction data as conversations, whatever form people keep them in: ``conversation(cells, data, where)``.

| form | columns | label |
|---|---|---|
| a list of turns | ``messages``, ``conversations``, ``chosen`` | the same column |
| prompt and completion, texts or lists of turns | ``prompt`` | ``completion``, ``chosen``, … |
| instruction and input, as Alpaca has them | ``instruction``, ``input`` | ``output`` |

A turn is ``{"role": …, "content": …}``, or ``{"from": …, "value": …}`` with ShareGPT's names of the roles. What a turn
says beside these goes to the chat template as it is. A column ``system`` is a first turn of that role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.tasks.encoding import columns_of, has_column

Turn = dict[str, Any]

SYSTEM, TOOLS = "system", "tools"  # columns that are read where they are there
ROLES = ("system", "user", "assistant")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
OF_TOOLS = ("tool_calls", "tool_call_id", "function_call", "tools")  # keys of turns that tools are called in
# What a row without tools says of them, also as JSON in a text.
NO_TOOLS: tuple[Any, ...] = (None, "", "[]", "{}", "null", [], {}, False)
OF_LOSS = ("weight", "train", "training", "loss")  # and those by which other trainers leave turns out of the loss
JOINT = "\n\n"  # between an instruction and its input
# The columns and the label of data whose recipe names neither. Of those that a file has, the ones with most columns.
USUAL: Sequence[tuple[tuple[str, ...], str]] = (
    (("messages",), "messages"),
    (("conversations",), "conversations"),
    (("prompt",), "completion"),
    (("prompt",), "response"),
    (("prompt",), "chosen"),
    (("chosen",), "chosen"),
    (("instruction", "input"), "output"),
    (("instruction",), "output"),
    (("instruction", "context"), "response"),
    (("instruction",), "response"),
    (("question",), "answer"),
    (("query",), "response"),
)


def usual(there: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """The forms that a file's columns may mean, without those that are part of another one.

    Args:
        there: The file's columns.
    """
    fit = [(columns, label) for columns, label in USUAL if {*columns, label} <= set(there)]
    return [
        (columns, label)
        for columns, label in fit
        if not any({*columns, label} < {*others, other} and label == other for others, other in fit)
    ]


def conversation(cells: Mapping[str, str | None], data: Data, where: str) -> list[Turn]:
    """The turns of a row, oldest first; they end with the user's where the row has no label.

    Args:
        cells: JSON by column; that of a label which a split does not have is None.
        data: The recipe's section.
        where: The row's place, for messages.

    Raises:
        UserError: They make no sense.
    """
    values = {name: None if cell is None else json.loads(cell) for name, cell in cells.items()}
    if values.get(TOOLS) not in NO_TOOLS and TOOLS not in (*data.columns, data.label):
        raise UserError(f"{where}: {TOOLS!r} names tools, which chat data here has no turns for; leave such rows out")
    answer = values.get(data.label)
    if data.label in data.columns:
        turns = _turns(answer, f"{where}: {data.label!r}")
    else:
        turns = _asked([values[name] for name in data.columns], data, where)
        if answer is not None:
            turns = _answered(turns, answer, f"{where}: {data.label!r}")
    system = values.get(SYSTEM) if SYSTEM not in (*data.columns, data.label) else None
    if system is not None:
        if any(turn["role"] == "system" for turn in turns):
            raise UserError(f"{where}: a system turn stands in the column {SYSTEM!r} and among the turns; keep one")
        turns = [{"role": "system", "content": _said(system, f"{where}: {SYSTEM!r}")}, *turns]
    _check(turns, where, "user" if answer is None else "assistant")
    return turns


def cells_of(rows: Any, data: Data) -> Iterator[dict[str, str | None]]:
    """The cells of every row by column; that of a label which the split does not have is None.

    Args:
        rows: Of a split.
        data: The recipe's section.
    """
    more = [name for name in (SYSTEM, TOOLS) if has_column(rows, name)]
    names = list(dict.fromkeys((*data.columns, data.label, *more)))
    for cells in columns_of(rows, names, data.label):
        yield dict(zip(names, cells, strict=True))


def before_answer(turns: Sequence[Turn]) -> list[Turn]:
    """The turns that are answered last.

    Args:
        turns: As `conversation` gives them.
    """
    return list(turns[:-1] if turns[-1]["role"] == "assistant" else turns)


def key_of(turns: Sequence[Turn]) -> str:
    """What conversations of the same turns have in common.

    Args:
        turns: As `conversation` gives them.
    """
    return json.dumps(plain(turns), ensure_ascii=False)


def plain(turns: Sequence[Turn]) -> list[list[str]]:
    """Roles and texts alone, for comparisons of conversations."""
    return [[turn["role"], turn["content"].strip()] for turn in turns]


def _asked(values: Sequence[Any], data: Data, where: str) -> list[Turn]:
    """The turns of a prompt."""
    first = data.columns[0]
    if len(values) > 1:
        texts = [_said(values[0], f"{where}: {first!r}")]
        if values[1] is not None and values[1] != "" and not (isinstance(values[1], str) and values[1].isspace()):
            texts.append(_said(values[1], f"{where}: {data.columns[1]!r}"))
        return [{"role": "user", "content": JOINT.join(texts)}]
    if isinstance(values[0], str):
        return [{"role": "user", "content": _said(values[0], f"{where}: {first!r}")}]
    return _turns(values[0], f"{where}: {first!r}")


def _answered(turns: list[Turn], answer: Any, where: str) -> list[Turn]:
    """A prompt's turns with those of its completion, which may begin with the prompt again."""
    if isinstance(answer, str):
        return [*turns, {"role": "assistant", "content": _said(answer, where)}]
    more = _turns(answer, where)
    if more[0]["role"] == "assistant":
        return [*turns, *more]
    asked, whole = plain(turns), plain(more)
    begins = 1 if whole[0][0] == "system" and asked[0][0] != "system" else 0
    if whole[begins : begins + len(asked)] != asked:
        raise UserError(
            f"{where} begins with a turn of the {more[0]['role']}, and what follows is not the prompt; let it begin "
            "with the assistant's turn, or with all of the prompt"
        )
    return more


def _turns(value: Any, where: str) -> list[Turn]:
    if not isinstance(value, list):
        hint = "; a text says not whose turn is which: name its prompt's column in data.columns and its own as label"
        raise UserError(f"{where} must be a list of turns, got {str(value)[:60]!r}{hint * isinstance(value, str)}")
    return [_turn(each, f"{where}, turn {i}") for i, each in enumerate(value, 1)]


def _turn(value: Any, where: str) -> Turn:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object of role and content (or from and value), got {str(value)[:60]!r}")
    ours, theirs = {"role", "content"} & set(value), {"from", "value"} & set(value)
    if ours and theirs:
        raise UserError(f"{where} has {', '.join(sorted(ours | theirs))}: write role and content, or from and value")
    if used := next((key for key in OF_TOOLS if value.get(key)), None):
        raise UserError(f"{where} has {used!r}: turns with tools are not learned here; leave such rows out")
    if used := next((key for key in OF_LOSS if value.get(key, "1") not in ("1", "1.0", True)), None):
        raise UserError(
            f"{where} has {used!r} {value[used]!r}: all of the assistant's turns are learned alike; leave the key out, "
            "or cut such turns off"
        )
    role, key = (value.get("from"), "value") if theirs else (value.get("role"), "content")
    known: Mapping[Any, str] = SHAREGPT if theirs else dict(zip(ROLES, ROLES, strict=True))
    if not isinstance(role, str) or role not in known:
        named = "'from'" if theirs else "'role'"
        raise UserError(f"{where}: {named} must be one of {', '.join(known)}, got {role!r}")
    rest = {name: each for name, each in value.items() if name not in ("role", "content", "from", "value", *OF_LOSS)}
    return {"role": known[role], "content": _said(value.get(key), f"{where}: {key!r}"), **rest}


def _said(value: Any, where: str) -> str:
    if isinstance(value, list):
        raise UserError(f"{where} must be text, got a list of parts; models here read text alone")
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where} must be text that is not empty, got {value!r:.60}")
    return value


def _check(turns: Sequence[Turn], where: str, last: str) -> None:
    roles = [turn["role"] for turn in turns]
    if last == "assistant" and "assistant" not in roles:
        raise UserError(f"{where}: there is no turn of the assistant, and nothing else is learned")
    if roles[-1] != last:
        wanted = "the assistant's" if last == "assistant" else "the user's, whom the model answers"
        raise UserError(f"{where}: the last turn is the {roles[-1]}'s, and it must be {wanted}")
    if roles[0] == "assistant":
        raise UserError(f"{where}: the first turn is the assistant's, and there is nothing that it answers")


def assistants(label: str | None) -> int:
    """How many of the assistant's turns a cell of the label's column holds.

    Args:
        label: JSON, as `conversation` takes it.
    """
    value = None if label is None else json.loads(label)
    if isinstance(value, list):
        return sum(each.get("role", each.get("from")) in ("assistant", "gpt") for each in value)
    return int(value is not None)


def answered(turns: Sequence[Any]) -> bool:
    """Whether the last of a column's turns is the assistant's.

    Args:
        turns: As the column has them.
    """
    last = turns[-1] if turns else None
    return isinstance(last, dict) and last.get("role", last.get("from")) in ("assistant", "gpt")


def learned_turns(turns: Sequence[Turn]) -> Iterator[int]:
    """The places of the assistant's turns."""
    return (i for i, turn in enumerate(turns) if turn["role"] == "assistant")
