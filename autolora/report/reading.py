"""What a comparison says, in two sentences: ``lead(found, results)`` above the forest plot, ``reading(found)`` below.

Both speak of the average over the tasks, or of the one task that there is; single tasks are named after the average.
Told apart from chance is what the table of differences calls better or worse, at 5 % after its correction.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.comparison.effects import BETTER, WORSE, Effect, TaskEffects, metric_of
from autolora.comparison.groups import methods_of, scores_by_task
from autolora.comparison.statistics import TOO_FEW, mean
from autolora.runs.results import Result

_NAMED = 3  # methods or tasks that a sentence names; the others are counted


def lead(found: Sequence[TaskEffects], results: Sequence[Result]) -> str:
    """The sentence at the head: how many methods are better and worse than the baseline, and which.

    Args:
        found: See `autolora.comparison.effects`; empty where nothing is compared.
        results: Of every trial.
    """
    if not found:
        return _alone(results)
    if len(found) > 1 and not found[0].is_average:
        return _without_average(found)
    focus, baseline = found[0], found[0].baseline
    said = f"{_capital(_where(focus))}, over {seeds_of(focus)}"
    known = [effect for effect in focus.effects if not effect.untested]
    if not known:
        few = "too few" if any(effect.verdict == TOO_FEW for effect in focus.effects) else "all of which differ alike"
        return f"With {seeds_of(focus)}, {few}, no method can be told apart from {baseline} {_where(focus)}."
    apart = {word: mine for word in (BETTER, WORSE) if (mine := [e for e in _apart(focus) if e.verdict == word])}
    parts, than = [], f" than {baseline}"
    for word, mine in apart.items():
        parts.append(f"{_who(mine, f' of {len(focus.effects)} methods' if than else '')} {word}{than}{_most(mine)}")
        than = ""
    rest = [effect.method for effect in known if not effect.told_apart]
    if rest and not parts:
        whom = f"{rest[0]} is not" if len(rest) == 1 else f"none of {len(rest)} methods is"
        parts.append(f"{whom} told apart from {baseline}")
    elif rest:
        parts.append(f"{_verb(_count(len(rest), 'other'), len(rest))} not told apart from it")
    if unknown := len(focus.effects) - len(known):
        short = [effect for effect in focus.effects if effect.verdict == TOO_FEW]
        why = "there are too few seeds to say" if len(short) == unknown else "there is no test"
        parts.append(f"of {unknown} more {why}")
    return f"{said}, {_joined(parts, ', and ')}."


def reading(found: Sequence[TaskEffects]) -> str:
    """The sentence under the forest plot: the differences that are told apart from chance, with their intervals.

    Args:
        found: See `autolora.comparison.effects`, of at least one task.
    """
    spoken = found[:1] if found[0].is_average else found
    parts = [said for task in spoken for said in _differences(task)]
    if not parts:
        parts.append(_capital(_chance(spoken)))
    elif any(not effect.told_apart for task in spoken for effect in task.effects):
        parts.append("no other difference is told apart from chance")
    if found[0].is_average and (singles := _singles(found[1:])):
        parts.append(f"on single tasks, {singles}")
    turned = [task.metric for task in spoken if not task.higher_is_better]
    if turned:
        parts.append(f"{_joined(list(dict.fromkeys(turned)))} is better when lower, so + means less of it")
    return f"{'; '.join(parts)}."


def _apart(task: TaskEffects) -> list[Effect]:
    """The largest first."""
    found = [effect for effect in task.effects if effect.told_apart]
    return sorted(found, key=lambda effect: (effect.verdict != BETTER, -abs(effect.mean or 0.0)))


def _differences(task: TaskEffects) -> list[str]:
    """A part of the sentence for those that are better, and one for those that are worse."""
    parts, than, where = [], f" than {task.baseline}", f" {_where(task)}"
    for word in (BETTER, WORSE):
        mine = [effect for effect in _apart(task) if effect.verdict == word]
        if mine:
            first, *others = (f"{effect.method} by {_numbers(effect)}" for effect in mine[:_NAMED])
            more = [f"{len(mine) - _NAMED} more (see the table)"] if len(mine) > _NAMED else []
            said = first.replace(f"{mine[0].method} by", f"{mine[0].method} is {word}{than} by", 1) + where
            parts.append(_joined([said, *others, *more]))
            than = where = ""
    return parts


def _numbers(effect: Effect) -> str:
    if effect.low is None or effect.high is None:
        return f"{effect.mean:+.4f}"
    return f"{effect.mean:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]"


def _chance(tasks: Sequence[TaskEffects]) -> str:
    """Where no difference is told apart: why not, and the largest; tasks of different metrics have none."""
    drawn = [effect for task in tasks for effect in task.effects if effect.mean is not None]
    baseline = tasks[0].baseline
    if not drawn:
        return f"no method has a seed in common with {baseline}"
    said = f"no difference to {baseline} is told apart from chance"
    if all(effect.untested for effect in drawn):
        few = "with one seed" if max(effect.seeds for effect in drawn) == 1 else "with so few seeds"
        few = few if any(effect.verdict == TOO_FEW for effect in drawn) else "where all seeds differ alike"
        said = f"{few} a difference has no interval, and none is told apart from chance"
    if len(tasks) > 1:
        return said
    largest = max(drawn, key=lambda effect: abs(effect.mean or 0.0))
    return f"{said}; the largest is {largest.method}'s {_numbers(largest)} {_where(tasks[0])}"


def _singles(tasks: Sequence[TaskEffects]) -> str:
    """Which methods are better or worse on which tasks, or how many such differences there are."""
    found = [(effect.verdict, effect.method, task.task) for task in tasks for effect in _apart(task)]
    by_tasks: dict[tuple[str, tuple[str, ...]], list[str]] = {}  # methods, by their verdict and tasks
    for word, method in dict.fromkeys((word, method) for word, method, _ in found):
        names = tuple(task for w, m, task in found if (w, m) == (word, method))
        by_tasks.setdefault((word, names), []).append(method)
    if len(by_tasks) <= _NAMED and all(max(len(names), len(whose)) <= _NAMED for (_, names), whose in by_tasks.items()):
        said = [f"{_verb(_joined(w), len(w))} {word} on {_joined(names)}" for (word, names), w in by_tasks.items()]
        return _joined(said, ", ") if said else ""
    counts = {word: sum(w == word for w, _, _ in found) for word in (BETTER, WORSE)}
    return f"{_joined([f'{number} {word}' for word, number in counts.items() if number])} (see the table)"


def _alone(results: Sequence[Result]) -> str:
    methods, tasks = methods_of(results), [task for task in scores_by_task(results) if not task.is_average]
    scores = [
        f"{metric_of(task)} {mean([*group.scores.values()]):.4f} on {task.task} ({_count(len(group.scores), 'seed')})"
        for task in tasks
        for group in task.groups.values()
        if group.scores
    ]
    who = methods[0] if len(methods) == 1 else _count(len(methods), "method")
    if len(methods) == 1 and 0 < len(scores) <= _NAMED:
        return f"{who} alone, with nothing to compare it with: {_joined(scores)}."
    return f"{who} on {_count(len(tasks), 'task')}, not compared: the tables have the scores."


def _without_average(found: Sequence[TaskEffects]) -> str:
    effects = [effect for task in found for effect in task.effects]
    counts = [sum(effect.verdict == word for effect in effects) for word in (BETTER, WORSE)]
    rest = len(effects) - sum(counts)
    return (
        f"Of {len(effects)} differences to {found[0].baseline} on {len(found)} tasks, whose metrics have no average, "
        f"{_verb(str(counts[0]), counts[0])} better, {counts[1]} worse and {rest} not told apart from chance."
    )


def _where(task: TaskEffects) -> str:
    return f"on the average of {task.tasks} tasks" if task.is_average else f"on {task.task}"


def seeds_of(task: TaskEffects) -> str:
    """``5 seeds``, or ``3 to 5 seeds`` where methods differ.

    Args:
        task: Of one or more effects.
    """
    least, most = (choose(effect.seeds for effect in task.effects) for choose in (min, max))
    return _count(most, "seed") if least == most else f"{least} to {most} seeds"


def _who(effects: Sequence[Effect], total: str) -> str:
    """With its verb: ``a is``, ``a and b are``, ``7 of 11 methods are``."""
    named = [effect.method for effect in effects]
    return _verb(_joined(named) if len(named) <= 2 else f"{len(named)}{total}", len(named))


def _most(effects: Sequence[Effect]) -> str:
    """Which the most, where they are not all named."""
    return f" ({effects[0].method} the most)" if len(effects) > 2 else ""


def _verb(subject: str, number: int) -> str:
    return f"{subject} {'is' if number == 1 else 'are'}"


def _joined(parts: Sequence[str], last: str = " and ") -> str:
    return last.join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
