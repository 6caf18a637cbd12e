"""Made-up facts: as many different people as asked for, each in one town, drawn by a seed."""

import pytest

from autolora.data.facts import COUNT, FIRST, LAST, MAX_FACTS, TOWNS, facts


def test_people_are_different_and_both_splits_have_the_same_facts() -> None:
    splits = facts(seed=0)
    assert splits["train"] == splits["validation"]
    assert len({fact.person for fact in splits["train"]}) == len(splits["train"]) == COUNT
    assert {fact.town for fact in splits["train"]} == set(TOWNS)


def test_the_same_seed_gives_the_same_facts_and_another_one_others() -> None:
    assert facts(seed=3, count=50) == facts(seed=3, count=50) != facts(seed=4, count=50)


def test_neither_name_tells_the_town() -> None:
    drawn = facts(seed=0, count=MAX_FACTS)["train"]
    for place, names in ((0, FIRST), (1, LAST)):
        towns: dict[str, list[str]] = {name: [] for name in names}
        for fact in drawn:
            towns[fact.person.split()[place]].append(fact.town)
        best = sum(max(map(each.count, set(each))) for each in towns.values()) / len(drawn)
        assert best < 0.15  # 1 / 32 of the towns, and what chance adds


@pytest.mark.parametrize("count", [0, MAX_FACTS + 1])
def test_there_are_not_more_people(count: int) -> None:
    with pytest.raises(ValueError, match="there are 1 to 1024 facts"):
        facts(seed=0, count=count)
